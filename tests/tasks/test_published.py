"""Every architecture in the shape that its publishers use, narrowed: each verb, training, `freeze`, presets and exports.

Published tables have more rows than their vocabularies have tokens, as padded checkpoints do.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from tests.conftest import BAD, GOOD, VOCABULARY, tiny_tokenizer

TOKENS = len(VOCABULARY)
ROWS = TOKENS + 6
FEW = dict(vocab_size=ROWS, max_position_embeddings=24, num_hidden_layers=2, initializer_range=0.2)
BERT = functools.partial(kbert.BertConfig, **FEW, hidden_size=24, num_attention_heads=12, intermediate_size=96)
CASED = {"lowercase": False}
# google/mobilebert-uncased's config.json: a trigram embedding a quarter as wide as the rows, bottlenecks with shared queries
# and keys, 4 feed-forwards, no norms. The pooler of a checkpoint without `classifier_activation` has no weights.
MOBILE = functools.partial(
    kbert.MobileBertConfig, **FEW, hidden_size=32, embedding_size=8, intra_bottleneck_size=8, intermediate_size=32,
    num_attention_heads=4, num_feedforward_networks=4, trigram_input=True, hidden_dropout_prob=0.0,
)  # fmt: skip
PUBLISHED = {
    "bert-base-uncased": (BERT, {}),
    "bert-base-cased": (BERT, CASED),
    "bert-base-multilingual-cased": (BERT, {**CASED, "tokenize_chinese_chars": True}),
    "distilbert-base-uncased": (functools.partial(BERT, type_vocab_size=0, add_pooling_layer=False), {}),
    "mobilebert-uncased": (functools.partial(MOBILE, classifier_activation=False), {}),
    "mobilebert-with-a-pooler": (MOBILE, {}),
    "TinyBERT-4L-312": (functools.partial(BERT, hidden_size=36, intermediate_size=120, num_hidden_layers=4), {}),
    "MiniLM-L12-H384": (functools.partial(BERT, num_hidden_layers=12), {}),
}
TEXTS = [
    "good cat",
    "",
    "the film so bad!",
    "un able",
    "a" * 30,
    "the cat sat , the dog ran . the day good ! un able the cat sat",
]
QUESTIONS = ["good ?", "the cat", "a", "dog ?", "sat", "so"]
TASKS = {
    "classifier": lambda encoder, pre: kbert.TextClassifier(encoder, pre, labels=["bad", "good"]),
    "tagger": lambda encoder, pre: kbert.TokenClassifier(encoder, pre, labels=["O", "B-X", "I-X"]),
    "answerer": kbert.QuestionAnswerer,
    "masked_lm": kbert.MaskedLM,
    "embedder": kbert.TextEmbedder,
}
MASKED = ["a [MASK] cat", "the [MASK] sat , [MASK] so good", "[MASK]"]
VERBS = {
    "classifier": lambda task: task.classify(TEXTS),
    "tagger": lambda task: task.classify(TEXTS),
    "answerer": lambda task: task.answer(QUESTIONS, TEXTS),
    "masked_lm": lambda task: task.fill(MASKED, top_k=TOKENS),
    "embedder": lambda task: task.embed(TEXTS),
}


def build(architecture, kind):
    config, options = PUBLISHED[architecture]
    encoder = (kbert.MobileBertEncoder if "mobile" in architecture else kbert.BertEncoder)(config())
    return TASKS[kind](encoder, kbert.TextPreprocessor(tiny_tokenizer(**options), 24))


def inputs_of(kind):
    return (QUESTIONS, TEXTS) if kind == "answerer" else TEXTS


def assert_close(found, expected, atol=1e-5):
    for ours, theirs in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        if isinstance(theirs, (str, int)):
            assert ours == theirs
        else:
            np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_every_verb_answers_and_comes_back_from_a_preset(architecture, tmp_path):
    for kind, verb in VERBS.items():
        if architecture not in ("mobilebert-uncased", "bert-base-uncased") and kind not in ("classifier", "masked_lm"):
            continue
        task = build(architecture, kind)
        before = verb(task)
        assert len(before) == len(MASKED if kind == "masked_lm" else TEXTS)
        task.save_to_preset(tmp_path / kind)
        again = type(task).from_preset(tmp_path / kind)
        assert (again.encoder.config.vocab_size, again.tokenizer.vocabulary_size) == (ROWS, TOKENS)
        np.testing.assert_array_equal(again.encoder.embeddings.tokens, task.encoder.embeddings.tokens)
        assert_close(verb(again), before)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_a_few_steps_learn(architecture):
    task = build(architecture, "classifier")
    task.compile(learning_rate=1e-3, run_eagerly=True)
    texts, labels = [*GOOD[:4], *BAD[:4]], ["good"] * 4 + ["bad"] * 4
    losses = task.fit(texts, labels, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.isfinite(task.evaluate(texts, labels, verbose=0, return_dict=True)["loss"])


@pytest.mark.parametrize("kind", TASKS)
def test_a_frozen_mobilebert_answers_as_its_task(kind):
    task = build("mobilebert-uncased", kind)
    fast = task.freeze(threads=1)
    assert_close(VERBS[kind](fast), VERBS[kind](task), atol=2e-5)
    if kind not in ("answerer", "masked_lm"):
        assert_close(fast.predict(inputs_of(kind)), task.predict(inputs_of(kind)))


@pytest.mark.parametrize("architecture", ["distilbert-base-uncased", "TinyBERT-4L-312"])
def test_a_frozen_classifier_answers_as_its_task(architecture):
    task = build(architecture, "classifier")
    assert_close(task.freeze(threads=1).predict(TEXTS), task.predict(TEXTS))


@pytest.mark.parametrize("architecture", ["mobilebert-uncased", "mobilebert-with-a-pooler"])
def test_a_mobileberts_answer_does_not_depend_on_the_batch(architecture):
    """Its trigram embedding reads the token after the last one, which is [PAD] in a padded row and nothing in another."""
    task = build(architecture, "classifier")
    together = task.predict(TEXTS)
    np.testing.assert_allclose(np.concatenate([task.predict([text]) for text in TEXTS]), together, atol=1e-5)
    served = task.serve(tf.constant(TEXTS[:1]))
    np.testing.assert_allclose(served["probabilities"], tf.nn.softmax(together[:1]), atol=1e-5)
    masked = build(architecture, "masked_lm")
    assert_close([masked.fill(text) for text in MASKED], masked.fill(MASKED))
    assert masked.preprocessor.max_length == 24 and not kbert.TextPreprocessor(masked.tokenizer, 24).padded_end


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
@pytest.mark.parametrize("kind", ["classifier", "masked_lm"])
def test_a_mobileberts_exports_answer_as_it_does(kind, tmp_path):
    """An export compares its answers with the task's as it is written, and raises an error if they differ."""
    task = build("mobilebert-uncased", kind)
    task.export(tmp_path / "served", format="tf_saved_model")
    task.export(tmp_path / "model.tflite", format="litert")
    task.export(tmp_path / "model.onnx", format="onnx")
    if kind == "masked_lm":
        served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"](text=tf.constant(MASKED))
        assert served["ids"].numpy().max() < TOKENS
        np.testing.assert_allclose(served["scores"][0, 0], [token["score"] for token in task.fill(MASKED[0])], atol=1e-4)


@pytest.mark.parametrize("cls", [kbert.MaskedLM, kbert.Pretrainer])
def test_rows_without_a_token_have_no_logit_and_no_loss(cls):
    """They would have the largest logits here."""
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), 24)
    tasks, losses = [], []
    for rows in (TOKENS, ROWS):
        config = BERT(vocab_size=rows, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        tasks.append(cls(kbert.BertEncoder(config), preprocessor))
        for ours, first in zip(tasks[-1].weights, tasks[0].weights):
            value = np.full(ours.shape, 50.0, np.float32)
            value[tuple(slice(size) for size in first.shape)] = first
            ours.assign(value)
    packed = preprocessor(TEXTS)
    assert_close(tasks[1](packed, training=False), tasks[0](packed, training=False))
    for task in tasks:
        keras.utils.set_random_seed(2)
        task.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
        losses.append(task.fit([*GOOD[:4], *BAD[:4]], batch_size=8, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert (tasks[1].encoder.embeddings.tokens.numpy()[TOKENS:] == 50).all()
    if cls is kbert.MaskedLM:
        assert_close(tasks[1].fill(MASKED, top_k=TOKENS), tasks[0].fill(MASKED, top_k=TOKENS))
        distiller = kbert.Distiller(*tasks)  # a teacher and a student with other numbers of rows
        distiller.compile(run_eagerly=True)
        assert np.isfinite(distiller.fit(GOOD[:8], batch_size=8, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("layout", ["huggingface", "google", "keras_hub"])
def test_a_table_is_written_with_the_rows_that_it_has(layout, tmp_path):
    task = build("bert-base-uncased", "masked_lm")
    task.save_to_preset(tmp_path / "written", layout=layout)
    again = kbert.MaskedLM.from_preset(tmp_path / "written", max_length=24)
    assert again.encoder.config.vocab_size == ROWS and again.tokenizer.vocabulary_size == TOKENS
    np.testing.assert_array_equal(again.encoder.embeddings.tokens, task.encoder.embeddings.tokens)
    assert_close(again.fill(MASKED), task.fill(MASKED), atol=1e-4)
