"""Metrics that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

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
      **kwargs: the other arguments of `keras.metrics.Metric`.
    """

    def __init__(self, labels: int, name: str = "macro_f1", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.labels = labels
        self.counts = self.add_weight(shape=(3, labels), initializer="zeros", name="counts")  # right, answered, given

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch; sample weights are not read."""
        logits, targets = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
        if targets.shape.rank == 1 or targets.shape[-1] != self.labels:
            targets = tf.reshape(tf.cast(targets, tf.int32), [-1])
            given = tf.one_hot(targets, self.labels)
            labelled = tf.cast(tf.not_equal(targets, NO_LABEL), tf.float32)
            answered = tf.one_hot(tf.argmax(logits, -1), self.labels) * labelled[:, None]
        else:
            given, answered = tf.cast(targets, tf.float32), tf.cast(logits > 0, tf.float32)
        self.counts.assign_add(tf.stack([tf.reduce_sum(part, 0) for part in (given * answered, answered, given)]))

    def result(self) -> tf.Tensor:
        """Returns the mean of the labels' F1, from 0 to 1."""
        right, answered, given = tf.unstack(tf.convert_to_tensor(self.counts))
        occurs = tf.cast(answered + given > 0, tf.float32)
        scores = 2 * right / tf.maximum(answered + given, 1.0)
        return tf.reduce_sum(scores) / tf.maximum(tf.reduce_sum(occurs), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": self.labels}


@keras.saving.register_keras_serializable("kbert")
class LabelledAccuracy(keras.metrics.Mean):
    """The share of positions with a label whose highest logit is right.

    >>> metric = LabelledAccuracy()
    >>> metric.update_state([[1, -100]], [[[0.0, 2.0], [3.0, 0.0]]])
    >>> float(metric.result())
    1.0

    Labels `[B, M]` are indices, or -100 for none; logits are `[B, M, C]`.

    Args:
      name: the metric's name in Keras's logs.
      **kwargs: the other arguments of `keras.metrics.Mean`.
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch; sample weights are not read."""
        answers = tf.argmax(y_pred, -1, tf.int32)
        labels = tf.reshape(tf.cast(y_true, tf.int32), tf.shape(answers))
        right = tf.cast(tf.equal(answers, labels), tf.float32)
        super().update_state(right, tf.cast(tf.not_equal(labels, NO_LABEL), tf.float32))
