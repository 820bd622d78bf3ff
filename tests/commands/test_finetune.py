"""The command line from a data file to a trained task, a report and answers; and what it says of bad files."""

import contextlib
import html
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.commands import cli
from tests.conftest import BAD, GOOD

TINY_OPTIONS = ["--epochs", "2", "--batch-size", "8", "--learning-rate", "1e-2", "--max-length", "24"]


@contextlib.contextmanager
def eagerly():
    """Runs steps op by op: for a tiny model and some batches, tracing takes twice as long."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def sms(tmp_path):
    path = tmp_path / "sms.csv"
    pd.DataFrame({"message": GOOD + BAD, "label": ["ham"] * len(GOOD) + ["spam"] * len(BAD)}).to_csv(path, index=False)
    return path


def run(*arguments):
    return cli.main(list(map(str, arguments)))


def test_from_a_csv_to_a_report_a_measure_and_answers(tiny_folder, sms, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["finetune", "--task", "classification", "--data", sms, "--preset", tiny_folder, "--out", out, *TINY_OPTIONS]
    with eagerly():
        assert run(*command, "--epochs", 6, "--balance", "--label-smoothing", 0.05, "--patience", 5) == 0
    said = capsys.readouterr()
    shown = said.out
    assert "note" not in shown and all("run_functions_eagerly" in line for line in said.err.splitlines())
    assert "23 to train on, 3 to watch, 6 to measure by" in shown and "macro f1" in shown
    assert {path.name for path in out.iterdir()} == {
        "task.keras",
        "preset",
        "metrics.json",
        "history.csv",
        "mistakes.csv",
        "report.html",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["labels"] == ["ham", "spam"] and 0 <= metrics["scores"]["accuracy"] <= 1
    report = (out / "report.html").read_text()
    assert "confusion matrix" in report and "loss by epoch" in report and "Learning curves" in report
    assert len(pd.read_csv(out / "history.csv")) == 6
    assert kbert.TextClassifier.from_preset(out / "preset").labels == ["ham", "spam"]

    with eagerly():
        assert run("evaluate", out, "--data", sms, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1
    assert run("predict", out, "--data", sms, "--out", tmp_path / "answers.jsonl") == 0
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["input"]["message"] for answer in answers] == GOOD + BAD
    assert [answer["answer"]["label"] for answer in answers] == ["ham"] * len(GOOD) + ["spam"] * len(BAD)
    assert run("export", out, tmp_path / "models" / "1") == 0 and (tmp_path / "models" / "1" / "saved_model.pb").is_file()
    assert run("verify", tmp_path / "models" / "1", "--against", out, "--texts", sms) == 0
    assert "largest difference" in capsys.readouterr().out
    assert run("export", out, tmp_path / "x.tflite", "--format", "litert", "--inputs", "tokens", "--quantize", "int8") == 0
    assert run(*command) == 1  # it is there
    error = capsys.readouterr().err
    assert error == f"kbert finetune: {out} exists; give another path, or pass --overwrite to replace it\n"


def test_export_hands_on_what_is_stated(sms, tmp_path, monkeypatch, capsys):
    stated = []

    class Trained:
        def export(self, path, **kwargs):
            stated.append((path, kwargs))

    def export_serving(task, path, name, **kwargs):
        stated.append((path, {"name": name, **kwargs}))

    (tmp_path / "task.keras").touch()
    monkeypatch.setattr("kbert.commands.export.open_task", lambda path: Trained())
    monkeypatch.setattr("kbert.export.export_serving", export_serving)
    static = str(tmp_path / "static.tflite")
    assert run("export", tmp_path / "task.keras", static, "--quantize", "int8-static", "--texts", sms) == 0
    options = {"format": "litert", "overwrite": False, "quantize": "int8-static", "texts": GOOD + BAD}
    kit = ["export", tmp_path / "task.keras", tmp_path / "kit", "--serving", "spam"]
    assert run(*kit, "--quantize", "float16") == 0
    labels = ["--latest", 2, "--version-label", "stable=1", "canary"]
    assert run(*kit, *labels) == run(*kit, "--versions", 1, 3) == 0
    labeled = {"name": "spam", "latest": 2, "version_labels": {"stable": 1, "canary": None}}
    kits = [{"name": "spam", "quantize": "float16"}, labeled, {"name": "spam", "versions": [1, 3]}]
    assert stated == [(static, options), *((str(tmp_path / "kit"), one) for one in kits)]
    assert (
        run(*kit[:3], "--latest", 2) == 1
        and "--latest says what TF Serving loads: give --serving too" in capsys.readouterr().err
    )
    for given in (["--latest", 0], ["--version-label", "a b"], ["--version-label", "stable=x"], ["--serving", "a/b"]):
        with pytest.raises(SystemExit):
            run(*kit, *given)
    for given, message in (
        (["--format", "litert"], "goes without --format"),
        (["--max-length", 8], "--max-length is not for"),
        (["--latest", 2, "--versions", 1], "--latest and --versions both say"),
    ):
        capsys.readouterr()
        assert run(*kit, *given) == 1
        assert message in capsys.readouterr().err


def test_what_a_user_should_know_is_in_the_terminal_and_in_the_report(tiny_folder, tmp_path, capsys):
    """A label with one example, a label that looks mistyped, an empty text, a training that learned nothing."""
    rows = list(zip(GOOD + BAD, ["ham"] * len(GOOD) + ["spam"] * len(BAD)))
    rows += [("very so film", "rare"), ("bad cat", "spma"), ("", "ham"), *[("good day", "ham")] * 20]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "sms.csv", index=False)
    command = ["finetune", "--task", "classification", "--data", tmp_path / "sms.csv", "--preset", tiny_folder]
    with eagerly():
        assert run(*command, "--out", tmp_path / "out", "--epochs", 1, "--learning-rate", 1e-9, "--max-length", 5) == 0
    said = capsys.readouterr()
    report = (tmp_path / "out" / "report.html").read_text()
    single = "one example only of ['rare', 'spma']"
    for part in ("have an empty text: number 35", single, "written almost like 'spam'", "the task is right for"):
        assert part in said.out and html.escape(part) in report
    assert re.search(r"texts are longer than --max-length 5 and are cut \(the longest has 4 pieces\)\n", said.err), said.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["labels"] == ["ham", "rare", "spam", "spma"]


def test_a_row_is_that_of_the_users_file(tiny_folder, sms, tmp_path, capsys):
    (tmp_path / "test.csv").write_text("text,label\ngood day,ham\nbad day,spam\nbad cat,joy\n")
    assert run("finetune", "--task", "classification", "--data", sms, "--test", tmp_path / "test.csv",
               "--preset", tiny_folder, "--out", tmp_path / "out") == 1  # fmt: skip
    error = capsys.readouterr().err
    assert error.startswith(f"kbert finetune: row 3 of {tmp_path / 'test.csv'} is 'joy', which is not one of the labels ['ham'")


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def data_for(task, folder):
    """A small file of each kind of data."""
    texts = GOOD + BAD
    if task == "multi-label":
        return jsonl(folder / "data.jsonl", [{"text": text, "labels": ["any", text.split()[0]]} for text in texts])
    if task == "regression":
        path = folder / "data.tsv"
        path.write_text("sentence1\tsentence2\tscore\n" + "".join(f'{t}\t"{t}\t{n / 8}\n' for n, t in enumerate(texts)))
        return path
    if task == "ner":
        path = folder / "data.bio"
        path.write_text(
            "\n".join("".join(f"{w}\t{'B-mood' if w in ('good', 'bad') else 'O'}\n" for w in t.split()) for t in texts)
        )
        return path
    if task == "qa":
        questions = [
            {
                "id": str(n),
                "question": "a cat ?",
                "answers": [{"text": text.split()[-1], "answer_start": text.rindex(text.split()[-1])}],
            }
            for n, text in enumerate(texts)
        ]
        paragraphs = [{"context": text, "qas": [question]} for text, question in zip(texts, questions)]
        path = folder / "data.json"
        path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
        return path
    if task == "fill-mask":
        path = folder / "data.txt"
        path.write_text("\n".join(texts))
        return path
    path = folder / "data.parquet"
    pd.DataFrame({"anchor": texts, "positive": texts[::-1]}).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("task", "more", "score"),
    [
        ("multi-label", [], "macro_f1"), ("regression", ["--pair", "sentence2", "--label", "score"], "spearman"),
        ("ner", [], "f1"), ("qa", [], "exact_match"), ("fill-mask", [], "perplexity"), ("embedding", [], "found_first"),
    ],
)  # fmt: skip
def test_each_task_reads_its_file_and_reports_its_score(tiny_folder, tmp_path, task, more, score, capsys):
    data, out = data_for(task, tmp_path), tmp_path / "out"
    with eagerly():
        assert run("finetune", "--task", task, "--data", data, "--preset", tiny_folder, "--out", out, *TINY_OPTIONS, *more) == 0
    assert score in json.loads((out / "metrics.json").read_text())["scores"]
    assert (out / "report.html").is_file()
    capsys.readouterr()
    with eagerly():
        assert run("evaluate", out, "--data", data, "--json", *more) == 0
    assert score in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("content", "name", "more", "message"),
    [
        ("a,b\n1,2\n", "x.csv", [], "has no column named text or sentence.*its columns are: a, b"),
        ("text,b\n1,2\n", "x.csv", ["--label", "kind"], "has no column 'kind'"),
        ("text,label\ngood,\nbad,x\n", "x.csv", [], "line 2 has no label"),
        ("text,label\n", "x.csv", [], "holds no examples"),
        ("text,label\ngood,x\n", "x.csv", [], "leaves 1 to train on, 0 to measure by"),
        ("text,label\n" + "good,x\n" * 9, "x.csv", [], "has one label only, 'x'"),
        ("text,label\n" + "good,x\nbad,y\n" * 9, "x.doc", [], "a name that ends in .csv"),
        ("{nonsense", "x.jsonl", [], "line 1 is not JSON"),
    ],
)
def test_bad_files_are_named_before_the_work(tiny_folder, tmp_path, content, name, more, message, capsys):
    (tmp_path / name).write_text(content)
    command = [
        "finetune",
        "--task",
        "classification",
        "--data",
        tmp_path / name,
        "--preset",
        tiny_folder,
        "--out",
        tmp_path / "out",
    ]
    assert run(*command, *more) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_a_regressions_gaps_are_named(tiny_folder, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("text,label\n" + "good,1\n" * 5 + "bad,NaN\n" * 5)
    assert (
        run(
            "finetune", "--task", "regression", "--data", tmp_path / "x.csv", "--preset", tiny_folder, "--out", tmp_path / "out"
        )
        == 1
    )
    assert "not a finite number" in capsys.readouterr().err


@pytest.mark.slow
def test_the_notebook_runs_from_csv_to_served_model(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    path = Path(__file__).resolve().parents[2] / "examples" / "emotion_in_tweets.ipynb"
    texts = [f"{text} number {n}" for n in range(8) for text in GOOD + BAD]
    pd.DataFrame({"text": texts, "label_name": (["joy"] * len(GOOD) + ["sadness"] * len(BAD)) * 8}).to_csv(tmp_path / "t.csv")
    monkeypatch.setenv("KBERT_TWEETS", str(tmp_path / "t.csv"))
    monkeypatch.setenv("KBERT_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("", os.environ.get("PYTHONPATH", ""))))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "models" / "emotion" / "1" / "saved_model.pb").is_file()
    assert "joy" in str(notebook.cells[-1]["outputs"])
