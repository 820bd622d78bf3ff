"""transformers, run live in .venv-peers, opens what kbert writes and agrees. `make test-peers` makes that environment."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

PYTHON = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-peers: make test-peers")

ASK = """
import json, sys, warnings
warnings.simplefilter("error")
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
with torch.no_grad():
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    logits = model(**inputs).logits
print(json.dumps({"ids": inputs["input_ids"].tolist(), "logits": logits.tolist(), "labels": model.config.id2label}))
"""
TEXTS = ["good cat", "", "the film so BAD!", "Élan 你好 " * 20]


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
def test_transformers_opens_a_written_folder_and_agrees(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    done = subprocess.run(
        [PYTHON, "-c", ASK], input=json.dumps([str(tmp_path / "mine"), TEXTS]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "newly initialized" not in done.stderr and "not used" not in done.stderr, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["ids"] == classifier.preprocessor(TEXTS)["token_ids"].numpy().tolist()
    assert list(theirs["labels"].values()) == classifier.labels
    np.testing.assert_allclose(classifier.predict(TEXTS), theirs["logits"], atol=1e-4)
