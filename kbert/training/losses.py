"""Losses that Keras does not have."""

import keras
import tensorflow as tf

NO_LABEL = -100  # as in torch and transformers


@keras.saving.register_keras_serializable("kbert")
class LabelledCrossentropy(keras.losses.Loss):
    """The mean cross-entropy of the positions that have a label.

    >>> loss = LabelledCrossentropy()
    >>> logits = np.array([[[0.0, 0.0], [9.0, -9.0]]], "float32")
    >>> round(float(loss(np.array([[1, -100]]), logits)), 4)  # log 2: the second position does not count
    0.6931

    Labels `[B, L]` are indices, or -100 for none; logits are `[B, L, C]`. A sample weight for each text `[B]` multiplies its
    positions. A batch without any label has loss 0.
    """

    def __init__(self, name="labelled_crossentropy", **kwargs):
        kwargs.pop("reduction", None)
        super().__init__(name=name, reduction="sum_over_batch_size", **kwargs)

    def call(self, labels, logits):
        labels = tf.cast(labels, tf.int32)
        labelled = tf.cast(tf.not_equal(labels, NO_LABEL), logits.dtype)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits) * labelled
        # Keras divides by the number of positions: this makes it the number of labels.
        size = tf.cast(tf.size(labels), logits.dtype)
        return losses * size / tf.maximum(tf.reduce_sum(labelled), 1.0)
