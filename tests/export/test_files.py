"""LiteRT and ONNX files of every task: token ids in, the task's outputs out, in runtimes that know nothing of kbert."""

import json
import subprocess
import sys

import numpy as np
import pytest

import kbert
from kbert.export.verify import PROBES
from tests.conftest import TINY
from tests.export.test_saved_model import make

KINDS = ("single", "multi", "regression", "tokens", "answers", "masks", "vectors", "distilbert")
LITERT = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
path, inputs = sys.argv[1], json.load(sys.stdin)
run = Interpreter(model_path=path).get_signature_runner("serving_default")
outputs = run(**{name: np.array(ids, np.int32) for name, ids in inputs.items()})
assert not any(name.split(".")[0] in ("kbert", "tensorflow", "tensorflow_text") for name in sys.modules)
print(json.dumps({name: value.tolist() for name, value in outputs.items() if value.dtype.kind == "f"}))
"""
ONNX = """
import json, sys
import numpy as np
import onnxruntime
path, inputs = sys.argv[1], json.load(sys.stdin)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
wanted = [i.name for i in session.get_inputs()]
outputs = session.run(None, {name: np.array(inputs[name], np.int64) for name in wanted})
assert not any(name.split(".")[0] in ("kbert", "tensorflow") for name in sys.modules)
print(json.dumps({output.name: value.tolist() for output, value in zip(session.get_outputs(), outputs)}))
"""


def elsewhere(code, path, inputs):
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, path], input=json.dumps(inputs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: np.array(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def outputs_of(task, packed):
    outputs = task(packed, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_litert_takes_tokens_in_built_in_ops(kind, encoder, tokenizer, tmp_path):
    task = make(kind, encoder, tokenizer)
    task.export(tmp_path / "model.tflite", format="litert", inputs="tokens")
    packed = kbert.TextPreprocessor(tokenizer, 24, fixed_length=True)([PROBES[4] + " the cat sat ."])
    found = elsewhere(LITERT, tmp_path / "model.tflite", {name: ids.numpy().tolist() for name, ids in packed.items()})
    for name, value in outputs_of(task, packed).items():
        name = "embedding" if kind == "vectors" else name
        real = packed["padding_mask"].numpy()[0].astype(bool)
        value, other = (part[:, real] if task.positional else part for part in (value, found[name]))
        np.testing.assert_allclose(other, value, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_has_hugging_faces_names_and_the_tasks_outputs(kind, encoder, tokenizer, tmp_path):
    task = make(kind, encoder, tokenizer)
    task.export(tmp_path / "model.onnx", format="onnx", inputs="tokens")
    packed = task.preprocessor(PROBES)
    given = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
    found = elsewhere(ONNX, tmp_path / "model.onnx", {theirs: packed[ours].numpy().tolist() for theirs, ours in given.items()})
    real = packed["padding_mask"].numpy().astype(bool)
    for name, value in outputs_of(task, packed).items():
        name = "sentence_embedding" if kind == "vectors" else name
        value, other = (part[real] if task.positional else part for part in (value, found[name]))
        np.testing.assert_allclose(other, value, atol=1e-4)
    import onnx

    model = onnx.load(tmp_path / "model.onnx")
    assert model.opset_import[0].version >= 17
    names = [value.name for value in model.graph.input]
    assert names == [
        name for name in given if name != "token_type_ids" or encoder.config.type_vocab_size and kind != "distilbert"
    ]
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]


def test_quantized_files_are_smaller_and_near(minilm, tmp_path):
    embedder = kbert.TextEmbedder.from_preset(minilm, max_length=32)
    from ai_edge_litert.interpreter import InterpreterWithCustomOps
    from tensorflow_text import tflite_registrar

    texts = [text.encode() for text in PROBES]
    sizes = {}
    for quantize, near in ((None, 1e-4), ("float16", 5e-3), ("int8", 0.1)):
        path = tmp_path / f"{quantize}.tflite"
        embedder.export(path, format="litert", quantize=quantize)
        sizes[quantize] = path.stat().st_size / 1e6
        run = InterpreterWithCustomOps(
            model_path=str(path), custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
        ).get_signature_runner("serving_default")
        found = np.concatenate([run(text=np.array([text]))["embedding"] for text in texts])
        ours = embedder.embed(texts)
        assert np.abs(found - ours).max() <= near, quantize
        assert (found * ours).sum(1).min() > 0.98  # cosines
    assert sizes[None] < 93.5 and sizes["float16"] < 48.5 and sizes["int8"] < 26.2, sizes


def test_onnx_int8_is_smaller(tokenizer, tmp_path):
    config = kbert.BertConfig(**{**TINY, "hidden_size": 128, "intermediate_size": 512})
    task = kbert.TextEmbedder(kbert.BertEncoder(config), kbert.TextPreprocessor(tokenizer, 24))
    for quantize in (None, "int8"):
        task.export(tmp_path / f"{quantize}.onnx", format="onnx", quantize=quantize)
    sizes = [(tmp_path / f"{quantize}.onnx").stat().st_size for quantize in (None, "int8")]
    assert sizes[1] < sizes[0] / 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("format", "arguments", "message"),
    [
        ("litert", {"inputs": "words"}, 'inputs should be "text" or "tokens"'), ("litert", {"quantize": "int4"}, "quantize should be one of"),
        ("onnx", {"inputs": "text"}, 'inputs should be "tokens"'), ("onnx", {"quantize": "float16"}, "quantize should be"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(classifier, tmp_path, format, arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier.export(tmp_path / "x", format=format, **arguments)
    assert not list(tmp_path.iterdir())
