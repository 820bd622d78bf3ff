"""The new code on the pages for people who come from other libraries runs, on files that those libraries wrote."""

import json
import pathlib
import re
import shutil

import pytest
import tensorflow as tf

from kbert.commands.cli import main
from tests.conftest import SPECIAL

PAGES = pathlib.Path(__file__).parents[1] / "docs" / "migrate"
FIXTURES = pathlib.Path(__file__).parent / "fixtures"
TEXTS, LABELS = ["a good day", "a bad film", "so good", "so bad"], ["positive", "negative", "positive", "negative"]

# The folders that each page names, and the fixtures that stand for them.
FOLDERS = {
    "transformers_tensorflow.md": {
        "my-model": "transformers_tf/distilbert_SequenceClassification.h5",
        "my-keras-model": "transformers_tf/bert.keras",
    },
    "tf_hub.md": {"bert_en_uncased": "object_graph/tfhub_v1", "tutorial_model": "object_graph/tutorial_v1_savedmodel"},
    "model_garden.md": {
        "uncased_L-12_H-768_A-12": "object_graph/garden_converted_encoder",
        "garden_classifier": "object_graph/garden_v1_classifier",
        "pretrained": "object_graph/garden_v1_pretrainer",
    },
    "model_maker.md": {"mobilebert": "today/transformers"},
    "keras_hub.md": {"my_preset": "today/keras_hub_distilbert", "embedder_preset": "today/keras_hub_max"},
    "sentence_transformers.md": {"my-model": "today/sentence_transformers", "my-cross-encoder": "today/cross_encoder"},
}
OWN_LABELS = {"transformers_tensorflow.md": ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_0"]}


def copied(fixture, folder):
    """Copies a fixture, and gives it a vocabulary of as many tokens as the model has rows if it has none."""
    shutil.copytree(FIXTURES / fixture, folder)
    if fixture.startswith("transformers_tf"):
        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        words = [*SPECIAL, *"a the so good bad day film".split()]
        tokens = [*words, *(f"[unused{number}]" for number in range(size - len(words)))]
        (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("page", FOLDERS)
@pytest.mark.filterwarnings("ignore")
def test_the_new_code_of_a_page_runs(page, tmp_path, monkeypatch, request, capsys):
    for folder, fixture in FOLDERS[page].items():
        copied(fixture, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    if page != "model_maker.md":  # whose code exports a graph; the others need no traces
        request.getfixturevalue("eagerly")
    blocks = re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text("utf-8"), re.M | re.S)
    names = {"texts": TEXTS, "labels": OWN_LABELS.get(page, LABELS), "anchors": TEXTS[:2], "positives": TEXTS[2:]}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert len(blocks) >= 1
    for name in {"answers", "logits", "vectors", "scores", "tokens", "documents"} & set(names):
        assert len(names[name]) in (1, 2, len(TEXTS)), name
    if page == "model_maker.md":
        main(["inspect", "new_model.tflite"])
        assert "negative, positive" in capsys.readouterr().out


def test_every_page_is_listed_and_has_folders():
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\((\w+\.md)\)", (PAGES / "README.md").read_text("utf-8")))
    assert pages == listed == set(FOLDERS)
