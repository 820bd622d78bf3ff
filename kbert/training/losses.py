"""Losses that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.training.replicas import mean_over_replicas, share_of_rows

NO_LABEL = -100  # the same number as in torch and transformers


@keras.saving.register_keras_serializable("kbert")
class LabelledCrossentropy(keras.losses.Loss):
    """The mean cross-entropy of the positions that have a label.

    >>> loss = LabelledCrossentropy()
    >>> logits = np.array([[[0.0, 0.0], [9.0, -9.0]]], "float32")
    >>> round(float(loss(np.array([[1, -100]]), logits)), 4)  # log 2: the second position does not count
    0.6931

    Labels `[B, L]` are indices, or -100 for none. Logits are `[B, L, C]`. A sample weight for each text `[B]` multiplies
    the losses of its positions. A batch without any label has loss 0.

    Args:
      name: the loss's name in Keras's logs.
      **kwargs: the other arguments of `keras.losses.Loss`. The reduction is always the mean.
    """

    def __init__(self, name: str = "labelled_crossentropy", **kwargs: Any) -> None:
        kwargs.pop("reduction", None)
        super().__init__(name=name, reduction="sum_over_batch_size", **kwargs)

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns a loss for each position `[B, L]`, so that their mean is the mean over the labels."""
        labels = tf.cast(labels, tf.int32)
        labelled = tf.cast(tf.not_equal(labels, NO_LABEL), logits.dtype)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits) * labelled
        # Keras divides the sum by the number of positions. This factor turns that into the number of labels. `DistributedModel`
        # weights the losses of replicas by their rows, and `count` makes up for replicas with more or fewer labels a row.
        size = tf.cast(tf.size(labels), logits.dtype)
        count = mean_over_replicas(tf.reduce_sum(labelled)) * share_of_rows(tf.shape(labels)[0])
        return losses * size / tf.maximum(count, 1.0)


@keras.saving.register_keras_serializable("kbert")
class SmoothedCrossentropy(keras.losses.Loss):
    """The cross-entropy with a share of each target spread evenly over all labels (Szegedy et al. 2016, section 7).

    >>> loss = SmoothedCrossentropy(0.1)
    >>> round(float(loss(np.array([0]), np.array([[2.0, 0.0]], "float32"))), 4)  # 0.95 of label 0, 0.05 of label 1
    0.2269

    Labels `[B]` are indices, or -100 for none; logits are `[B, C]`. The mean is taken over the texts with a label.

    Args:
      smoothing: the share to spread, from 0 to less than 1.
      name: the loss's name in Keras's logs.
      **kwargs: the other arguments of `keras.losses.Loss`.
    """

    def __init__(self, smoothing: float, name: str = "smoothed_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each text `[B]`."""
        count = logits.shape[-1]
        labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
        targets = tf.one_hot(labels, count) * (1 - self.smoothing) + self.smoothing / count
        labelled = tf.cast(tf.not_equal(labels, NO_LABEL), logits.dtype)
        share = tf.cast(tf.size(labels), logits.dtype) / tf.maximum(mean_over_replicas(tf.reduce_sum(labelled)), 1.0)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits) * labelled * share

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("kbert")
class MultipleNegativesRanking(keras.losses.Loss):
    """A loss by which each anchor should be nearer to its positive than to all other texts of the batch.

    >>> loss = MultipleNegativesRanking()
    >>> anchors = positives = np.eye(2, dtype="float32")
    >>> float(loss(np.zeros(2, "float32"), np.concatenate([anchors, positives]))) < 1e-6
    True

    It is the cross-entropy of `scale * cosine` over the candidates (Henderson et al. 2017, section 4.4). Labels `[B]` are
    not read. Vectors are `[2 B, D]` (anchors, then positives) or `[3 B, D]` (anchors, positives, negatives, which are
    candidates too).

    Args:
      scale: the factor of the cosines.
      name: the loss's name in Keras's logs.
      **kwargs: the other arguments of `keras.losses.Loss`.
    """

    def __init__(self, scale: float = 20.0, name: str = "multiple_negatives_ranking", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, labels: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each anchor `[B]`."""
        batch = tf.shape(labels)[0]
        vectors = tf.math.l2_normalize(vectors, -1)
        scores = self.scale * tf.matmul(vectors[:batch], vectors[batch:], transpose_b=True)  # [B, candidates]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(batch), scores)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("kbert")
class TripletMargin(keras.losses.Loss):
    """A loss by which a positive should be nearer to its anchor than the negative by a margin (Schroff et al. 2015).

    The distance is Euclidean. Labels `[B]` are not read. Vectors are `[3 B, D]`: anchors, positives, negatives.

    Args:
      margin: the margin, in the unit of the vectors.
      name: the loss's name in Keras's logs.
      **kwargs: the other arguments of `keras.losses.Loss`.
    """

    def __init__(self, margin: float = 5.0, name: str = "triplet_margin", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, labels: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each anchor `[B]`."""
        anchors, positives, negatives = tf.split(vectors, 3)
        near, far = (tf.norm(anchors - others + 1e-12, axis=-1) for others in (positives, negatives))
        return tf.nn.relu(near - far + self.margin)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("kbert")
class CosineSimilarityError(keras.losses.Loss):
    """The squared difference between the cosine of two texts and their score.

    >>> float(CosineSimilarityError()(np.array([1.0], "float32"), np.array([[1.0, 0.0], [0.0, 1.0]], "float32")))
    1.0

    Labels `[B]` are scores. Vectors are `[2 B, D]`: the first texts of all pairs, then the second ones.

    Args:
      name: the loss's name in Keras's logs.
      **kwargs: the other arguments of `keras.losses.Loss`.
    """

    def __init__(self, name: str = "cosine_similarity_error", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, labels: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each pair `[B]`."""
        texts, others = tf.split(tf.math.l2_normalize(vectors, -1), 2)
        return tf.square(tf.reduce_sum(texts * others, -1) - tf.reshape(tf.cast(labels, vectors.dtype), [-1]))
