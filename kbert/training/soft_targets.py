"""Losses that hold a student's answers to its teacher's. Each is a mean, so that a loss's weight does not depend on sizes."""

from __future__ import annotations

import keras
import tensorflow as tf

SMALLEST_SUM = 1e-9  # the least sum of weights that a mean divides by


def mean_over(values: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
    """Returns the weighted mean of `values` as a scalar.

    Args:
      values: float tensor of any shape.
      weights: a number, or a tensor that broadcasts to the shape of `values`. If all weights are 0, the mean is 0.
    """
    weights = tf.broadcast_to(tf.cast(weights, values.dtype), tf.shape(values))
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), SMALLEST_SUM)


def divergence(teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    """Returns `KL(teacher || student)` over the last axis.

    Args:
      teacher_logits: the teacher's distributions as logits, `[..., C]`.
      student_logits: the student's, of the same shape.

    Returns:
      The divergences `[...]`, in nats.
    """
    teacher, student = tf.nn.log_softmax(teacher_logits), tf.nn.log_softmax(student_logits)
    return tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)


def soft_targets(
    teacher: tf.Tensor, student: tf.Tensor, temperature: float = 1.0, weights: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """Returns the mean divergence of softened distributions times `temperature ** 2` (Hinton et al. 2015, section 2).

    >>> logits = tf.constant([[2.0, 0.0]])
    >>> float(soft_targets(logits, logits))
    0.0

    Args:
      teacher: the teacher's logits `[..., C]`.
      student: the student's logits `[..., C]`.
      temperature: a number above 0 that divides the logits. Above 1 it gives the less likely classes more weight.
      weights: the weight of each distribution, `[...]` or anything that broadcasts to this shape.
    """
    return temperature**2 * mean_over(divergence(teacher / temperature, student / temperature), weights)


def soft_labels(teacher: tf.Tensor, student: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """Returns the soft-target loss of labels that are right or wrong independently of each other.

    Each label is a distribution of two outcomes, whose logits are the label's logit and 0. The loss is the mean divergence of
    these distributions times `temperature ** 2`.

    Args:
      teacher: the teacher's logits `[B, C]`, one for each label.
      student: the student's logits `[B, C]`.
      temperature: a number above 0 that divides the logits.
    """

    def outcomes(logits: tf.Tensor) -> tf.Tensor:
        return tf.stack([logits / temperature, tf.zeros_like(logits)], -1)  # [B, C, 2]

    return temperature**2 * tf.reduce_mean(divergence(outcomes(teacher), outcomes(student)))


def squared_difference(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the mean squared difference of vectors at real tokens (Jiao et al. 2020, equations 8 and 9).

    Args:
      teacher: the teacher's vectors `[B, L, H]`; or `[B, H]`, if `mask` is None.
      student: the student's vectors, of the same shape.
      mask: `[B, L]`, 1 at real tokens and 0 at padding. If it is None, all vectors count.
    """
    return mean_over(tf.square(teacher - student), 1.0 if mask is None else tf.cast(mask, teacher.dtype)[..., None])


def mean_of_labelled(loss: keras.losses.Loss, targets: tf.Tensor, outputs: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
    """Returns a Keras loss's mean over the rows that have a label. Keras's own mean is over all rows.

    Args:
      loss: a loss whose reduction is `"sum_over_batch_size"`.
      targets: targets `[B, ...]`; any valid target stands at rows without a label.
      outputs: the task's outputs `[B, ...]`.
      labelled: float32 `[B]`, 1 for a row with a label and 0 for a row without. If all are 0, the loss is 0.
    """
    share = tf.cast(tf.size(labelled), tf.float32) / tf.maximum(tf.reduce_sum(labelled), 1.0)
    return share * loss(targets, outputs, labelled)
