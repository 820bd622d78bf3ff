"""Packed dictionaries: targets and weights are those of texts, and what could make no step is refused before one."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from tests.conftest import TINY, tiny_tokenizer

TEXTS = ["the good day", "a bad dog .", "so very good", "the cat sat"]
INDICES = [1, 0, 1, 0]


@pytest.fixture(scope="module")
def task():
    tokenizer = tiny_tokenizer()
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 12), labels=["bad", "good"])
    task.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return task


@pytest.fixture(scope="module")
def packed(task):
    return {name: values.numpy() for name, values in task.preprocessor(TEXTS).items()}


TARGETS = {
    "names": ["good", "bad", "good", "bad"],
    "array of names": np.array(["good", "bad", "good", "bad"]),
    "list": INDICES,
    "array": np.array(INDICES),
    "column": np.array(INDICES)[:, None],
    "one-hot": np.eye(2)[INDICES],
    "pandas": pd.Series(INDICES, index=[9, 8, 7, 6]),
    "tensor": tf.constant(INDICES),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_of_packed_rows_are_those_of_texts(task, packed, kind):
    expected = task.evaluate(TEXTS, INDICES, verbose=0)
    np.testing.assert_allclose(task.evaluate(packed, TARGETS[kind], verbose=0), expected, atol=1e-6)


IN_DATASETS = ("list", "array", "column", "one-hot", "tensor")
LOSSES = {"indices": "auto", "rows": "categorical_crossentropy"}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", IN_DATASETS)
def test_targets_in_a_dataset_of_packed_rows_are_those_of_lists(task, packed, kind, loss):
    task.compile(keras.optimizers.SGD(0.0), loss=LOSSES[loss], run_eagerly=True)
    expected = task.evaluate(packed, INDICES, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((packed, TARGETS[kind])).batch(2)
    np.testing.assert_allclose(task.evaluate(data, verbose=0), expected, atol=1e-6)
    for trained in ((data,), (TEXTS, INDICES)):
        history = task.fit(*trained, validation_data=data, verbose=0).history
        np.testing.assert_allclose([history["loss"], history["val_loss"]], [[expected[0]]] * 2, atol=1e-5)
    task.compile(keras.optimizers.SGD(0.0), run_eagerly=True)


def test_rows_of_a_dataset_that_are_not_one_hot_are_refused(task, packed):
    data = tf.data.Dataset.from_tensor_slices((packed, [[0.3, 0.7], [1, 0], [1, 0], [0, 1]])).batch(2)
    for verb in (task.fit, task.evaluate, lambda data, **options: task.fit(packed, INDICES, validation_data=data, **options)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="should be one-hot rows"):
            verb(data, verbose=0)


def test_every_verb_reads_names_and_lists(task, packed):
    loss, names = task.evaluate(TEXTS, INDICES, verbose=0)[0], TARGETS["names"]
    lists = {name: values.tolist() for name, values in packed.items()}
    assert task.fit(TEXTS, names, validation_data=(lists, names), verbose=0).history["val_loss"] == pytest.approx(
        [loss], abs=1e-5
    )
    history = task.fit(lists, names, sample_weight=[1, 1, 1, 1], validation_data=(lists, names), verbose=0).history
    task.reset_metrics()
    for value in (*history["loss"], *history["val_loss"], task.test_on_batch(lists, names)[0]):
        np.testing.assert_allclose(value, loss, atol=1e-5)
    np.testing.assert_allclose(task.train_on_batch(packed, names)[0], loss, atol=1e-5)
    for predict in (task.predict, task.predict_on_batch):
        np.testing.assert_allclose(predict(lists), task.predict(TEXTS), atol=1e-6)


WRONG = [
    (lambda p: (p, None), "targets are missing"),
    (lambda p: (p, [1, 0, 1]), "each row needs one target: got 4"),
    (lambda p: (p, [1, 0, 2, 0]), r"y\[2\] is 2, but the 2 labels"),
    (lambda p: (p, ["good", "bad", "fine", "bad"]), r"y\[2\] is 'fine'"),
    (lambda p: (p, np.array([1, 0, np.nan, 0])), r"y\[2\] is nan"),
    (lambda p: (p, INDICES, [1, 1, np.nan, 1]), r"sample_weight\[2\] is nan"),
    (lambda p: (p, INDICES, [1, 1, -1, 1]), r"sample_weight\[2\] is -1"),
    (lambda p: (p, INDICES, [1, 1, 1]), "4 texts and weights of shape"),
    (lambda p: ({**p, "segment_ids": p["segment_ids"][:, :3]}, INDICES), "segment_ids has shape .4, 3., but token_ids"),
    (lambda p: ({**p, "padding_mask": p["padding_mask"][:3]}, INDICES), "padding_mask has shape"),
    (lambda p: ({name: values[0] for name, values in p.items()}, INDICES), "token_ids should be .rows, positions."),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_could_make_no_step_is_refused_before_one(task, packed, number):
    (x, y, *weights), message = WRONG[number][0](packed), WRONG[number][1]
    weight = weights[0] if weights else None
    for call in (
        lambda: task.fit(x, y, sample_weight=weight, verbose=0),
        lambda: task.fit(packed, INDICES, validation_data=(x, y, weight), verbose=0),
        lambda: task.evaluate(x, y, sample_weight=weight, verbose=0),
        lambda: task.train_on_batch(x, y, weight),
        lambda: task.test_on_batch(x, y, weight),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: tf.data.Dataset.from_tensor_slices(p).batch(2), "targets are missing"),
        (lambda p: tf.data.Dataset.from_tensor_slices((p, INDICES)), "one by one: call batch"),
        (lambda p: tf.data.Dataset.from_tensor_slices((p, TARGETS["names"])).batch(2), "strings as the targets"),
    ],
)
def test_a_dataset_of_packed_rows_that_could_make_no_step_is_refused(task, packed, make, message):
    for call in (task.fit, task.evaluate):
        with pytest.raises((TypeError, ValueError), match=message):
            call(make(packed), verbose=0)


def test_a_task_that_draws_its_targets_from_texts_needs_them_beside_packed_rows(packed, task):
    masked = kbert.MaskedLM(task.encoder, task.preprocessor)
    for x in (packed, tf.data.Dataset.from_tensor_slices(packed).batch(2)):
        for call in (masked.fit, masked.evaluate):
            with pytest.raises(ValueError, match="targets are missing"):
                call(x, verbose=0)


def test_other_tasks_take_finite_numbers(packed, task):
    tagger = kbert.TokenClassifier(task.encoder, task.preprocessor, labels=["O", "B-x"])
    targets = np.zeros(packed["token_ids"].shape, np.int32)
    tagger.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert np.isfinite(tagger.train_on_batch(packed, targets.tolist()))
    with pytest.raises(TypeError, match="should be numbers"):
        tagger.train_on_batch(packed, [["O"] * targets.shape[1]] * 4)
    with pytest.raises(ValueError, match="not a finite number"):
        tagger.train_on_batch(packed, targets + np.nan)
