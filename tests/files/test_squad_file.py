"""SQuAD's files give each question with its answers in their places; errors and warnings name the question."""

import json
import warnings

import pytest

from kbert.files.squad_file import read_squad, squad_questions

CAT, SAT, WRONG = ({"text": text, "answer_start": start} for text, start in (("cat", 4), ("sat", 8), ("cat", 5)))


def squad(path, *questions, encoding="utf-8"):
    entries = [{"id": f"q{number}", "question": "what?", **question} for number, question in enumerate(questions, 1)]
    path.write_bytes(json.dumps({"data": [{"paragraphs": [{"context": "the cat sat", "qas": entries}]}]}).encode(encoding))
    return path


def test_questions_keep_their_right_answers(tmp_path):
    asked = [{"answers": [CAT, SAT]}, {"answers": []}, {"answers": [CAT], "is_impossible": True}, {"answers": [WRONG, SAT]}]
    path = squad(tmp_path / "a.json", *asked, {"answers": [WRONG]}, {"answers": [CAT]})
    with pytest.warns(
        UserWarning, match="a.json: 2 questions have an answer that is not in the context at its place: q4, q5; "
    ):
        read = read_squad(path)
    cat, sat = {"text": "cat", "start": 4}, {"text": "sat", "start": 8}
    assert read == {
        "id": ["q1", "q2", "q3", "q4", "q6"],
        "question": ["what?"] * 5,
        "context": ["the cat sat"] * 5,
        "answers": [[cat, sat], [], [], [sat], [cat]],
    }
    with pytest.raises(ValueError, match="q4, q5; on_mismatch"):
        read_squad(path, on_mismatch="stop")
    assert [question.id for question in squad_questions(path)] == ["q1", "q2", "q3", "q4", "q5", "q6"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_are_no_json(tmp_path, encoding):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_squad(squad(tmp_path / "a.json", {"answers": [CAT]}, encoding=encoding))["id"] == ["q1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json is not a SQuAD file: it is not JSON"),
        ("[" * 100_000, "a.json is not a SQuAD file: it is not JSON"),
        ("[]", "a.json is not a SQuAD file, a JSON object with data"),
        ('{"data": {}}', "a JSON object with data, a list of articles"),
        ('{"data": [[]]}', "article 1 should be an object, got list"),
        ('{"data": [{"paragraphs": []}, {}]}', "article 2 lacks 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": 1}]}]}', "article 1, paragraph 1: 'context' should be of type str, got 1"),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": [1]}]}]}', "paragraph 1, question 1 should be an object"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_squad(tmp_path / "a.json")
