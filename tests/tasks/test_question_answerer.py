"""Questions and texts in, answers with their places out; long texts by windows; the scores of the official script."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.scoring.squad import squad_scores
from kbert.tasks.answer_decoder import best_spans

QUESTIONS = ["the cat ?", "the dog ?", "the film ?"] * 8
CONTEXTS = ["the cat sat . a dog ran .", "a cat ran , the dog so bad", "the day good , the film very good !"] * 8
ANSWERS = [{"text": "sat", "start": 8}, {"text": "so bad", "start": 20}, {"text": "very good", "start": 24}] * 8


@pytest.fixture
def task(encoder, tokenizer):
    return kbert.QuestionAnswerer(encoder, kbert.TextPreprocessor(tokenizer, 24))


def test_it_learns_spans_and_answers_in_characters(task):
    task.compile(learning_rate=1e-2)
    task.fit((QUESTIONS, CONTEXTS), ANSWERS, epochs=25, batch_size=8, verbose=0)
    for question, context, right in zip(QUESTIONS[:3], CONTEXTS, ANSWERS):
        answer = task.answer(question, context)
        assert (answer["text"], answer["start"]) == (right["text"], right["start"])
        assert context[answer["start"] : answer["end"]] == answer["text"] and 0 < answer["score"] <= 1
    scores = task.evaluate((QUESTIONS[:3], CONTEXTS[:3]), ANSWERS[:3], return_dict=True, verbose=0)
    assert scores["exact_match"] == scores["f1"] == 100
    fast = task.freeze()
    assert [a["text"] for a in fast.answer(QUESTIONS[:3], CONTEXTS[:3])] == [
        a["text"] for a in task.answer(QUESTIONS[:3], CONTEXTS[:3])
    ]


def test_figures_read_what_evaluate_reads(task):
    task.compile(run_eagerly=True)
    questions, contexts, answers = QUESTIONS[:2], CONTEXTS[:2], [ANSWERS[0], None]
    table = pd.DataFrame({"question": questions, "context": contexts}, index=[7, 5])
    hub = [{"text": ["sat"], "answer_start": [8]}, {"text": [], "answer_start": []}]
    rows = [*zip(questions, contexts)]
    for x, y in [((questions, contexts), answers), (table, pd.Series(hub)), (dict(table), [("sat", 8), []]), (rows, answers)]:
        figures, measured = task.figures(x, y), task.evaluate(x, y, return_dict=True, verbose=0)
        assert figures.scores == {name: measured[name] for name in figures.scores}
        assert figures.mistakes and all(mistake.text in questions for mistake in figures.mistakes)
    for y in (
        [ANSWERS[0]],
        ["sat", None],
        [[("sat", 8), 5], None],
        [[("sat", 8), {"text": 5}], None],
        [("sat", 1), None],
        [5, None],
    ):
        for measure in (task.evaluate, task.figures):
            with pytest.raises((TypeError, ValueError)):
                measure((questions, contexts), y)


def test_targets_are_the_answers_tokens(task):
    examples = task.examples((["the cat ?"], ["the cats sat !"]), [{"text": "cats sat", "start": 4}])
    ids = [2, *examples.columns[0][0].numpy(), 3, *examples.columns[1][0].numpy(), 3]
    first, last = examples.targets[0]
    assert [task.tokenizer.id_to_token(n) for n in ids[first : last + 1]] == ["cat", "##s", "sat"]
    inside = task.examples(
        (["the cat ?"], ["un able cats"]), [{"text": "at", "start": 9}]
    )  # a part of a piece asks for all of it
    ids = [2, *inside.columns[0][0].numpy(), 3, *inside.columns[1][0].numpy(), 3]
    assert [task.tokenizer.id_to_token(n) for n in ids[inside.targets[0][0] : inside.targets[0][1] + 1]] == ["cat"]
    none = task.examples((["the cat ?"], ["the dog"]), [None])
    assert none.targets.tolist() == [[0, 0]]


def test_a_long_text_is_read_in_windows(task):
    context = "the day good , " * 40 + "the film very bad ! " + "a dog ran . " * 40
    answer = {"text": "very bad", "start": context.index("very bad")}
    examples = task.examples((["the film ?"], [context]), [answer])
    assert len(examples.targets) > 20
    windows_with_answer = np.flatnonzero(examples.targets[:, 0])
    assert len(windows_with_answer) >= 1
    for row in windows_with_answer:
        ids = [2, *examples.columns[0][row].numpy(), 3, *examples.columns[1][row].numpy(), 3]
        first, last = examples.targets[row]
        assert [task.tokenizer.id_to_token(n) for n in ids[first : last + 1]] == ["very", "bad"]
    found = task.answer("the film ?", context)
    assert context[found["start"] : found["end"]] == found["text"] != ""


def test_top_k_and_no_answer(task):
    answers = task.answer("the cat ?", CONTEXTS[0], top_k=4)
    assert len(answers) == 4 and [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert len({(a["start"], a["end"]) for a in answers}) == 4
    assert task.answer("the cat ?", CONTEXTS[0], no_answer_threshold=-1e6)["text"] == ""
    assert task.answer("the cat ?", CONTEXTS[0], no_answer_threshold=1e6)["text"] != ""
    assert task.answer("the cat ?", "") == {"text": "", "start": 0, "end": 0, "score": 1.0}
    assert task.answer([], []) == []


def test_an_answer_is_no_longer_than_asked_and_never_in_the_question(task):
    for answer in task.answer(QUESTIONS[:3], CONTEXTS[:3], top_k=20, max_answer_length=2):
        assert all(len(task.tokenizer(one["text"])) <= 2 for one in answer)


def test_a_question_longer_than_the_window_is_cut(task):
    answer = task.answer("the cat " * 50, CONTEXTS[0])
    assert CONTEXTS[0][answer["start"] : answer["end"]] == answer["text"] != ""


def test_a_hundred_thousand_characters(task):
    context = "the cat sat . a dog ran . " * 4000
    answer = task.answer("the dog ?", context, verbose=0)
    assert context[answer["start"] : answer["end"]] == answer["text"] != ""


def test_best_spans_are_the_best_of_all(task):
    random = np.random.default_rng(0)
    starts, ends = random.standard_normal((2, 4, 9)).astype(np.float32)
    allowed = (random.random((4, 9)) < 0.7).astype(np.int32)
    scores, firsts, lasts = (part.numpy() for part in best_spans(starts, ends, tf.constant(allowed), 3, 5))
    for row in range(4):
        spans = [
            (starts[row, a] + ends[row, b], a, b)
            for a in range(9)
            for b in range(a, min(9, a + 3))
            if allowed[row, a] and allowed[row, b]
        ]
        expected = sorted(spans, reverse=True)[:5]
        np.testing.assert_allclose(scores[row, : len(expected)], [span[0] for span in expected], rtol=1e-6)
        assert list(zip(firsts[row], lasts[row]))[: len(expected)] == [span[1:] for span in expected]


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (
            (["a"], ["the cat"]),
            [{"text": "dog", "start": 4}],
            ValueError,
            r"y\[0\] says that 'dog' stands at character 4.*'cat'",
        ),
        ((["a"], ["the cat"]), ["cat"], TypeError, r"y\[0\] should be a dictionary"),
        ((["a"], ["the cat"]), [None, None], ValueError, "1 questions and 2 answers"),
        ((["a", "b"], ["the cat"]), [None], ValueError, "2 and 1"),
        (["a"], [None], ValueError, "questions and texts are needed"),
        (([], []), [], ValueError, "no questions"),
    ],
)
def test_bad_input_is_named(task, x, y, error, message):
    with pytest.raises(error, match=message):
        task.fit(x, y, verbose=0)


def squad_file(tmp_path, answers, **more):
    question = {"id": "q1", "question": "what?", "answers": answers, **more}
    content = {"data": [{"paragraphs": [{"context": "the cat sat", "qas": [question]}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(content))
    return tmp_path / "squad.json"


def test_squad_files_open(tmp_path):
    path = squad_file(tmp_path, [{"text": "cat", "answer_start": 4}])
    expected = {"id": ["q1"], "question": ["what?"], "context": ["the cat sat"], "answers": [[{"text": "cat", "start": 4}]]}
    assert kbert.read_squad(path) == expected
    assert kbert.read_squad(squad_file(tmp_path, [], is_impossible=True))["answers"] == [[]]


def test_answers_out_of_place_are_listed(tmp_path):
    path = squad_file(tmp_path, [{"text": "cat", "answer_start": 5}])
    with pytest.warns(UserWarning, match="1 questions have an answer that is not in the context.*q1"):
        assert kbert.read_squad(path)["id"] == []
    with pytest.raises(ValueError, match="q1.*on_mismatch"):
        kbert.read_squad(path, on_mismatch="stop")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="not a SQuAD file"):
        kbert.read_squad(tmp_path / "other.json")


def test_scores_are_the_official_scripts():
    assert squad_scores(["The Cat!"], [[{"text": "cat"}]]) == {"exact_match": 100, "f1": 100}
    assert squad_scores(["", "x"], [[], []]) == {"exact_match": 50, "f1": 50}
    assert squad_scores(["big black cat"], [["black cat", "dog"]])["f1"] == pytest.approx(80)
    assert squad_scores(["a"], [["the"]]) == {"exact_match": 100, "f1": 100}  # nothing is left of either
