"""Exports that take strings, opened in a fresh process that does not know kbert."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kbert
from tests.conftest import BAD, GOOD, TINY, tiny_tokenizer

CLIENT = Path(kbert.__file__).parent / "commands" / "answer_without_kbert.py"
PROBES = [
    "good cat", "", "a" * 101, "b" * 100, "Élan VITAL: naïve café!", "你好，世界 🙂", "the " * 100, "[MASK] [SEP]",
    "x\0y\u200dz",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """A classifier that has learned something, which no test changes."""
    keras.utils.set_random_seed(7)
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tiny_tokenizer(), 24), labels=["bad", "good"])
    task.compile(learning_rate=1e-2, run_eagerly=True)
    task.fit(GOOD + BAD, ["good"] * len(GOOD) + ["bad"] * len(BAD), epochs=2, verbose=0)
    return task


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """Its SavedModel."""
    return trained.export(tmp_path_factory.mktemp("models") / "1")


def test_both_formats_answer_as_the_task_does_without_kbert(trained, folder, tmp_path):
    trained.export(tmp_path / "model.tflite", format="litert", inputs="text")
    done = subprocess.run(
        [sys.executable, "-I", CLIENT, folder, tmp_path / "model.tflite"],
        input=json.dumps(PROBES),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.pop("kbert_imported") is False
    expected = trained.classify(PROBES)
    for engine, tolerance in (("SavedModel", 1e-5), ("LiteRT", 1e-4)):
        assert answers[engine]["labels"] == [answer["label"] for answer in expected], engine
        probabilities = [list(answer["scores"].values()) for answer in expected]
        np.testing.assert_allclose(answers[engine]["probabilities"], probabilities, atol=tolerance, err_msg=engine)


def test_saved_model_states_its_signature_and_takes_any_batch(folder):
    import tensorflow as tf

    signature = tf.saved_model.load(folder).signatures["serving_default"]
    (argument,) = signature.structured_input_signature[1].values()
    assert argument.name == "text" and argument.dtype == tf.string and argument.shape.as_list() == [None]
    for count in (0, 1, 5):
        outputs = signature(text=tf.constant(["good cat"] * count, tf.string))
        assert outputs["label"].shape == outputs["score"].shape == (count,)
        assert outputs["probabilities"].shape == (count, 2)


def test_weights_are_stored_once(trained, folder):
    stored = sum(path.stat().st_size for path in (folder / "variables").iterdir())
    weights = sum(variable.numpy().nbytes for variable in trained.variables)
    assert stored < weights + 20_000


def test_weights_in_float16_take_half_the_bytes(trained, tmp_path):
    trained.export(tmp_path / "1", quantize="float16")  # compared with the task, within 5e-3
    stored = sum(path.stat().st_size for path in (tmp_path / "1" / "variables").iterdir())
    weights = sum(variable.numpy().nbytes for variable in trained.variables)
    assert stored < weights / 2 + 20_000
    assert all(variable.dtype == "float32" for variable in trained.weights)
    with pytest.raises(ValueError, match='None or "float16" for a SavedModel'):
        trained.export(tmp_path / "2", quantize="int8")


@pytest.mark.parametrize("format", ["tf_saved_model", "litert"])
def test_what_is_there_is_not_overwritten_unasked(trained, tmp_path, format):
    target = tmp_path / "target"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.export(target, format=format)
    assert target.read_text() == "mine"
    if format == "tf_saved_model":
        with pytest.raises(FileExistsError, match="target is a file, which a SavedModel's folder does not replace"):
            trained.export(target, format=format, overwrite=True, verify=False)
        assert target.read_text() == "mine"
    else:
        trained.export(target, format=format, overwrite=True, verify=False)
        assert target.read_bytes() != b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interrupted_export_leaves_nothing(trained, tmp_path, monkeypatch, problem):
    import tensorflow as tf

    def half(module, path, **_):
        Path(path).mkdir()
        (Path(path) / "saved_model.pb").write_text("half")
        raise problem

    monkeypatch.setattr(tf.saved_model, "save", half)
    with pytest.raises((KeyboardInterrupt, OSError)):
        trained.export(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_clear(trained, encoder, tmp_path):
    with pytest.raises(ValueError, match="one of tf_saved_model, litert, onnx, got 'pickle'"):
        trained.export(tmp_path / "x", format="pickle")
    with pytest.raises(ValueError, match="max_length 99 is more than the encoder's 24"):
        trained.export(tmp_path / "x", format="litert", max_length=99)
    packed_only = kbert.TextClassifier(encoder, preprocessor=None, labels=["bad", "good"])
    for format in ("tf_saved_model", "litert"):
        with pytest.raises(ValueError, match="preprocessor"):
            packed_only.export(tmp_path / "x", format=format)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_answer_to_a_text_says_so(encoder, tokenizer, tmp_path):
    task = kbert.Pretrainer(encoder, kbert.TextPreprocessor(tokenizer, 24))
    with pytest.raises(NotImplementedError, match="a Pretrainer has no answer to a text"):
        task.export(tmp_path / "x", format="litert")


def test_an_embedder_exports_strings_to_vectors(encoder, tokenizer, tmp_path):
    import tensorflow as tf

    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24))
    task.export(tmp_path / "1")
    signature = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    texts = ["good cat", "", "the film"]
    np.testing.assert_allclose(signature(text=tf.constant(texts))["embedding"], task.embed(texts), atol=1e-5)
