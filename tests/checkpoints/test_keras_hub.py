"""KerasHub's preset folders and live models, in and out. Its own code is the reference for what it computes."""

import json
import re
import warnings

import numpy as np
import pytest

import kbert
from tests.conftest import TINY

keras_hub = pytest.importorskip("keras_hub")
TEXTS = ["good cat", "", "the film so bad!", "un able"]


@pytest.fixture
def tanh_encoder():
    """An encoder with KerasHub's own activation."""
    return kbert.BertEncoder(kbert.BertConfig(**TINY, hidden_act="gelu_pytorch_tanh"))


@pytest.fixture
def preprocessor(tokenizer):
    return kbert.TextPreprocessor(tokenizer, max_length=24)


def packed(preprocessor):
    return {name: values.numpy() for name, values in preprocessor(TEXTS).items()}


def same_weights(a, b):
    """Bit-equal; a pooler that the task does not use need not be there."""
    by_path = [
        {v.path.partition("/")[2]: v.numpy() for v in owner.trainable_variables if "pooler" not in v.path} for owner in (a, b)
    ]
    assert set(by_path[0]) == set(by_path[1])
    for path, value in by_path[0].items():
        np.testing.assert_array_equal(value, by_path[1][path], err_msg=path)


def test_a_backbone_computes_the_same_there_and_back(tanh_encoder, preprocessor):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        theirs = tanh_encoder.to_keras_hub()
    inputs = packed(preprocessor)
    outputs, expected = tanh_encoder(inputs), theirs(inputs)
    mask = inputs["padding_mask"][:, :, None]
    np.testing.assert_allclose(outputs["sequence_output"] * mask, expected["sequence_output"] * mask, atol=1e-5)
    np.testing.assert_allclose(outputs["pooled_output"], expected["pooled_output"], atol=1e-5)
    same_weights(tanh_encoder, kbert.BertEncoder.from_preset(theirs))


def test_a_classifier_with_its_text_answers_the_same_there(tanh_encoder, preprocessor):
    task = kbert.TextClassifier(tanh_encoder, preprocessor, labels=["a", "b", "c"])
    theirs = task.to_keras_hub()
    np.testing.assert_allclose(theirs.predict(TEXTS, verbose=0), task.predict(TEXTS), atol=1e-5)
    back = kbert.TextClassifier.from_preset(theirs, labels=["a", "b", "c"])
    same_weights(task, back)
    np.testing.assert_allclose(back.predict(TEXTS), task.predict(TEXTS), atol=1e-6)


def test_a_masked_lm_of_kerashub_computes_the_same_here(tanh_encoder, preprocessor, tmp_path):
    """Its head has the exact GELU and an epsilon of its own, which are kept."""
    theirs = keras_hub.models.BertMaskedLM(tanh_encoder.to_keras_hub())
    inputs = packed(preprocessor)
    inputs["mask_positions"] = np.array([[0, 1]] * len(TEXTS))
    task = kbert.MaskedLM.from_preset(theirs, preprocessor=None)
    np.testing.assert_allclose(task(inputs), theirs(inputs), atol=1e-5)
    task.save_to_preset(tmp_path / "folder")
    again = kbert.MaskedLM.from_preset(tmp_path / "folder", preprocessor=None)
    np.testing.assert_array_equal(again(inputs), task(inputs))
    np.testing.assert_allclose(task.to_keras_hub()(inputs), theirs(inputs), atol=1e-5)


@pytest.mark.parametrize("kind", ["TextClassifier", "MaskedLM"])
def test_folders_are_bit_equal_through_both_libraries(tanh_encoder, preprocessor, tmp_path, kind):
    labels = {"labels": ["a", "b"]} if kind == "TextClassifier" else {}
    task = getattr(kbert, kind)(tanh_encoder, preprocessor, **labels)
    task.save_to_preset(tmp_path / "ours", layout="keras_hub")
    same_weights(task, getattr(kbert, kind).from_preset(tmp_path / "ours", **labels))
    theirs = getattr(keras_hub.models, f"Bert{kind}").from_preset(str(tmp_path / "ours"))
    theirs.save_to_preset(str(tmp_path / "theirs"))
    again = getattr(kbert, kind).from_preset(tmp_path / "theirs", **labels)
    same_weights(task, again)
    assert again.tokenizer.vocabulary == task.tokenizer.vocabulary and again.tokenizer.lowercase


def test_the_other_gelu_is_said_with_the_difference(encoder, preprocessor):
    with pytest.warns(UserWarning, match="tanh GELU.*differ by up to") as notices:
        theirs = encoder.to_keras_hub()
    inputs = packed(preprocessor)
    difference = np.abs(encoder(inputs)["pooled_output"] - theirs(inputs)["pooled_output"]).max()
    (stated,) = [float(found.group(1)) for n in notices if (found := re.search(r"differ by up to (\S+)", str(n.message)))]
    assert 0 < difference < 10 * stated


def test_what_kerashub_has_not_is_refused(tokenizer, tmp_path):
    distil = kbert.BertEncoder(kbert.BertConfig(**TINY, type_vocab_size=0, add_pooling_layer=False))
    with pytest.raises(ValueError, match="segments and a pooler"):
        distil.to_keras_hub()
    relu = kbert.BertEncoder(kbert.BertConfig(**TINY, hidden_act="relu"))
    with pytest.raises(ValueError, match="activation is GELU.*relu"):
        relu.to_keras_hub()


def test_what_is_wrong_with_a_folder_is_named(tanh_encoder, preprocessor, tmp_path):
    task = kbert.TextClassifier(tanh_encoder, preprocessor, labels=["a", "b"])
    folder = tmp_path / "folder"
    task.save_to_preset(folder, layout="keras_hub")

    def fails(error, match):
        with pytest.raises(error, match=match):
            kbert.TextClassifier.from_preset(folder, labels=["a", "b"])

    whole = (folder / "model.weights.h5").read_bytes()
    (folder / "model.weights.h5").write_bytes(whole[: len(whole) // 2])
    fails(ValueError, "model.weights.h5 cannot be read")
    (folder / "model.weights.h5").unlink()
    fails(FileNotFoundError, "has no model.weights.h5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "class_name": "GPT2Backbone"}))
    fails(ValueError, "describes a GPT2Backbone")
