"""What a student is held to: the teacher's answers, vectors and attention. Each is a mean, so that weights do not depend on sizes."""

import tensorflow as tf

TINY = 1e-9


def mean_over(values, weights):
    """The mean of `values` weighted by what broadcasts to it; 0 where all weights are 0."""
    weights = tf.broadcast_to(tf.cast(weights, values.dtype), tf.shape(values))
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), TINY)


def divergence(teacher_logits, student_logits):
    """`KL(teacher || student)` of distributions given as logits, over the last axis."""
    teacher, student = tf.nn.log_softmax(teacher_logits), tf.nn.log_softmax(student_logits)
    return tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)


def soft_targets(teacher, student, temperature=1.0, weights=1.0):
    """The divergence of softened distributions times `temperature ** 2` (Hinton et al. 2015, section 2).

    >>> logits = tf.constant([[2.0, 0.0]])
    >>> float(soft_targets(logits, logits))
    0.0

    Args:
      teacher, student: logits `[..., C]`.
      temperature: above 1 the less likely classes count more.
      weights: of each distribution, `[...]` or what broadcasts to it.
    """
    return temperature**2 * mean_over(divergence(teacher / temperature, student / temperature), weights)


def soft_labels(teacher, student, temperature=1.0):
    """The same for labels that are right or wrong by themselves: the divergence of each one's two outcomes; logits `[B, C]`."""

    def outcomes(logits):
        return tf.stack([logits / temperature, tf.zeros_like(logits)], -1)

    return temperature**2 * tf.reduce_mean(divergence(outcomes(teacher), outcomes(student)))


def squared_difference(teacher, student, mask=None):
    """The mean squared difference of vectors `[B, L, H]` where `mask` `[B, L]` is 1 (Jiao et al. 2020, equations 8 and 9); or of `[B, D]`."""
    return mean_over(tf.square(teacher - student), 1.0 if mask is None else tf.cast(mask, teacher.dtype)[..., None])


def cosine_distance(teacher, student, mask=None):
    """The mean of `1 - cos` of vectors `[..., H]` where `mask` is 1 (Sanh et al. 2019, section 3)."""
    cosine = tf.reduce_sum(tf.math.l2_normalize(teacher, -1) * tf.math.l2_normalize(student, -1), -1)
    return mean_over(1 - cosine, 1.0 if mask is None else mask)


def attention_difference(teacher, student, mask):
    """The mean squared difference of attention scores or probabilities `[B, heads, L, L]` among real tokens; of scores before the softmax it
    is TinyBERT's (Jiao et al. 2020, equation 7)."""
    mask = tf.cast(mask, teacher.dtype)
    return mean_over(tf.square(teacher - student), mask[:, None, :, None] * mask[:, None, None, :])


def attention_divergence(teacher, student, mask):
    """The divergence of attention probabilities `[B, heads, L, L]`, a mean over heads and real tokens (Sun et al. 2020, section 3.3;
    Wang et al. 2020, equation 3)."""
    logs = tf.math.log(teacher + TINY) - tf.math.log(student + TINY)
    return mean_over(tf.reduce_sum(teacher * logs, -1), tf.cast(mask, teacher.dtype)[:, None])


def value_relation(teacher, student, mask):
    """The divergence of `softmax(V V^T / sqrt(d))` of attention's values `[B, heads, L, d]` (MiniLM, Wang et al. 2020, equations 4 and 5).

    Teacher and student have as many heads, of any width each.
    """
    hidden = (1 - tf.cast(mask, teacher.dtype))[:, None, None, :] * -30000.0

    def relation(values):
        scores = tf.matmul(values, values, transpose_b=True) * tf.math.rsqrt(tf.cast(tf.shape(values)[-1], values.dtype))
        return scores + hidden

    return mean_over(divergence(relation(teacher), relation(student)), tf.cast(mask, teacher.dtype)[:, None])
