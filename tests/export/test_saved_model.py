"""SavedModels of every task, opened in fresh processes without kbert, and in the TensorFlow versions that servers run."""

import base64
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.export import verify
from kbert.export.exported_file import SavedModelFile
from kbert.export.verify import ALLOWED_OPS, compare
from kbert.tasks.probes import PROBES
from tests.conftest import TINY, tiny_tokenizer
from tests.export.stock_server import serialized

OPENER = Path(__file__).with_name("open_elsewhere.py")
ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("2.12.1", "2.20.0")  # `make test-serving` makes .venv-serving-<version>


def make(kind, encoder, tokenizer):
    preprocessor = kbert.TextPreprocessor(tokenizer, max_length=24)
    if kind in ("single", "pairs"):
        return kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good", "über"])
    if kind == "multi":
        return kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"], problem_type="multi_label")
    if kind == "regression":
        return kbert.TextClassifier(encoder, preprocessor, problem_type="regression")
    if kind == "windows":
        return kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"], window_stride=4)
    if kind == "tokens":
        return kbert.TokenClassifier(encoder, preprocessor, labels=["O", "B-x", "I-x", "B-y"], window_stride=5)
    if kind == "distilbert":
        config = kbert.BertConfig(**TINY, type_vocab_size=0, add_pooling_layer=False)
        return kbert.TextClassifier(kbert.BertEncoder(config), preprocessor, labels=["bad", "good"])
    return {"answers": kbert.QuestionAnswerer, "masks": kbert.MaskedLM, "vectors": kbert.TextEmbedder}[kind](
        encoder, preprocessor
    )


KINDS = ("single", "pairs", "multi", "regression", "windows", "tokens", "answers", "masks", "vectors", "distilbert")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each kind of task once, with its folder."""

    made = {}

    def get(kind):
        if kind not in made:
            encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
            task = make(kind, encoder, tiny_tokenizer())
            path = tmp_path_factory.mktemp(kind) / "1"
            task.export(path, pairs=kind == "pairs")
            made[kind] = task, path
        return made[kind]

    return get


@pytest.fixture(scope="module")
def signatures(exported):
    """The signatures of each kind's folder, opened once."""
    opened = {}

    def get(kind):
        if kind not in opened:
            opened[kind] = tf.saved_model.load(exported(kind)[1])
        return opened[kind].signatures

    return get


def ask(questions, python=sys.executable):
    done = subprocess.run([python, "-I", OPENER], input=json.dumps(questions), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.filterwarnings("error")
def test_an_export_says_nothing_of_its_own_texts_and_graphs(classifier, tmp_path, caplog):
    """The texts that exports are compared on are longer than `max_length`, and gradients stay behind: both are kbert's own."""
    classifier.export(tmp_path / "1")
    assert "gradient" not in caplog.text and "Assets" not in caplog.text
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than max_length=24"):  # the user's own notice is still there
        classifier.predict(["good " * 30], verbose=0)


DOCUMENTED = {
    "spam": "single", "nli": "pairs", "stars": "regression", "topics": "multi", "ner": "tokens", "words": "masks",
    "qa": "answers", "vectors": "vectors",
}  # fmt: skip


def test_the_documented_answers_have_the_names_types_and_axes_of_the_outputs(signatures):
    """docs/serving_answers.py writes the answers of trained tasks into the page."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    seen = set()
    for place, end, path, body in runpy.run_path(str(ROOT / "docs" / "serving_answers.py"))["requests_of"](page):
        name, api = path.split("/")[-1].split(":")
        request, answer = json.loads(body), json.loads(page[place:end])
        assert "error" not in answer
        if api != "predict":
            assert len(answer["results"]) == len(request["examples"])
            continue
        signature = signatures(DOCUMENTED[name])[request.get("signature_name", "serving_default")]
        outputs = signature.structured_outputs
        if "inputs" in request:
            rows, axes = [answer["outputs"]], 0
        else:
            rows, axes = answer["predictions"], 1
            assert len(rows) == len(request["instances"])
        for row in rows:
            values = row if isinstance(row, dict) else {next(iter(outputs)): row}
            assert set(values) == set(outputs)
            for output, value in values.items():
                for _ in range(len(outputs[output].shape) - axes):
                    assert isinstance(value, list)
                    value = value[0] if value else None
                kind = {tf.string: str, tf.int32: int, tf.float32: float}[outputs[output].dtype]
                assert value is None or type(value) is kind
        seen.add(name)
    assert seen == set(DOCUMENTED)


def names_of(task, kind):
    return ("text", "text_pair") if kind == "pairs" else task.text_inputs


def answers_elsewhere(exported, python=sys.executable):
    """Asks all folders in one process, and gives its answers and its TensorFlow's version."""
    questions = []
    for kind in KINDS:
        task, folder = exported(kind)
        given = dict(zip(names_of(task, kind), task.probes(kind == "pairs")))
        questions += [[str(folder), "serving_default", given], [str(folder), "tokenize", given]]
    rows = ["base64:" + base64.b64encode(row).decode() for row in serialized({"text": PROBES[:4]})]
    return ask([*questions, [str(exported("single")[1]), "classify", {"inputs": rows}]], python)


@pytest.fixture(scope="module")
def fresh(exported):
    """The answers of a fresh process."""
    return answers_elsewhere(exported)


def check_answers(found, exported):
    for place, kind in enumerate(KINDS):
        task, _ = exported(kind)
        columns = task.probes(kind == "pairs")
        answer, ids = found["answers"][2 * place : 2 * place + 2]
        outputs = {name: np.array(value) for name, value in answer.items()}
        for name, value in outputs.items():
            if value.dtype.kind == "U":
                outputs[name] = np.array([text.encode("utf-8") for text in value.ravel()], object).reshape(value.shape)
        largest, wrong = compare(task.expected_answers(columns), task.served_answers(outputs))
        assert not wrong and largest < 1e-4, kind
        packed = task.preprocessor(columns if len(columns) > 1 else columns[0])
        assert ids == {name: value.numpy().tolist() for name, value in packed.items()}, kind


def test_a_fresh_process_without_kbert_answers_as_each_task(exported, fresh):
    check_answers(fresh, exported)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_versions_that_servers_run_answer_as_each_task(exported, version):
    python = ROOT / f".venv-serving-{version}" / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"TensorFlow {version} is not here: make test-serving")
    found = answers_elsewhere(exported, python)
    check_answers(found, exported)
    assert found["version"] == version


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_are_made_of_ops_that_servers_know(exported, kind):
    assert set(SavedModelFile(exported(kind)[1]).ops()) <= ALLOWED_OPS


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_texts_and_none(exported, signatures, kind):
    task, _ = exported(kind)
    signature = signatures(kind)["serving_default"]
    for texts in ([], ["good cat"] * 5, ["", "good " * 3000]):
        outputs = signature(**{name: tf.constant(texts, tf.string) for name in names_of(task, kind)})
        assert all(len(value) == len(texts) for value in outputs.values())


def test_any_request_is_answered_or_refused_by_the_name_of_an_input(exported):
    """In TensorFlow's C++ session, as TF Serving runs it: any axes, sizes and values of the declared types."""
    folders = [str(exported(kind)[1]) for kind in ("single", "pairs", "tokens", "answers", "masks")]
    script = [sys.executable, "-m", "tests.export.random_requests", "50", "7", *folders]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"died at {done.stdout.splitlines()[-1:]} {done.stderr[-2000:]}"
    counts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(counts) == len(folders)
    for folder, count in zip(folders, counts):
        assert not count["wrong"], (folder, count["wrong"])
        assert min(count["answered"], count["refused"]) > 10, (folder, count)


@pytest.mark.parametrize("kind", ["single", "pairs", "tokens", "answers", "masks", "vectors"])
def test_bytes_that_are_no_utf8_change_no_other_row(exported, signatures, kind):
    task, _ = exported(kind)
    names = names_of(task, kind)
    good = [["good cat [MASK]", "Élan the film so bad .", "the dog"][place % 3] for place in range(63)]
    bad = [b"\xff", b"caf\xe9 good \xe4\xbd cat", b"a \xed\xa0\x80 cat [MASK]", b"\xf8\x88\x80\x80\x80 the bad film"]
    signature = signatures(kind)["serving_default"]

    def answers(texts):
        outputs = signature(**{name: tf.constant(texts) for name in names})
        return task.served_answers({name: value.numpy() for name, value in outputs.items()})

    for invalid in bad if kind == "tokens" else bad[1:2]:
        found = answers([text.encode() for text in good] + [invalid])
        largest, wrong = compare(answers(good + [invalid.decode("utf-8", "replace")]), found)
        assert not wrong and largest < 1e-5


def test_columns_of_other_sizes_are_refused_by_name(signatures):
    ask = signatures("pairs")["serving_default"]
    for text, other in ((["good", "bad"], ["day"]), (["good"], ["day", "bad"]), (["good"], [])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="inputs text, text_pair should have the same shape"):
            ask(text=tf.constant(text), text_pair=tf.constant(other, tf.string))
    for name, ids in {"token_ids": [[2, 99]], "segment_ids": [[0, 2]], "padding_mask": [[0, 0]]}.items():
        right = {"token_ids": [[2, 3]], "segment_ids": [[0, 0]], "padding_mask": [[1, 1]]}
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"input {name} should have|input {name} should hold"):
            signatures("pairs")["tokens"](**{key: tf.constant(value) for key, value in {**right, name: ids}.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_in_give_the_outputs_of_a_call(exported, signatures, kind):
    task, _ = exported(kind)
    packed = task.preprocessor(["good cat", "the film so bad"])
    outputs = signatures(kind)["tokens"](**packed)
    expected = task(packed)
    if isinstance(expected, dict):
        for name in expected:
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    else:
        np.testing.assert_allclose(outputs["embedding" if kind == "vectors" else "logits"], expected, atol=1e-5)


def method_of(path, name):
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return model.meta_graphs[0].signature_def[name].method_name


def test_the_classify_api_takes_examples(exported, fresh):
    task, path = exported("single")
    found = fresh["answers"][-1]
    assert found["classes"] == [task.labels] * 4
    expected = [list(answer["scores"].values()) for answer in task.classify(PROBES[:4])]
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    assert method_of(path, "classify") == "tensorflow/serving/classify"
    assert method_of(path, "serving_default") == "tensorflow/serving/predict"


def test_the_classify_api_takes_pairs(exported, signatures):
    task, _ = exported("pairs")
    signature = signatures("pairs")["classify"]
    found = signature(inputs=tf.constant(serialized({"text": ["good"], "text_pair": ["bad"]})))
    np.testing.assert_allclose(found["scores"], task.probabilities(task.predict((["good"], ["bad"]))), atol=1e-5)


def test_the_regress_api_takes_examples(exported, signatures):
    task, path = exported("regression")
    found = signatures("regression")["regress"](inputs=tf.constant(serialized({"text": ["good", ""]})))
    np.testing.assert_allclose(found["outputs"], task.predict(["good", ""]), atol=1e-5)
    assert method_of(path, "regress") == "tensorflow/serving/regress"


@pytest.mark.parametrize("kind", ["single", "pairs", "regression", "tokens", "answers"])
def test_the_order_of_labels_is_read_from_the_model(exported, signatures, kind):
    task, path = exported(kind)
    assert not (path / "fingerprint.pb").exists()  # that of the file before its methods were named
    if kind == "answers":
        assert "labels" not in signatures(kind)
        return
    for rows in (0, 1, 2):
        found = signatures(kind)["labels"](text=tf.constant([""] * rows, tf.string))["labels"].numpy()
        assert found.tolist() == [[label.encode() for label in task.labels]] * rows


@pytest.mark.parametrize("kind", ["tokens", "answers"])
def test_offsets_are_of_characters_in_any_script(exported, signatures, kind):
    task, _ = exported(kind)
    columns = task.probes()
    outputs = signatures(kind)["serving_default"](
        **{name: tf.constant(column) for name, column in zip(task.text_inputs, columns)}
    )
    texts, found = columns[-1], 0
    spans = outputs["entity" if kind == "tokens" else "answer"].numpy()
    for text, *row in zip(texts, spans, outputs["start"].numpy(), outputs["end"].numpy()):
        for span, start, end in zip(*row) if kind == "tokens" else [row]:
            assert text[start:end] == span.decode("utf-8") or (start, end, span) == (-1, -1, b"")
            found += start >= 0
    assert found > 5


def test_what_stands_behind_the_last_entity_is_empty(signatures, exported):
    task, _ = exported("tokens")
    texts = ["good cat dog night", "", "the film so bad . the cat"]
    outputs = {name: value.numpy() for name, value in signatures("tokens")["serving_default"](text=tf.constant(texts)).items()}
    expected = [len(entities) for entities in task.classify(texts)]
    assert outputs["count"].tolist() == expected and max(expected) > min(expected) == 0
    for name, filler in {"label": b"", "entity": b"", "start": -1, "end": -1, "score": 0.0}.items():
        assert outputs[name].shape == (3, max(expected)) and (outputs[name][1] == filler).all()


def test_a_difference_is_found_and_named(exported, classifier, tmp_path):
    classifier.export(tmp_path / "1", verify=False)
    verify(tmp_path / "1", classifier)
    classifier.classifier.bias.assign([3.0, 0.0])
    with pytest.raises(RuntimeError, match="answers otherwise than the task .* for 'A quiet word, please.'"):
        verify(tmp_path / "1", classifier)
    assert (tmp_path / "1").is_dir()
    with pytest.raises(FileNotFoundError, match="is not an exported model"):
        verify(tmp_path, classifier)


def test_an_untrained_head_is_said(tiny_folder, tmp_path, texts_and_labels):
    import warnings

    with pytest.warns(UserWarning, match="newly initialized"):
        task = kbert.TextClassifier.from_preset(tiny_folder, labels=["bad", "good"])
    for format in ("tf_saved_model", "litert", "onnx"):
        with pytest.warns(UserWarning, match="never trained, though exported: .*classification head"):
            task.export(tmp_path / format, format=format, verify=False)
    task.compile(run_eagerly=True)
    task.fit(*texts_and_labels, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.export(tmp_path / "2", verify=False)


def test_what_cannot_be_exported_says_so(exported, encoder, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="pairs=True is for a TextClassifier"):
        exported("vectors")[0].export(tmp_path / "1", pairs=True)
    with pytest.raises(ValueError, match="BIO, BIOES or BILOU tag"):
        kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["noun", "verb"]).export(tmp_path / "1")
    with pytest.raises(NotImplementedError, match="a Pretrainer cannot be exported"):
        kbert.Pretrainer(encoder, kbert.TextPreprocessor(tokenizer, 24)).export(tmp_path / "1")
    assert not list(tmp_path.iterdir())
