"""`kbert predict` gives a line of JSON for each text of a file, whatever the task."""

import json

import pandas as pd
import pytest

import kbert
from kbert.commands import cli
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
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2 and all(map(holds, answers))


def test_a_pretrainer_does_no_job(tmp_path, capsys):
    untrained(kbert.Pretrainer).save(tmp_path / "task.keras")
    assert cli.main(["predict", str(tmp_path / "task.keras"), "--data", "x.csv"]) == 1
    assert "a Pretrainer does none of the command line's jobs" in capsys.readouterr().err
