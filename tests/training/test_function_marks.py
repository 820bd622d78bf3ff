"""A loss of the user's is another one if anything that it computes with is another."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.resuming import parts_of_training
from kbert.training.fingerprint import digest
from kbert.training.function_marks import mark
from tests.conftest import TINY, VOCABULARY

FACTOR = 2.0


def closed(value):
    def loss(targets, outputs):
        return tf.reduce_mean(outputs) * tf.cast(tf.size(value), tf.float32)

    return loss


def with_default(value):
    def loss(targets, outputs, *, factor=value):
        return factor * tf.reduce_mean(outputs)

    return loss


def scaled(value):
    return lambda outputs: value * outputs


class Focal(keras.losses.Loss):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def call(self, targets, outputs):
        return self.gamma * tf.reduce_mean(outputs, -1)


def layer(seed):
    dense = keras.layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(seed=seed), name="dense")
    dense.build((None, 2))
    return dense


PAIRS = {
    "a number": lambda: (closed(1.0), closed(2.0)),
    "a string": lambda: (closed("a"), closed("b")),
    "an array": lambda: (closed(np.array([1.0, 2.0])), closed(np.array([1.0, 3.0]))),
    "a tensor": lambda: (closed(tf.constant([1.0])), closed(tf.constant([2.0]))),
    "a nest": lambda: (closed({"a": [1, 2]}), closed({"a": [1, 3]})),
    "a set": lambda: (closed({"a", "b"}), closed({"a", "c"})),
    "a function's number": lambda: (closed(scaled(1.0)), closed(scaled(2.0))),
    "a default": lambda: (with_default(1.0), with_default(2.0)),
    "a partial's argument": lambda: (functools.partial(Focal, gamma=1.0), functools.partial(Focal, gamma=2.0)),
    "an attribute": lambda: (Focal(1.0), Focal(2.0)),
    "a method's object": lambda: (Focal(1.0).call, Focal(2.0).call),
    "a layer's weights": lambda: (closed(layer(1)), closed(layer(2))),
    "code": lambda: (lambda targets, outputs: outputs + 1, lambda targets, outputs: outputs - 1),
    "a constant": lambda: (lambda targets, outputs: outputs + 1.5, lambda targets, outputs: outputs + 2.5),
    "Keras's functions": lambda: (closed(keras.ops.mean), closed(keras.ops.sum)),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_functions_that_differ_in_what_they_compute_with_have_other_marks(kind):
    (one, other), (again, _) = PAIRS[kind](), PAIRS[kind]()
    assert digest(mark(one, "loss")) == digest(mark(again, "loss")) != digest(mark(other, "loss"))


def test_a_global_number_that_a_function_reads_counts(monkeypatch):
    loss = lambda targets, outputs: FACTOR * tf.reduce_mean(outputs)  # noqa: E731
    before = digest(mark(loss, "loss"))
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert digest(mark(loss, "loss")) != before


def test_a_function_that_closes_over_itself_has_a_mark():
    def loss(targets, outputs, depth=2):
        return loss(targets, outputs, depth - 1) if depth else tf.reduce_mean(outputs)

    assert digest(mark(loss, "loss"))


@pytest.fixture(scope="module")
def task():
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1}))
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 16)
    return kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"])


def settings(task, loss):
    task.compile(loss=loss)
    return parts_of_training(task, [])["compile settings"]


def test_a_state_is_of_the_loss_that_it_was_made_with(task, tmp_path):
    for make in (closed, Focal):
        assert settings(task, make(1.0)) == settings(task, make(1.0)) != settings(task, make(2.0))
    assert settings(task, "mse") == settings(task, keras.losses.mean_squared_error)
    with open(tmp_path / "file", "w") as file:
        task.compile(loss=closed([file]))
        with pytest.raises(ValueError, match="resume cannot tell whether the loss loss, value, 0 .* a TextIOWrapper"):
            task.fit(["a", "b"], [0, 1], resume=tmp_path / "state", verbose=0)
    with pytest.raises(ValueError, match="holds a generator"):
        settings(task, closed(number for number in range(3)))
