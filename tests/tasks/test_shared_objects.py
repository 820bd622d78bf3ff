"""Tasks that share an encoder, and threads that share a task: no call changes what another one computes."""

import concurrent.futures
import importlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.encoders.real_tokens import all_positions, are_all_positions_asked
from kbert.engines.litert_converter import convert
from kbert.engines.litert_interpreter import interpreter_maker
from kbert.export.verify import check
from tests.conftest import TINY

TEXTS = ["the good day", "a bad dog .", "so very good", "the cat sat on a very good day", "bad", "a film"]
LABELS = ["good", "bad", "good", "good", "bad", "good"]


def in_threads(*calls):
    """The results of functions that start at one moment, each in its thread."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait()
        return call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(run, call) for call in calls]]


def classifier_on(encoder, tokenizer):
    return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"], dropout=0.0)


def answerer_on(encoder, tokenizer):
    return kbert.QuestionAnswerer(encoder, kbert.TextPreprocessor(tokenizer, 24))


ANSWERS = [{"text": text.split()[0], "start": 0} for text in TEXTS]
QUESTIONS = (["the cat ?", "?", "a", "so", "the day ?", "very good"], TEXTS)


@pytest.fixture
def still_encoder():
    options = {**TINY, "num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return kbert.BertEncoder(kbert.BertConfig(**options))


def test_two_tasks_on_one_encoder_compute_as_each_does_alone(still_encoder, tokenizer):
    """An answerer computes all positions and a classifier the real tokens, whichever was made or compiled last."""
    answerer = answerer_on(still_encoder, tokenizer)
    answerer.compile(run_eagerly=True, metrics={})
    alone = answerer.evaluate(QUESTIONS, ANSWERS, verbose=0, return_dict=True)
    classifier = classifier_on(still_encoder, tokenizer)
    for jit_compile in (False, True):
        classifier.compile(jit_compile=jit_compile)
        assert classifier.jit_compile == jit_compile and classifier.real_tokens != jit_compile
        assert not answerer.real_tokens and still_encoder.real_tokens
        assert answerer.evaluate(QUESTIONS, ANSWERS, verbose=0, return_dict=True) == pytest.approx(alone, abs=1e-5)


def test_a_context_of_one_thread_is_no_matter_of_another(still_encoder):
    batch = {"token_ids": np.array([[2, 5, 3], [2, 3, 0]]), "padding_mask": np.array([[1, 1, 1], [1, 1, 0]])}
    entered, left = threading.Event(), threading.Event()

    def exports():
        with all_positions():
            entered.set()
            left.wait(20)
            return are_all_positions_asked(), still_encoder(batch)["sequence_output"].numpy()

    def predicts():
        entered.wait(20)
        outputs = are_all_positions_asked(), still_encoder(batch)["sequence_output"].numpy()
        left.set()
        return outputs

    (inside, all_of_them), (beside, real) = in_threads(exports, predicts)
    assert inside and not beside and not are_all_positions_asked()
    assert np.all(real[1, 2] == 0) and np.any(all_of_them[1, 2] != 0)


def test_threads_share_a_task_from_the_first_call_on(still_encoder, tokenizer):
    task = classifier_on(still_encoder, tokenizer)
    answers = in_threads(
        *[lambda: task.predict(TEXTS, batch_size=2)] * 2, lambda: np.concatenate([task.predict([text]) for text in TEXTS])
    )
    expected = task.predict(TEXTS)
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_what_is_converted_is_what_was_imported(tmp_path, monkeypatch):
    """A file that changes under a running process, as in an upgrade, has other functions at the lines of the old ones."""
    other = "def serve(inputs):\n    return {'y': inputs['x'] * 100}\n\n\n"
    source = other + "def serve_tokens(inputs):\n    return {'y': inputs['x'] + 1}\n"
    (tmp_path / "changing.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("changing").serve_tokens
    (tmp_path / "changing.py").write_text("# four more lines\n\n\n\n" + source)
    content = convert({"serving_default": (function, {"x": tf.TensorSpec([1], tf.float32, name="x")})})
    run = interpreter_maker()(content, 1).get_signature_runner("serving_default")
    assert next(iter(run(x=np.array([3], np.float32)).values())) == [4]


@pytest.mark.usefixtures("without_autograph")
def test_fit_predict_freeze_and_export_of_one_encoder_in_threads(still_encoder, tokenizer, tmp_path):
    """One task trains while others on its encoder, all of whose weights stay, answer, freeze and are exported."""
    still_encoder.trainable = False
    trained, asked = classifier_on(still_encoder, tokenizer), classifier_on(still_encoder, tokenizer)
    answerer = answerer_on(still_encoder, tokenizer)
    trained.compile(keras.optimizers.SGD(0.1))
    start = trained.classifier.get_weights()
    expected_loss = trained.fit(TEXTS, LABELS, epochs=2, shuffle=False, verbose=0).history["loss"]
    trained.classifier.set_weights(start)
    logits, spans = asked.predict(TEXTS), answerer.predict(QUESTIONS)
    trained.compile(keras.optimizers.SGD(0.1))
    history, frozen, answered, other, file, static = in_threads(
        lambda: trained.fit(TEXTS, LABELS, epochs=2, shuffle=False, verbose=0),
        lambda: asked.freeze(threads=1),
        lambda: asked.predict(TEXTS),
        lambda: answerer.predict(QUESTIONS),
        lambda: asked.export(tmp_path / "plain.tflite", format="litert", inputs="tokens", verify=False),
        lambda: asked.export(
            tmp_path / "static.tflite", format="litert", inputs="tokens", quantize="int8-static", texts=TEXTS, verify=False
        ),
    )
    assert history.history["loss"] == pytest.approx(expected_loss, abs=1e-5)
    np.testing.assert_allclose(answered, logits, atol=1e-5)
    np.testing.assert_allclose(asked.predict(TEXTS), logits, atol=1e-5)
    for name, values in spans.items():
        np.testing.assert_allclose(other[name], values, atol=1e-5)
    for answers in in_threads(*[lambda: frozen.predict(TEXTS)] * 3):
        np.testing.assert_allclose(answers, logits, atol=1e-4)
    check(file, asked)
    assert static.stat().st_size > 0
