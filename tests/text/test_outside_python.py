"""The same ids and offsets from a SavedModel and a .tflite, in a process that cannot import kbert."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf

import kbert
from tests.text.reference import read_texts

# Run with -I and a hook that hides kbert, which is as good as uninstalled.
CLIENT = """
import json, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kbert":
            raise ImportError("kbert is not here")
sys.meta_path.insert(0, Hidden())
import numpy as np, tensorflow as tf, tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps
folder, path, texts = json.load(sys.stdin)
names = ("ids", "starts", "ends")
signature = tf.saved_model.load(folder).signatures["serving_default"]
outputs = signature(text=tf.constant(texts))
saved_model = [tf.RaggedTensor.from_row_splits(outputs[name][:-1], outputs["splits"]).to_list() for name in names]
registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
interpreter = InterpreterWithCustomOps(model_path=path, custom_op_registerers=registerers)
runner = interpreter.get_signature_runner()
litert = [[], [], []]
for text in texts:
    outputs = runner(text=np.array([text.encode()]))
    for part, name in zip(litert, names):
        part.append(outputs[name].tolist()[:-1])
print(json.dumps([saved_model, litert]))
"""
NAMES = [
    "bbc",
    "twitter_emotion.csv",
    "sms_spam.tsv",
    "wikitext2_valid.txt",
    "xquad/xquad.ar.json",
    "xquad/xquad.hi.json",
    "xquad/xquad.th.json",
]
ODD = ["", "a" * 101 + " b", "é" * 100, "\x00", "你好 각각 ﬁ", "[MASK] \U000f0001", "e\u0301\u0327\u0301"]


@pytest.fixture(scope="module")
def exported(minilm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = kbert.WordPieceTokenizer.from_preset(minilm)
    module = tf.Module()

    def tokenize(text):
        ids, starts, ends = tokenizer.tokenize_with_offsets(text)
        # LiteRT's Python interface cannot hand over an empty tensor: one number more, which the client takes off.
        parts = {"ids": ids.values, "starts": starts.values, "ends": ends.values}
        return {"splits": ids.row_splits, **{name: tf.concat([values, [-1]], 0) for name, values in parts.items()}}

    module.tokenize = tf.function(tokenize, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    tf.saved_model.save(module, folder / "1", signatures=module.tokenize)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.tokenize.get_concrete_function()], module)
    converter.allow_custom_ops = True
    (folder / "tokenizer.tflite").write_bytes(converter.convert())
    return tokenizer, folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ids_and_offsets_are_the_same_without_kbert(exported, name, request):
    tokenizer, folder = exported
    texts = read_texts(name, None if name == "bbc" else request.getfixturevalue("shared_data")) + ODD
    expected = [part.to_list() for part in tokenizer.tokenize_with_offsets(texts)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT],
        input=json.dumps([str(folder / "1"), str(folder / "tokenizer.tflite"), texts]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    saved_model, litert = json.loads(done.stdout)
    assert saved_model == expected
    assert litert == expected


def test_a_tokenizer_alone_is_small(exported):
    _, folder = exported
    assert (folder / "tokenizer.tflite").stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in (folder / "1").rglob("*") if path.is_file()) < 3_200_000
