"""A folder, loaded by a C program through TensorFlow's C API, as TF Serving loads it.

The program has tensorflow-text's libraries and nothing else.
"""

import pathlib
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import kbert
from tests.conftest import TINY, tiny_tokenizer

LIBRARIES = ("_fast_bert_normalizer", "_fast_wordpiece_tokenizer", "_whitespace_tokenizer_v2")
TEXTS = ["the good cat sat .", "", "Élan VITAL: naïve café", "你好，世界 🙂", "bad " * 60, "[MASK] x"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled program, and tensorflow-text's libraries."""
    import tensorflow_text

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    folder = pathlib.Path(tf.sysconfig.get_lib())
    path = tmp_path_factory.mktemp("c") / "serve"
    source = pathlib.Path(__file__).with_name("serve.c")
    libraries = [folder / name for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")]
    if not all(library.is_file() for library in libraries):
        pytest.skip("this TensorFlow has no libraries for C")
    subprocess.run(
        [compiler, "-O1", "-Wall", "-o", path, source, f"-I{tf.sysconfig.get_include()}", *libraries, f"-Wl,-rpath,{folder}"],
        check=True,
        capture_output=True,
        text=True,
    )
    ops = pathlib.Path(tensorflow_text.__file__).parent / "python" / "ops"
    return path, [ops / f"{name}.so" for name in LIBRARIES]


def run(program, folder, libraries, name="probabilities"):
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    output, _, index = signature.outputs[name].name.partition(":")
    return subprocess.run(
        [program, folder, signature.inputs["text"].name.partition(":")[0], output, index, *libraries],
        input="\n".join(TEXTS) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A classifier and its folder."""
    keras.utils.set_random_seed(7)
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tiny_tokenizer(), 24), labels=["bad", "good"])
    return task, task.export(tmp_path_factory.mktemp("exported") / "1", verify=False)


def test_a_c_program_gets_the_tasks_answers(program, exported):
    classifier, folder = exported
    done = run(program[0], folder, program[1])
    assert done.returncode == 0, done.stderr[-2000:]
    found = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    expected = [list(answer["scores"].values()) for answer in classifier.classify(TEXTS, verbose=0)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_c_program_gets_entities_row_by_row(program, encoder, tokenizer, tmp_path):
    task = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["O", "B-x", "I-x", "B-y"])
    task.export(tmp_path / "1", verify=False)
    done = run(program[0], tmp_path / "1", program[1], "score")
    assert done.returncode == 0, done.stderr[-2000:]
    found = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    for row, entities in zip(found, task.classify(TEXTS, verbose=0), strict=True):
        scores = [entity["score"] for entity in entities]
        np.testing.assert_allclose(row, scores + [0.0] * (len(row) - len(scores)), atol=1e-5)


def test_without_the_libraries_the_op_is_named(program, exported):
    done = run(program[0], exported[1], [])
    assert done.returncode == 1 and "Op type not registered" in done.stderr
