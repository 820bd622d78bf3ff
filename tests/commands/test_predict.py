"""`kbert predict` answers each row of every file that finetune takes, and the answers stand beside the rows."""

import argparse
import csv
import io
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kbert
from kbert.commands import answers_file, cli
from kbert.commands.asked import Asked, read_asked
from kbert.commands.jobs import JOBS
from kbert.files.table_file import read_table
from tests.commands.test_measures import TAGS, untrained

TEXTS = ["a good cat", "bad"]


@pytest.mark.parametrize(
    ("kind", "kwargs", "table", "holds"),
    [
        (kbert.TokenClassifier, {"labels": TAGS}, {"text": TEXTS}, lambda answer: isinstance(answer, list)),
        (kbert.QuestionAnswerer, {}, {"question": ["a cat ?"] * 2, "context": TEXTS}, lambda answer: "start" in answer),
        (kbert.MaskedLM, {}, {"text": ["a [MASK] cat", "[MASK]"]}, lambda answer: "token" in answer[0]),
        (kbert.TextEmbedder, {}, {"text": TEXTS}, lambda answer: len(answer) == 16),
        (kbert.TextClassifier, {"problem_type": "regression"}, {"text": TEXTS}, lambda answer: "score" in answer),
    ],
)
def test_each_task_answers_a_file(kind, kwargs, table, holds, tmp_path, capsys):
    untrained(kind, **kwargs).save(tmp_path / "task.keras")
    pd.DataFrame(table).to_csv(tmp_path / "x.csv", index=False)
    assert cli.main(["predict", str(tmp_path / "task.keras"), "--data", str(tmp_path / "x.csv")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [line["row"] for line in lines] == [1, 2] and all(holds(line["answer"]) for line in lines)
    assert [line["input"] for line in lines] == [dict(zip(table, row)) for row in zip(*table.values())]


def test_lines_keep_their_places_and_files_are_written_by_their_suffix(tmp_path, capsys):
    untrained(kbert.MaskedLM).save(tmp_path / "task.keras")
    (tmp_path / "x.txt").write_bytes("a [MASK]\n\n[MASK]\u2028cat\n".encode())
    command = ["predict", str(tmp_path / "task.keras"), "--data", str(tmp_path / "x.txt"), "--out"]
    assert cli.main([*command, str(tmp_path / "out.csv")]) == 0
    table = read_table(tmp_path / "out.csv")
    assert table.names == ["row", "text", "answer"]
    assert [row[:2] for row in table.rows] == [["1", "a [MASK]"], ["2", ""], ["3", "[MASK]\u2028cat"]]
    assert json.loads(table.rows[1][2]) == [] and json.loads(table.rows[2][2])
    assert "1 texts have no [MASK], and no answer: rows 2" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "out.doc")]) == 1
    assert "names end in .jsonl, .ndjson, .csv, .tsv" in capsys.readouterr().err


def test_a_pretrainer_does_no_job(tmp_path, capsys):
    untrained(kbert.Pretrainer).save(tmp_path / "task.keras")
    (tmp_path / "x.txt").write_text("good day")
    assert cli.main(["predict", str(tmp_path / "task.keras"), "--data", str(tmp_path / "x.txt")]) == 1
    assert "a Pretrainer does none of the command line's jobs" in capsys.readouterr().err


# Every file that finetune takes

OBJECTS = {
    "classification": ({"text": "a b", "label": "x"}, {"text": "c", "label": "y"}),
    "multi-label": ({"text": "a b", "labels": ["x", "y"]}, {"text": "c", "labels": []}),
    "regression": ({"text": "a b", "label": 1.0}, {"text": "c", "label": 0.5}),
    "embedding": ({"anchor": "a b", "positive": "c"}, {"anchor": "d", "positive": "e"}),
    "fill-mask": ({"text": "a b"}, {"text": "c"}),
    "ner": ({"tokens": ["a", "b"], "ner_tags": ["O", "B-x"]}, {"tokens": ["c"], "ner_tags": ["O"]}),
    "qa": (
        {"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}},
        {"question": "r", "context": "c", "answers": {"text": [], "answer_start": []}},
    ),
}
PARAGRAPHS = [
    {"context": context, "qas": [{"id": asked, "question": asked, "answers": []}]}
    for context, asked in (("a b", "q"), ("c", "r"))
]
FILES = {
    **{(task, suffix): None for task in OBJECTS for suffix in ("jsonl", "parquet", "json", "csv")},
    **{(task, "tsv"): None for task in ("classification", "multi-label", "regression", "embedding", "fill-mask", "qa")},
    ("fill-mask", "txt"): "a b\nc\n",
    **{("ner", suffix): "a O\nb B-x\n\nc O\n" for suffix in ("bio", "conll", "txt")},
    ("ner", "tsv"): "1\ta\tO\n2\tb\tB-x\n\n1\tc\tO\n",
    ("qa", "squad.json"): json.dumps({"data": [{"paragraphs": PARAGRAPHS}]}),
}  # fmt: skip
EXPECTED = {"ner": [["a", "b"], ["c"]], "embedding": ["a b", "d"], "qa": (["q", "r"], ["a b", "c"])}
OPTIONS = argparse.Namespace(text=None, pair=None, label=None, names=None, encoding=None, separator=None)


@pytest.mark.filterwarnings("ignore:.*the first texts are embedded")
@pytest.mark.parametrize(("task", "suffix"), FILES)
def test_what_finetune_reads_predict_reads_row_by_row(tmp_path, task, suffix):
    path, content, rows = tmp_path / f"a.{suffix}", FILES[task, suffix], OBJECTS[task]
    if content is not None:
        path.write_text(content)
    elif suffix in ("jsonl", "json"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) if suffix == "jsonl" else json.dumps(rows))
    elif suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        pd.DataFrame(rows).to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    job, expected = JOBS[task], EXPECTED.get(task, ["a b", "c"])
    asked = job.read_asked(str(path), OPTIONS)
    assert asked.x == expected and len(asked.inputs) == 2
    trained_on = job.read(str(path), OPTIONS)[0]
    assert (trained_on[0] if task == "embedding" else trained_on) == expected


@pytest.mark.parametrize(
    ("task", "name", "content", "expected"),
    [
        ("ner", "a.txt", "Anna sang in New York\nrain\n\n", ["Anna sang in New York", "rain", ""]),
        ("ner", "a.tsv", "text\tid\nAnna sang\t1\n", ["Anna sang"]),
        ("ner", "a.tsv", "message\tO\nfrom\tO\n", [["message", "from"]]),
        ("ner", "a.jsonl", '{"text": "Anna sang"}\n', ["Anna sang"]),
        ("ner", "a.bio", "Anna NOUN\nsang VERB\n", [["Anna", "sang"]]),
        ("classification", "a.txt", "a\r\n\r\nb", ["a", "", "b"]),
        ("qa", "a.json", '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q"}]}]}]}', (["q"], ["a"])),
        ("qa", "a.csv", "question,context\nq,a\n", (["q"], ["a"])),
        ("embedding", "a.txt", "a\nb\n", ["a", "b"]),
    ],
)
def test_files_without_targets_are_asked_too(tmp_path, task, name, content, expected):
    (tmp_path / name).write_bytes(content.encode())
    assert JOBS[task].read_asked(str(tmp_path / name), OPTIONS).x == expected


@pytest.mark.parametrize("job", ["classification", "multi-label", "regression"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "distill"])
def test_a_task_that_was_trained_on_pairs_is_not_asked_single_texts(command, job, tmp_path, monkeypatch, capsys):
    config = argparse.Namespace(num_hidden_layers=2)
    task = argparse.Namespace(job=job, trained_on_pairs=True, encoder=argparse.Namespace(config=config))
    monkeypatch.setattr(f"kbert.commands.{command}.open_task", lambda path: task)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").touch()
    pd.DataFrame({"sentence1": ["a"] * 9, "sentence2": "b", "label": 1}).to_csv("pairs.csv")
    model = ["--teacher", "model.keras", "--layers", "1", "--out", "out"] if command == "distill" else ["model.keras"]
    assert cli.main([command, *model, "--data", "pairs.csv"]) == 1
    assert "was trained on pairs of texts: name the column of second texts with --pair" in capsys.readouterr().err


def test_the_embedded_column_of_pairs_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("anchor,positive\na,b\n")
    with pytest.warns(UserWarning, match="the first texts are embedded; --text positive embeds the others"):
        assert JOBS["embedding"].read_asked(str(tmp_path / "a.csv"), OPTIONS).x == ["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = argparse.Namespace(**{**vars(OPTIONS), "text": "positive"})
        assert JOBS["embedding"].read_asked(str(tmp_path / "a.csv"), options).x == ["b"]


# Answers as files

ASKED = Asked(["a"] * 2, [{"text": 'a "b",\r\n c\rd', "label": None, "row": 7}, {"text": "", "label": ["x"], "row": 8}])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_the_texts_that_were_asked_stand_in_each_kind_of_file(tmp_path, texts):
    asked, answers = Asked(texts, [{"text": text} for text in texts]), [{"label": text} for text in texts]
    for suffix in answers_file.KINDS:
        path = tmp_path / f"out{suffix}"
        with open(path, "w", encoding="utf-8", newline="") as file:
            answers_file.write_answers(file, answers_file.kind_of(path), asked, answers)
        table = read_table(path)
        if "answer" in table.names:
            assert [given["text"] for given in table.column("input")] == texts
            assert table.column("answer") == answers and table.column("row") == list(range(1, len(texts) + 1))
        else:
            assert table.column("text") == table.column("answer_label") == texts


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_halves_of_characters_are_written_as_escapes(tmp_path, suffix):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a", "user\ud83d": "b\ud83d"}) + "\n")
    path = tmp_path / f"out{suffix}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        answers_file.write_answers(file, answers_file.kind_of(path), read_asked(tmp_path / "a.jsonl"), ["x"])
    table = read_table(path)
    if suffix == ".jsonl":
        assert table.column("input") == [{"text": "a", "user\ud83d": "b\ud83d"}]
    else:
        assert (table.names, table.rows) == (["row", "text", "user\\ud83d", "answer"], [["1", "a", "b\\ud83d", "x"]])


def test_columns_of_one_name_stay_apart(tmp_path):
    (tmp_path / "a.csv").write_text("x.3,text,x,x,x,x.2\n1,a,2,3,4,5\n")
    assert list(read_asked(tmp_path / "a.csv").inputs[0].values()) == list("1a2345")


def test_json_has_no_nan():
    asked = Asked(["a"], [{"x": [float("nan")], "y": pd.Timestamp(0), "z": 1.5}])
    assert json.loads(answers_file.json_lines(asked, [{"score": np.float32("inf")}])[0], parse_constant=pytest.fail) == {
        "row": 1,
        "input": {"x": [None], "y": "1970-01-01 00:00:00", "z": 1.5},
        "answer": {"score": None},
    }


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("answers", "columns"),
    [
        (
            [{"label": "é", "score": 0.5}, {"label": "y", "score": 1}],
            {"answer_label": ["é", "y"], "answer_score": ["0.5", "1"]},
        ),
        ([{"label": "x", "scores": {"x": 1}}, {"label": "y"}], {"answer_label": ["x", "y"], "answer_scores": ['{"x": 1}', ""]}),
        ([[], [{"token": "a"}]], {"answer": ["[]", '[{"token": "a"}]']}),
        (np.eye(2, dtype=np.float32), {"answer": ["[1.0, 0.0]", "[0.0, 1.0]"]}),
    ],
)
def test_a_table_of_answers_has_the_inputs_columns(tmp_path, suffix, answers, columns):
    path = tmp_path / f"out{suffix}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        answers_file.write_answers(file, answers_file.kind_of(path), ASKED, answers)
    inputs = {"row_": ["1", "2"], "text": ['a "b",\r\n c\rd', ""], "label": ["", '["x"]'], "row": ["7", "8"]}
    table = read_table(path)
    assert {name: table.column(name) for name in table.names} == {**inputs, **columns}
    separator = "\t" if suffix == ".tsv" else ","
    assert [len(row) for row in csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=separator)] == [
        len(table.names)
    ] * 3
