"""Losses that hold a student's vectors and attention to its teacher's.

The losses of the answers are in `kbert.training.soft_targets`, for tasks use them.
"""

from __future__ import annotations

import tensorflow as tf

from kbert.training.soft_targets import divergence, mean_over, soft_labels, soft_targets, squared_difference

__all__ = [
    "attention_difference",
    "attention_divergence",
    "cosine_distance",
    "soft_labels",
    "soft_targets",
    "squared_difference",
    "value_relation",
]

SMALLEST_PROBABILITY = 1e-9  # keeps the logarithm of a probability of 0 finite


def cosine_distance(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the mean of `1 - cosine` of vectors at real tokens (Sanh et al. 2019, section 3).

    Args:
      teacher: the teacher's vectors `[..., H]`.
      student: the student's vectors `[..., H]`.
      mask: `[...]`, 1 at real tokens and 0 at padding. If it is None, all vectors count.
    """
    cosine = tf.reduce_sum(tf.math.l2_normalize(teacher, -1) * tf.math.l2_normalize(student, -1), -1)
    return mean_over(1 - cosine, 1.0 if mask is None else mask)


def attention_difference(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of attention among real tokens.

    With scores before the softmax, it is TinyBERT's loss (Jiao et al. 2020, equation 7).

    Args:
      teacher: the teacher's attention scores or probabilities `[B, heads, L, L]`.
      student: the student's, of the same shape.
      mask: `[B, L]`, 1 at real tokens and 0 at padding.
    """
    mask = tf.cast(mask, teacher.dtype)
    return mean_over(tf.square(teacher - student), mask[:, None, :, None] * mask[:, None, None, :])


def attention_divergence(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `KL(teacher || student)` of attention over heads and real tokens.

    It is the loss of Sun et al. 2020, section 3.3, and of Wang et al. 2020, equation 3.

    Args:
      teacher: the teacher's attention probabilities `[B, heads, L, L]`.
      student: the student's, of the same shape.
      mask: `[B, L]`, 1 at real tokens and 0 at padding.
    """
    logs = tf.math.log(teacher + SMALLEST_PROBABILITY) - tf.math.log(student + SMALLEST_PROBABILITY)
    return mean_over(tf.reduce_sum(teacher * logs, -1), tf.cast(mask, teacher.dtype)[:, None])


def value_relation(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean divergence of `softmax(V V^T / sqrt(d))` (MiniLM: Wang et al. 2020, equations 4 and 5).

    Args:
      teacher: the values `V` of the teacher's attention, `[B, heads, L, d]`.
      student: the student's values, with as many heads, whose width `d` may be another.
      mask: `[B, L]`, 1 at real tokens and 0 at padding.
    """
    hidden = (1 - tf.cast(mask, teacher.dtype))[:, None, None, :] * -30000.0

    def relation(values: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(values, values, transpose_b=True) * tf.math.rsqrt(tf.cast(tf.shape(values)[-1], values.dtype))
        return scores + hidden

    return mean_over(divergence(relation(teacher), relation(student)), tf.cast(mask, teacher.dtype)[:, None])
