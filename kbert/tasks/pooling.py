"""From the vectors of a text's tokens to one vector, in ops of a graph."""

from __future__ import annotations

import tensorflow as tf

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len")


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """Returns vectors scaled to length 1; one of zeros stays so."""
    return vectors * tf.math.rsqrt(tf.maximum(tf.reduce_sum(vectors * vectors, -1, keepdims=True), 1e-24))


def pool(vectors: tf.Tensor, inputs: dict[str, tf.Tensor], pooling: str, skipped: int = 0) -> tf.Tensor:
    """Returns texts' vectors `[B, H]`, over what is not padding.

    Args:
      vectors: the vector of each position, `[B, L, H]`.
      inputs: the packed dictionary, or texts in rows (`RowsView`).
      pooling: `"mean"`, `"max"`, `"mean_sqrt_len"` (the sum by the root of the number of tokens), or `"cls"` for the first
        token that is not skipped.
      skipped: how many positions at the start of each text do not count: [CLS] and a prompt.
    """
    if "texts" in inputs:  # one row for each text, each with its own mask
        count = tf.shape(inputs["first"])[0]
        vectors = tf.reshape(vectors, [1, -1, vectors.shape[-1]])  # [1, N, H]
        mask = tf.equal(tf.reshape(tf.range(count), [-1, 1]), tf.reshape(inputs["texts"], [1, -1]))  # [T, N]
        positions = tf.reshape(inputs["positions"], [1, -1])
    elif inputs.get("padding_mask") is None:
        mask = tf.ones_like(inputs["token_ids"], tf.bool)
    else:
        mask = tf.not_equal(inputs["padding_mask"], 0)  # [B, L]
    if "texts" not in inputs:
        positions = tf.range(tf.shape(vectors)[1])[None]
    if skipped:
        mask = tf.logical_and(mask, positions >= skipped)
    if pooling == "max":
        beyond = tf.cast(~mask, vectors.dtype) * vectors.dtype.min  # where() on a broadcast mask is not an op of LiteRT
        return tf.reduce_max(vectors + tf.expand_dims(beyond, 2), axis=1)
    if pooling == "cls":
        mask = tf.logical_and(mask, tf.equal(positions, skipped))
    counted = tf.cast(mask, vectors.dtype)
    if "texts" in inputs:
        total = tf.matmul(counted, vectors[0])
    else:
        total = tf.matmul(counted[:, None], vectors)[:, 0]
    count = tf.maximum(tf.reduce_sum(counted, 1, keepdims=True), 1.0)
    return total / (tf.sqrt(count) if pooling == "mean_sqrt_len" else count)
