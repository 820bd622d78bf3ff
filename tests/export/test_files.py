"""LiteRT and ONNX files of every task: token ids in, the task's outputs out, in runtimes that know nothing of kbert."""

import json
import re
import subprocess
import sys
import types
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import kbert
from kbert.export import verify
from kbert.export.agreement import agreement_of, refusal
from kbert.export.verify import compare
from kbert.tasks.probes import PROBES
from tests.conftest import TINY, tiny_tokenizer
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


LITERT_TEXT = """
import json, sys
import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps
registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
files = []
for path, columns in json.load(sys.stdin):
    interpreter = InterpreterWithCustomOps(model_path=path, custom_op_registerers=registerers)
    run, found = interpreter.get_signature_runner("serving_default"), []
    for row in zip(*columns.values()):
        outputs = run(**{name: np.array([text.encode("utf-8")]) for name, text in zip(columns, row)})
        text = {name: value.dtype.kind in "SO" for name, value in outputs.items()}
        found.append({
            name: [part.decode("utf-8") for part in value.ravel()] if text[name] else value.tolist()
            for name, value in outputs.items()
        })
    files.append(found)
assert not any(name.split(".")[0] == "kbert" for name in sys.modules)
print(json.dumps(files))
"""
ONNX_TEXT = """
import json, sys
import numpy as np
import onnxruntime
from onnxruntime_extensions import get_library_path
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(get_library_path())
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
found = [session.run(None, {"text": np.array([text], object)}) for text in json.load(sys.stdin)]
assert not any(name.split(".")[0] in ("kbert", "tensorflow") for name in sys.modules)
print(json.dumps([{name: value.tolist() for name, value in zip(names, outputs)} for outputs in found]))
"""


def answers_elsewhere(code, path, given):
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, path], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def elsewhere(code, path, inputs):
    return {name: np.array(value) for name, value in answers_elsewhere(code, path, inputs).items()}


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


TEXT_KINDS = ("single", "pairs", "multi", "regression", "tokens", "answers", "masks", "vectors")
TYPED = ["[mask] [ MASK ] a[MASK]b [[MASK]] [MASK", "[MASK][MASK]", "good"]


class TextFile(NamedTuple):
    """A LiteRT file that takes text, and the answers of a fresh process without kbert."""

    task: Any
    path: Any
    columns: tuple[list[str], ...]
    answers: list[dict]


@pytest.fixture(scope="module")
def text_files(tmp_path_factory):
    """A file of each kind, asked in one process; and as "typed" that with masks, asked for `TYPED`."""
    files, questions, folder = {}, [], tmp_path_factory.mktemp("text")
    for kind in TEXT_KINDS:
        keras.utils.set_random_seed(7)
        pairs = kind == "pairs"
        task = make(kind, kbert.BertEncoder(kbert.BertConfig(**TINY)), tiny_tokenizer())
        path = task.export(folder / f"{kind}.tflite", format="litert", inputs="text", pairs=pairs, verify=False)
        asked = {kind: task.fitting(task.probes(pairs)), **({"typed": (TYPED,)} if kind == "masks" else {})}
        for name, columns in asked.items():
            questions.append([str(path), dict(zip(task.string_inputs(pairs), columns))])
            files[name] = task, path, columns
    answers = answers_elsewhere(LITERT_TEXT, "", questions)
    return {kind: TextFile(*files[kind], found) for kind, found in zip(files, answers, strict=True)}


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_litert_takes_text(kind, text_files):
    pairs = kind == "pairs"
    task, path, columns, found = text_files[kind]
    assert len(columns[0]) > 5
    outputs = []
    for answer in found:
        arrays = {name: np.array(value) for name, value in answer.items()}
        for name, value in answer.items():
            if value and isinstance(value[0], str):
                arrays[name] = np.array([text.encode("utf-8") for text in value], object)
        outputs += task.served_answers(arrays)
    largest, wrong = compare(task.expected_answers(columns), outputs)
    assert not wrong and largest < 1e-4
    if kind == "single":
        assert [answer["label"][0] for answer in found] == [answer["label"] for answer in task.classify(*columns, verbose=0)]
    if kind == "tokens":
        spans = [
            (text, span)
            for text, answer in zip(columns[0], found)
            for span in zip(answer["start"], answer["end"], answer["entity"])
        ]
        assert all(text[start:end] == entity for text, (start, end, entity) in spans)
        assert sum(bool(entity) for _, (_, _, entity) in spans) > 5
    if kind == "masks":
        assert [answer["count"][0] for answer in found] == [text.count("[MASK]") for text in columns[0]]
    assert verify(path, task, pairs=pairs)["signatures"] == ["serving_default", "tokenize"]
    verify(path, task, columns if len(columns) > 1 else columns[0][:3], pairs=pairs)


def test_a_typed_mask_is_found_by_its_spelling_alone(text_files):
    task, _, _, found = text_files["typed"]
    assert [answer["count"] for answer in found] == [[2], [2], [0]]
    for text, answer in zip(TYPED[:2], found):
        scores = [[one["score"] for one in mask] for mask in task.fill(text)]
        np.testing.assert_allclose(np.array(answer["scores"])[:2], scores, atol=1e-5)


@pytest.mark.parametrize("kind", ["single", "multi", "regression", "vectors", "distilbert"])
def test_onnx_takes_text(kind, encoder, tokenizer, tmp_path):
    task = make(kind, encoder, tokenizer)
    path, texts = tmp_path / "model.onnx", ["The good cat sat.", "", "very BAD film! " * 20, "é good"]
    task.export(path, format="onnx", inputs="text", texts=texts)
    found = answers_elsewhere(ONNX_TEXT, path, texts)
    if kind == "vectors":
        np.testing.assert_allclose(
            [answer["sentence_embedding"][0] for answer in found], task.embed(texts, verbose=0), atol=1e-4
        )
    else:
        expected = task.classify(texts, verbose=0)
        name = "scores" if kind == "regression" else "probabilities"
        np.testing.assert_allclose(
            [answer[name][0] for answer in found], [list(answer["scores"].values()) for answer in expected], atol=1e-4
        )
    if kind == "single":
        assert [answer["label"][0] for answer in found] == [answer["label"] for answer in expected]
    verify(path, task, texts)


def test_onnx_that_would_read_text_otherwise_is_refused(minilm, encoder, tokenizer, tmp_path):
    task = kbert.TextEmbedder.from_preset(minilm, max_length=64)
    with pytest.raises(
        ValueError, match="BertTokenizer gives other ids than the task for 4 of 17 texts: .*give texts= of the kind"
    ):
        task.export(tmp_path / "model.onnx", format="onnx", inputs="text")
    with pytest.raises(ValueError, match='not for this TokenClassifier; inputs="tokens"'):
        make("tokens", encoder, tokenizer).export(tmp_path / "model.onnx", format="onnx", inputs="text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_a_file_of_other_weights_is_found_out(classifier, tmp_path, format, capsys):
    path = tmp_path / "model"  # told apart by what they are
    classifier.export(path, format=format, inputs="tokens")
    assert verify(path, classifier)["largest_difference"] < 1e-4
    assert "megabytes" in capsys.readouterr().out
    classifier.classifier.bias.assign([3.0, 0.0])
    with pytest.raises(RuntimeError, match="answers otherwise than the task .* for 'A quiet word, please.'"):
        verify(path, classifier)
    verify(path, classifier, tolerance=None, agreement=0)
    path.write_bytes(b"some other file")
    with pytest.raises(ValueError, match="neither a SavedModel, nor a LiteRT, nor an ONNX file"):
        verify(path, classifier)


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
        embedder.export(path, format="litert", quantize=quantize, verify=quantize == "int8")
        sizes[quantize] = path.stat().st_size / 1e6
        run = InterpreterWithCustomOps(
            model_path=str(path), custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
        ).get_signature_runner("serving_default")
        found = np.concatenate([run(text=np.array([text]))["embedding"] for text in texts])
        ours = embedder.embed(texts)
        assert np.abs(found - ours).max() <= near, quantize
        assert (found * ours).sum(1).min() > 0.98  # cosines
    assert sizes[None] < 92 and sizes["float16"] < 47 and sizes["int8"] < 25.5, sizes


@pytest.mark.parametrize("kind", ["single", "pairs", "tokens", "answers", "vectors", "mobilebert"])
def test_int8_static_products_have_ranges_from_texts(kind, encoder, tokenizer, tmp_path):
    from ai_edge_litert.interpreter import InterpreterWithCustomOps
    from tensorflow_text import tflite_registrar

    if kind == "mobilebert":
        config = kbert.MobileBertConfig(
            vocab_size=len(tokenizer.vocabulary),
            hidden_size=16,
            intra_bottleneck_size=8,
            embedding_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=24,
            initializer_range=0.4,
        )
        task = make("single", kbert.MobileBertEncoder(config), tokenizer)
    else:
        task = make(kind, encoder, tokenizer)
    pairs = kind in ("pairs", "answers")
    columns = task.probes(pairs=kind == "pairs")
    texts = columns if pairs else columns[0]
    before = task.predict(texts, verbose=0)
    path = tmp_path / "model.tflite"
    task.export(path, format="litert", inputs="tokens", quantize="int8-static", texts=texts)
    if kind in ("pairs", "answers"):
        task.export(tmp_path / "text.tflite", format="litert", quantize="int8-static", texts=texts, pairs=kind == "pairs")
    interpreter = InterpreterWithCustomOps(
        model_path=str(path), custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS, experimental_preserve_all_tensors=True
    )
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    products = [op for op in interpreter._get_ops_details() if op["op_name"] == "FULLY_CONNECTED"]
    assert products and all(types[op[side][0]] == np.int8 for op in products for side in ("inputs", "outputs"))
    run, near = interpreter.get_signature_runner("serving_default"), []
    for row in zip(*columns):
        packed = kbert.TextPreprocessor(tokenizer, 24, fixed_length=True)(tuple([text] for text in row))
        found, real = run(**{name: ids.numpy() for name, ids in packed.items()}), packed["padding_mask"].numpy()[0] == 1
        for name, value in outputs_of(task, packed).items():
            other = found["embedding" if kind == "vectors" else name]
            near += [(part[:, real] if task.positional else part).ravel() for part in (value, other)]
    ours, theirs = np.concatenate(near[::2]), np.concatenate(near[1::2])
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98
    after = task.predict(texts, verbose=0)  # the task itself computes as before
    for ours, theirs in zip(
        before.values() if kind == "answers" else [before], after.values() if kind == "answers" else [after]
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["context", "question"], "x takes context, question, and the task's files take text: it was made from another task"),
        (["text", "text_pair"], "x takes text, text_pair, and the task's files take text: it was made from"),
        (["text"], "x has no output 'probabilities', only label, scores: it was made from another task"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_file_of_another_kind_of_task_is_named(classifier, monkeypatch, inputs, said, at_once):
    file = types.SimpleNamespace(path="x", inputs=inputs, takes_many_texts=at_once, signatures=[], length=None)
    file.run = lambda given, signature="serving_default": {"label": [b"a"], "scores": [1.0]}
    module = sys.modules[compare.__module__]
    monkeypatch.setattr(module, "open_exported", lambda path: file)
    monkeypatch.setattr(module, "compare_ids", lambda *_: None)
    with pytest.raises(ValueError, match=re.escape(said)):
        module.check("x", classifier, columns=(["a cat"],))


def with_other_weights(task, seed):
    """The task with random weights of a seed, as its own have been."""
    random = np.random.default_rng(seed)
    for variable in task.variables:
        if variable.ndim > 1:
            variable.assign(random.normal(0, 0.2, variable.shape))
    return task


@pytest.mark.parametrize("kind", ["single", "multi", "regression", "tokens", "answers", "masks", "vectors"])
def test_answers_of_other_weights_do_not_pass_for_int8s(kind, encoder, tokenizer):
    task = make(kind, encoder, tokenizer)
    answers = [with_other_weights(task, seed).expected_answers(task.probes()) for seed in range(11)]
    for other in answers[1:]:
        assert refusal(agreement_of(answers[0], other), 0.95, len(PROBES))
        assert not refusal(agreement_of(answers[0], other), 0, len(PROBES))
        assert refusal(agreement_of(answers[0], other), 0.95, 1)
    near = [answer._replace(near=answer.near * (1 + 0.01 * np.sin(np.arange(answer.near.size)).reshape(answer.near.shape)))
            for answer in answers[0]]  # fmt: skip
    assert refusal(agreement_of(answers[0], near), 0.95, len(PROBES)) is None


def test_an_int8_file_of_other_weights_is_refused_with_the_change_of_its_numbers(encoder, tokenizer, tmp_path):
    task = with_other_weights(make("single", encoder, tokenizer), 0)
    for format in ("litert", "onnx"):
        task.export(tmp_path / format, format=format, inputs="tokens", quantize="int8")
        assert verify(tmp_path / format, task, tolerance=None)["agreement"] > 0.9
    for seed in (1, 2):
        with_other_weights(task, seed)
        for format in ("litert", "onnx"):
            with pytest.raises(RuntimeError, match=r"the largest change of a number is \d"):
                verify(tmp_path / format, task, tolerance=None)
    with pytest.raises(ValueError, match="agreement is for int8 files"):
        task.export(tmp_path / "x", format="litert", agreement=0.9)
    with pytest.raises(ValueError, match="agreement should be a share"):
        task.export(tmp_path / "x", format="onnx", quantize="int8", agreement=95)


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
        ("litert", {"inputs": "words"}, 'inputs should be "text" or "tokens"'),
        ("litert", {"quantize": "int4"}, "quantize should be one of"),
        ("litert", {"quantize": "int8-static"}, "some hundred as texts="),
        ("litert", {"quantize": "int8-static", "texts": []}, "some hundred"),
        ("litert", {"quantize": "int8", "texts": ["good"]}, "texts are what quantize"),
        ("onnx", {"inputs": "words"}, 'inputs should be "tokens"'),
        ("onnx", {"texts": ["good"]}, 'texts are for inputs="text"'),
        ("onnx", {"quantize": "float16"}, "quantize should be"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(classifier, tmp_path, format, arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier.export(tmp_path / "x", format=format, **arguments)
    assert not list(tmp_path.iterdir())
