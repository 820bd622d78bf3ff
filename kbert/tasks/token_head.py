"""The head that predicts tokens: from vectors to a logit for each token of the vocabulary."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.config import BertConfig, MobileBertConfig
from kbert.encoders.layers import ACTIVATIONS, Projection, initial_values


class TokenHead(keras.layers.Layer):
    """A projection of each position's vector, and then the embedding table transposed (Devlin et al. 2018, section 3.1).

    Where the embedding is narrower than the encoder (MobileBERT), `rest` is the table of the other columns.

    A table may have more rows than the vocabulary has tokens. Published tables are filled up to a multiple of 8 or 64 rows. The
    rows beyond the tokens stay in the weights but have no logits, so neither a loss nor an answer depends on them.

    Args:
      config: the encoder's configuration.
      activation: the name of the activation behind the projection.
      epsilon: the epsilon of the layer norm.
      tokens: the number of tokens of the vocabulary, `V`; by default the number of rows of the table.
      **kwargs: `name` and `dtype`.
    """

    def __init__(
        self,
        config: BertConfig | MobileBertConfig,
        activation: str,
        epsilon: float,
        tokens: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.count = config.vocab_size if tokens is None else tokens
        self.config = config
        width = config.hidden_size
        self.transform = Projection(width, config.initializer_range, dtype=self.dtype_policy, name="transform")
        self.activation = ACTIVATIONS[activation]
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy, name="norm")
        self.embedded = getattr(config, "embedding_size", width)

    def build(self) -> None:
        """Makes the weights."""
        config = self.config
        self.transform.build((None, config.hidden_size))
        self.norm.build((None, config.hidden_size))
        self.bias = self.add_weight(shape=(config.vocab_size,), initializer="zeros", name="bias")
        if hasattr(config, "embedding_size"):
            shape = (config.hidden_size - self.embedded, config.vocab_size)
            self.rest = self.add_weight(shape=shape, initializer=initial_values(config.initializer_range), name="rest")
        self.built = True

    def call(self, vectors: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Returns logits, float32 `[B, M, V]`.

        Args:
          vectors: the encoder's vectors, `[B, M, H]`.
          table: the embedding table, `[rows, E]`, with at least `V` rows.
        """
        shape = tf.shape(vectors)
        rows = self.norm(self.activation(self.transform(tf.reshape(vectors, [-1, vectors.shape[-1]]))))
        logits = tf.matmul(rows[:, : self.embedded], table, transpose_b=True)
        if self.embedded < self.config.hidden_size:
            logits += tf.matmul(rows[:, self.embedded :], self.rest)
        logits = tf.nn.bias_add(logits, self.bias)
        if self.count < self.config.vocab_size:
            logits = logits[:, : self.count]
        return tf.reshape(tf.cast(logits, tf.float32), [shape[0], shape[1], self.count])


def only_at_masks(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns keyword arguments for the encoder's call: vectors at `mask_positions` alone, if the inputs have them."""
    return {"only_at": inputs["mask_positions"]} if inputs.get("mask_positions") is not None else {}


def vectors_at_masks(outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the encoder's vectors at `mask_positions`, `[B, M, H]`, or all of them if the inputs have no such positions.

    Args:
      outputs: the encoder's dictionary.
      inputs: the packed dictionary, in which `mask_positions` is int32 `[B, M]`.
    """
    if "output_at" in outputs:
        return outputs["output_at"]
    vectors, positions = outputs["sequence_output"], inputs.get("mask_positions")
    return vectors if positions is None else tf.gather(vectors, tf.cast(positions, tf.int32), batch_dims=1)
