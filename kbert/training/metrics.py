"""Metrics that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.training import keras_internals
from kbert.training.losses import NO_LABEL


@keras.saving.register_keras_serializable("kbert")
class MacroF1(keras.metrics.Metric):
    """The mean over labels of the F1 of each, as `sklearn.metrics.f1_score(average="macro")`.

    >>> metric = MacroF1(2)
    >>> metric.update_state([0, 1, 1], [[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]])
    >>> round(float(metric.result()), 4)  # 2/3 for either label
    0.6667

    Targets are indices `[B]`, and the answer is the highest logit of `[B, labels]`. Or targets are 0 and 1 `[B, labels]`,
    and the answers are all labels with a logit above 0. A label that is neither given nor answered does not count.

    Args:
      labels: the number of labels.
      name: the metric's name in Keras's logs.
      one_label: whether each text has one label. A row of targets then holds shares, and the largest one counts.
      **kwargs: the other arguments of `keras.metrics.Metric`.
    """

    def __init__(self, labels: int, name: str = "macro_f1", one_label: bool = False, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        keras_internals.set_direction(self, "up")
        self.labels, self.one_label = labels, one_label
        self.counts = self.add_weight(shape=(3, labels), initializer="zeros", name="counts")  # right, answered, given

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch; each text counts as often as its sample weight says."""
        logits, targets = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
        in_rows = targets.shape.rank == 2 and targets.shape[-1] == self.labels
        if in_rows and not self.one_label:
            given, answered = tf.cast(targets, tf.float32), tf.cast(logits > 0, tf.float32)
        else:
            indices = tf.argmax(targets, -1) if in_rows else tf.reshape(tf.cast(targets, tf.int32), [-1])
            labelled = tf.cast(tf.not_equal(indices, NO_LABEL), tf.float32)[:, None]
            given, answered = tf.one_hot(indices, self.labels), tf.one_hot(tf.argmax(logits, -1), self.labels) * labelled
        weights = 1.0 if sample_weight is None else tf.reshape(tf.cast(sample_weight, tf.float32), [-1, 1])
        self.counts.assign_add(tf.stack([tf.reduce_sum(part * weights, 0) for part in (given * answered, answered, given)]))

    def result(self) -> tf.Tensor:
        """Returns the mean of the labels' F1, from 0 to 1."""
        right, answered, given = tf.unstack(tf.convert_to_tensor(self.counts))
        occurs = tf.cast(answered + given > 0, tf.float32)
        scores = tf.math.divide_no_nan(2 * right, answered + given)
        return tf.reduce_sum(scores) / tf.maximum(tf.reduce_sum(occurs), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": self.labels, "one_label": self.one_label}


@keras.saving.register_keras_serializable("kbert")
class LabelledAccuracy(keras.metrics.Mean):
    """The share of positions with a label whose highest logit is right.

    >>> metric = LabelledAccuracy()
    >>> metric.update_state([[1, -100]], [[[0.0, 2.0], [3.0, 0.0]]])
    >>> float(metric.result())
    1.0

    Labels `[B, M]` are indices, or -100 for none; logits are `[B, M, C]`. Without positions, logits are `[B, C]`, and labels
    are `[B]` or rows of shares `[B, C]`; the largest share of a row counts.

    Args:
      name: the metric's name in Keras's logs.
      **kwargs: the other arguments of `keras.metrics.Mean`.
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        keras_internals.set_direction(self, "up")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch; each position counts as often as its sample weight says."""
        logits = tf.convert_to_tensor(y_pred)
        labels, weights = labels_and_weights(tf.convert_to_tensor(y_true), logits, sample_weight)
        answers = tf.reshape(tf.argmax(logits, -1, tf.int32), [-1])
        super().update_state(tf.cast(tf.equal(answers, labels), tf.float32), weights)


def labels_and_weights(targets: tf.Tensor, outputs: tf.Tensor, sample_weight: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the index of each output's right class and its weight, int32 and float32 `[N]`.

    Args:
      targets: indices `[B, ...]` or `[B, 1]`, -100 for none; or rows of shares `[B, ..., classes]`, whose largest counts.
      outputs: logits `[B, ..., classes]`.
      sample_weight: the weight of each row `[B]`, or anything that broadcasts to the indices; or None.
    """
    if targets.shape.rank == outputs.shape.rank and targets.shape[-1] != 1:
        targets = tf.argmax(targets, -1)
    labels = tf.reshape(tf.cast(targets, tf.int32), tf.shape(outputs)[:-1])
    weights = tf.cast(tf.not_equal(labels, NO_LABEL), tf.float32)
    if sample_weight is not None:
        of_row = tf.cast(sample_weight, tf.float32)
        while of_row.shape.rank < labels.shape.rank:
            of_row = of_row[..., None]
        weights *= of_row if of_row.shape.rank == labels.shape.rank else tf.reshape(of_row, tf.shape(labels))
    return tf.reshape(tf.maximum(labels, 0), [-1]), tf.reshape(weights, [-1])
