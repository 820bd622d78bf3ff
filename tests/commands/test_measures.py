"""A task's figures are those of its scores, come from one prediction, and are shown and written the same way for each task."""

import io
import random

import pytest
from rich.console import Console

import kbert
from kbert.commands.measures import MOST_MISTAKES, details, mistake_rows, mistakes_grid, show
from kbert.scoring.entities import entity_scores
from kbert.scoring.figures import Figures, Mistake
from tests.conftest import BAD, GOOD, TINY, tiny_tokenizer

TEXTS = GOOD + BAD
TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]


def untrained(kind, **kwargs):
    """A tiny task with large random weights, so that its answers differ."""
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "initializer_range": 0.5}))
    return kind(encoder, kbert.TextPreprocessor(tiny_tokenizer(), 24), **kwargs)


def counted(task, monkeypatch):
    """Counts the verbs that are asked of a task, without those that its verbs ask themselves."""
    asked, inside = [], []

    def watch(name):
        verb = getattr(task, name)

        def watched(*args, **kwargs):
            asked.extend([] if inside else [name])
            inside.append(name)
            try:
                return verb(*args, **kwargs)
            finally:
                inside.pop()

        monkeypatch.setattr(task, name, watched)

    for name in ("predict", "classify", "scores", "evaluate", "_compute_pieces"):
        watch(name)
    return asked


def test_several_labels_are_predicted_once(monkeypatch):
    task, draw = untrained(kbert.TextClassifier, labels=list("abc"), problem_type="multi_label"), random.Random(0)
    y = [[label for label in "abc" if draw.random() < 0.5] for _ in TEXTS]
    asked = counted(task, monkeypatch)
    figures = task.figures(TEXTS, y)
    assert len(asked) == 1 and task.job == "multi-label"
    scores = task.scores(TEXTS, y, verbose=0)
    assert figures.scores["macro_f1"] == pytest.approx(sum(scores.values()) / 3)
    answers = task.classify(TEXTS, verbose=0)
    wrong = [text for text, labels, answer in zip(TEXTS, y, answers) if set(labels) != set(answer["labels"])]
    assert [mistake.text for mistake in figures.mistakes] == wrong
    assert figures.scores["all_labels_right"] == 1 - len(wrong) / len(TEXTS)


def test_entities_are_predicted_once(monkeypatch):
    task, draw = untrained(kbert.TokenClassifier, labels=TAGS), random.Random(0)
    words = [text.split() * 5 for text in TEXTS]
    tags = [[draw.choice(TAGS) for _ in row] for row in words]
    asked = counted(task, monkeypatch)
    figures = task.figures(words, tags)
    assert len(asked) == 1 and task.job == "ner"
    expected = entity_scores(tags, task.predict(words, verbose=0))
    assert figures.scores == {name: expected[name] for name in ("precision", "recall", "f1")}
    assert {row[0]: row[4] for row in figures.rows} == {kind: of["support"] for kind, of in expected["by_type"].items()}
    with pytest.raises(ValueError, match="a sequence of 1 tags has 2"):
        task.figures([["a", "cat"]], [["O"]])


def test_each_task_says_its_job():
    for kind, job in (
        (kbert.QuestionAnswerer, "qa"),
        (kbert.MaskedLM, "fill-mask"),
        (kbert.TextEmbedder, "embedding"),
        (kbert.Pretrainer, None),
    ):
        assert kind.job == job
    assert untrained(kbert.TextClassifier, problem_type="regression").job == "regression"


def test_mistakes_are_the_surest_and_as_many_as_a_reader_reads():
    mistakes = [Mistake(("a", "b"), ["x", "y"], number / 200, number / 200) for number in range(60)]
    rows = mistake_rows(Figures({}, mistakes=mistakes))
    assert len(rows) == MOST_MISTAKES and rows[0] == {"text": "a | b", "true": "x;y", "answer": 0.295, "score": 0.295}
    heading, grid = mistakes_grid(rows)
    assert "most confident" in heading and grid.count("<tr>") == 21
    assert mistakes_grid([]) == []


def test_figures_are_shown_with_three_decimals():
    file = io.StringIO()
    figures = Figures({"macro_f1": 0.5}, ("label", "F1", "texts"), [("ham", 0.123456, 7)])
    show(Console(file=file, width=80), figures)
    assert "macro f1 0.5000" in file.getvalue() and "0.123 " in file.getvalue()
    assert len(details(figures)) == 1 and "<td>0.123</td>" in details(figures)[0]
