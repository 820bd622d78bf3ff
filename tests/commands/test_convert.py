"""`kbert convert` writes a checkpoint in another layout; answers and weights stay."""

import numpy as np
import pytest

import kbert
from kbert.checkpoints.opened import open_preset
from kbert.commands import cli


def run(*words):
    return cli.main(["convert", *map(str, words)])


@pytest.mark.parametrize("layout", ["google", "keras_hub", "huggingface"])
def test_a_classifier_answers_the_same_in_each_layout(layout, encoder, tokenizer, tmp_path, capsys):
    if layout == "keras_hub":
        pytest.importorskip("keras_hub")
    config = {**encoder.config.to_dict(), "hidden_act": "gelu_pytorch_tanh"}  # KerasHub's own, so that nothing differs
    task = kbert.TextClassifier(
        kbert.BertEncoder(kbert.BertConfig.from_dict(config)), kbert.TextPreprocessor(tokenizer, 24), ["ham", "spam"]
    )
    task.save(tmp_path / "task.keras")
    task.save_to_preset(tmp_path / "mine")
    for old in ("task.keras", "mine"):
        assert run(tmp_path / old, tmp_path / layout, "--layout", layout, "--overwrite") == 0
        assert f"a TextClassifier in the layout {layout}" in capsys.readouterr().out
        again = kbert.from_preset(tmp_path / layout)
        assert again.labels == task.labels
        texts = ["a good cat", "", "very bad"]
        np.testing.assert_allclose(again.predict(texts, verbose=0), task.predict(texts, verbose=0), atol=1e-6)


def test_an_encoder_alone_keeps_its_pooler_and_its_tokenizer(tiny_folder, tmp_path, capsys):
    assert run(tiny_folder, tmp_path / "google", "--layout", "google") == 0
    assert "an encoder with its tokenizer" in capsys.readouterr().out
    assert run(tmp_path / "google", tmp_path / "back") == 0
    with open_preset(tiny_folder) as before, open_preset(tmp_path / "back") as after:
        assert before.checkpoint.names() == after.checkpoint.names() and before.vocabulary == after.vocabulary
        for name in sorted(before.checkpoint.names()):
            assert np.array_equal(np.array(before.checkpoint.tensor(name)), after.checkpoint.tensor(name)), name


def refused(capsys, *words):
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_converted_is_said_before_any_work(encoder, tokenizer, tiny_folder, tmp_path, capsys):
    packer = kbert.TextPreprocessor(tokenizer, 24)
    kbert.TokenClassifier(encoder, packer, labels=["O", "B-X"]).save_to_preset(tmp_path / "tags")
    kbert.TextEmbedder(encoder, packer, pooling="max").save_to_preset(tmp_path / "vectors")
    new = tmp_path / "new"
    assert "has no place in --layout google: Bert has no TokenClassification head" in refused(
        capsys, tmp_path / "tags", new, "--layout", "google"
    )
    assert "is an embedder, whose pooling only --layout huggingface" in refused(
        capsys, tmp_path / "vectors", new, "--layout", "keras_hub"
    )
    assert "would be lost" in refused(capsys, tiny_folder, tiny_folder)
    assert "exists; give another path, or pass --overwrite" in refused(capsys, tmp_path / "tags", tmp_path / "vectors")
    assert "neither a folder nor a built-in preset" in refused(capsys, tmp_path / "none", new)
    assert "--labels is for a head" in refused(capsys, tiny_folder, new, "--labels", "a", "b")
    assert not new.exists()
