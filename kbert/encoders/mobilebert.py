"""MobileBERT (Sun et al. 2020): a deep, thin BERT whose blocks work inside bottlenecks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.config import MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import (
    ACTIVATIONS,
    Attention,
    Dropout,
    Projection,
    attend,
    initial_values,
    look_up,
    segment_rows,
)
from kbert.encoders.real_tokens import FirstTokens, View

# The original code passes the configuration's epsilon on to some layer norms only. The others have torch's default.
DEFAULT_EPSILON = 1e-5
NO_TOKEN = -1  # the id of the token after the end of a row


class NoNorm(keras.layers.Layer):
    """A scale and a shift, `gamma x + beta`, in the place of layer norm (Sun et al. 2020, section 3.4): `[N, H]` to `[N,
    H]`."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="beta")

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns `gamma rows + beta`."""
        return rows * self.gamma + self.beta


class MobileBertEmbeddings(keras.layers.Layer):
    """The embeddings of a token and its two neighbours, projected, plus position and segment: packed ids to rows `[N, H]`.

    `E` is the configuration's `embedding_size`.
    """

    # An export to int8 replaces these functions, as it replaces `Projection.product`.
    look_up, segment_rows = staticmethod(look_up), staticmethod(segment_rows)

    def __init__(self, config: MobileBertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.projects = config.trigram_input or config.embedding_size != config.hidden_size
        if self.projects:
            self.projection = Projection(
                config.hidden_size, config.initializer_range, dtype=self.dtype_policy, name="projection"
            )
        self.norm = make_norm(config, self.dtype_policy, "norm", epsilon=DEFAULT_EPSILON)
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self) -> None:
        config = self.config
        initializer = initial_values(config.initializer_range)

        def table(name: str, size: int, width: int) -> keras.Variable:
            return self.add_weight(shape=(size, width), initializer=initializer, name=name)

        self.tokens = table("tokens", config.vocab_size, config.embedding_size)
        self.positions = table("positions", config.max_position_embeddings, config.hidden_size)
        self.segments = table("segments", config.type_vocab_size, config.hidden_size)
        if self.projects:
            self.projection.build((None, config.embedding_size * (3 if config.trigram_input else 1)))
        self.norm.build((None, config.hidden_size))
        self.built = True

    def call(self, inputs: dict[str, tf.Tensor], view: View, training: bool | None = None) -> tf.Tensor:
        """Embeds packed ids.

        Args:
          inputs: `token_ids`, `segment_ids` and `padding_mask`, int32 `[B, L]`. Texts in rows (`RowsView`) also have
            `after`, the id of the token that follows each token, or -1 if none does.
          view: how rows stand in their texts.
          training: whether dropout acts.

        Returns:
          Rows `[N, H]`.
        """
        ids = inputs["token_ids"]
        if self.config.trigram_input:
            if "after" in inputs:
                after, before = inputs["after"], tf.pad(ids[:, :-1], [[0, 0], [1, 0]])
            else:
                # The token after the last real one is [PAD] in a padded row and nothing (zeros) at the row's end, as in the
                # original code. The ids that stand at padding have no influence.
                ids = tf.where(inputs["padding_mask"] == 0, self.config.pad_token_id, ids)
                before = tf.pad(ids[:, :-1], [[0, 0], [1, 0]])
                after = tf.pad(ids[:, 1:], [[0, 0], [0, 1]], constant_values=NO_TOKEN)
            after = view.rows(after)
            rows = tf.concat(
                [
                    self._neighbours(tf.maximum(after, 0), after > NO_TOKEN),
                    self.look_up(self.tokens, view.rows(ids), self.config),
                    self._neighbours(view.rows(before), view.positions() > 0),
                ],
                axis=-1,
            )  # [N, 3 E]
        else:
            rows = self.look_up(self.tokens, view.rows(ids), self.config)  # [N, E]
        if self.projects:
            rows = self.projection(rows)  # [N, H]
        rows += tf.gather(self.positions, view.positions()) + self.segment_rows(self.segments, view.rows(inputs["segment_ids"]))
        return self.dropout(self.norm(rows), training=training)

    def _neighbours(self, ids: tf.Tensor, has_neighbour: tf.Tensor) -> tf.Tensor:
        """Returns the embeddings `[N, E]` of the ids `[N]`, with zeros for a token that has no neighbour on that side."""
        rows = self.look_up(self.tokens, ids, self.config)
        return rows * tf.cast(has_neighbour, rows.dtype)[:, None]


class BottleneckAttention(keras.layers.Layer):
    """Attention whose queries and keys are made from one input and whose values are made from another."""

    def __init__(self, config: MobileBertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        width = config.bottleneck_size
        self.query_key = Projection(2 * width, name="query_key", **make)
        self.value = Projection(width, name="value", **make)
        self.output_projection = Projection(width, name="output", **make)
        self.dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self) -> None:
        config = self.config
        width = config.bottleneck_size
        self.query_key.build((None, width))
        self.value.build((None, width if config.use_bottleneck_attention else config.hidden_size))
        self.output_projection.build((None, width))
        self.built = True

    def call(
        self,
        query_key: tf.Tensor,
        value: tf.Tensor,
        view: View,
        training: bool | None = None,
        chosen: FirstTokens | None = None,
    ) -> tuple[tf.Tensor, Attention]:
        """Lets each token attend to its text.

        Args:
          query_key: the rows that queries and keys are made from, `[N, inside]`, where `inside` is the width inside a block.
          value: the rows that values are made from, `[N, inside]` or `[N, H]`.
          view: how rows stand in their texts.
          training: whether dropout acts.
          chosen: the tokens to compute, from `view.choose`; None computes all of them.

        Returns:
          Rows `[N, inside]`, or `[B * P, inside]` of the chosen tokens, and the `Attention`.
        """
        rows = tf.concat([self.query_key(query_key), self.value(value)], axis=-1)  # [N, 3 inside]
        context, attention = attend(rows, view, self.config.num_attention_heads, self.dropout, training, chosen)
        return self.output_projection(context), attention


class FeedForwardNorm(keras.layers.Layer):
    """A feed-forward, added to its input and normalized: `[N, inside]` to `[N, inside]`.

    Args:
      config: the encoder's configuration.
      epsilon: the epsilon of a layer norm.
      dropout: the probability of dropout on the feed-forward's result.
      **kwargs: passed to `keras.layers.Layer`, for example `name` and `dtype`.
    """

    def __init__(self, config: MobileBertConfig, epsilon: float, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.inner = Projection(config.intermediate_size, name="inner", **make)
        self.outer = Projection(config.bottleneck_size, name="outer", **make)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.norm = make_norm(config, self.dtype_policy, "norm", epsilon=epsilon)

    def build(self) -> None:
        width = self.config.bottleneck_size
        self.inner.build((None, width))
        self.outer.build((None, self.config.intermediate_size))
        self.norm.build((None, width))
        self.built = True

    def call(self, rows: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns rows `[N, inside]` of rows `[N, inside]`; dropout acts if `training` is true."""
        fed = self.outer(self.activation(self.inner(rows)))
        return self.norm(rows + self.dropout(fed, training=training))


class Bottleneck(keras.layers.Layer):
    """A projection and its norm, from the width of a block's ends to that of its inside, or back: `[N, in]` to `[N, width]`.

    Args:
      config: the encoder's configuration.
      width: the width of the result.
      dropout: the probability of dropout on the projection.
      **kwargs: passed to `keras.layers.Layer`, for example `name` and `dtype`.
    """

    def __init__(self, config: MobileBertConfig, width: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.projection = Projection(width, config.initializer_range, dtype=self.dtype_policy, name="projection")
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.norm = make_norm(config, self.dtype_policy, "norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.projection.build(input_shape)
        self.norm.build((None, self.projection.width))
        self.built = True

    def call(self, rows: tf.Tensor, added_to: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        """Projects rows and normalizes them.

        Args:
          rows: `[N, in]`.
          added_to: rows `[N, width]` that the projection is added to before it is normalized, or None.
          training: whether dropout acts.

        Returns:
          Rows `[N, width]`.
        """
        rows = self.dropout(self.projection(rows), training=training)
        return self.norm(rows if added_to is None else rows + added_to)


class MobileBertBlock(keras.layers.Layer):
    """Into the bottleneck, attention, a stack of feed-forwards, and out again: rows `[N, H]` to rows (figure 1c of the paper).

    `inside` is the width inside the block, `bottleneck_size` of the configuration.
    """

    def __init__(self, config: MobileBertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        policy, width = self.dtype_policy, config.bottleneck_size
        # With a bottleneck, dropout acts at the way out. Without one, it acts inside the block.
        inside = 0.0 if config.use_bottleneck else config.hidden_dropout_prob
        if config.use_bottleneck:
            self.way_in = Bottleneck(config, width, dtype=policy, name="way_in")
            if config.key_query_shared_bottleneck:  # checkpoints have it even if use_bottleneck_attention leaves it unused
                self.query_key_in = Bottleneck(config, width, dtype=policy, name="query_key_in")
            self.way_out = Bottleneck(config, config.hidden_size, config.hidden_dropout_prob, dtype=policy, name="way_out")
        self.attention = BottleneckAttention(config, dtype=policy, name="attention")
        self.attention_dropout = Dropout(inside, dtype=policy, name="attention_dropout")
        self.attention_norm = make_norm(config, policy, "attention_norm")
        self.feed_forwards = [
            FeedForwardNorm(config, config.layer_norm_eps, dtype=policy, name=f"feed_forward_{number}")
            for number in range(config.num_feedforward_networks - 1)
        ]
        self.last_feed_forward = FeedForwardNorm(config, DEFAULT_EPSILON, inside, dtype=policy, name="last_feed_forward")

    def build(self) -> None:
        width, inside = self.config.hidden_size, self.config.bottleneck_size
        if self.config.use_bottleneck:
            self.way_in.build((None, width))
            if self.config.key_query_shared_bottleneck:
                self.query_key_in.build((None, width))
            self.way_out.build((None, inside))
        self.attention.build()
        self.attention_norm.build((None, inside))
        for feed_forward in (*self.feed_forwards, self.last_feed_forward):
            feed_forward.build()
        self.built = True

    def call(
        self, rows: tf.Tensor, view: View, training: bool | None = None, chosen: FirstTokens | None = None
    ) -> tuple[tf.Tensor, Attention]:
        """Runs the block.

        Args:
          rows: the input, `[N, H]`.
          view: how rows stand in their texts.
          training: whether dropout acts.
          chosen: the tokens to compute, from `view.choose`; None computes all of them. A head that reads those tokens only
            needs no others of the last block.

        Returns:
          Rows `[N, H]`, or `[B * P, H]` of the chosen tokens, and the `Attention`.
        """
        narrow = query_key = value = rows
        if self.config.use_bottleneck:
            narrow = self.way_in(rows)  # [N, inside]
            if self.config.use_bottleneck_attention:
                query_key = value = narrow
            elif self.config.key_query_shared_bottleneck:
                query_key = self.query_key_in(rows)  # [N, inside]
        attended, attention = self.attention(query_key, value, view=view, training=training, chosen=chosen)
        if chosen is not None:
            rows, narrow = chosen.rows(rows), chosen.rows(narrow)
        narrow = self.attention_norm(narrow + self.attention_dropout(attended, training=training))
        for feed_forward in self.feed_forwards:
            narrow = feed_forward(narrow)  # [N, inside]
        narrow = self.last_feed_forward(narrow, training=training)
        if not self.config.use_bottleneck:
            return narrow, attention
        return self.way_out(narrow, added_to=rows, training=training), attention  # [N, H]


def make_norm(config: MobileBertConfig, policy: Any, name: str, epsilon: float | None = None) -> keras.layers.Layer:
    """Returns a new layer of the configuration's normalization.

    Args:
      config: the encoder's configuration.
      policy: the layer's dtype or dtype policy.
      name: the layer's name.
      epsilon: the epsilon of a layer norm; None takes the configuration's.
    """
    if config.normalization_type == "no_norm":
        return NoNorm(dtype=policy, name=name)
    return keras.layers.LayerNormalization(epsilon=epsilon or config.layer_norm_eps, dtype=policy, name=name)


@keras.saving.register_keras_serializable("kbert")
class MobileBertEncoder(BertEncoder):
    """Turns packed token ids into a vector for each token and one for each text, as `BertEncoder` does.

    >>> config = MobileBertConfig(vocab_size=20, hidden_size=16, intra_bottleneck_size=8, embedding_size=8, num_hidden_layers=2)
    >>> MobileBertEncoder(config)({"token_ids": tf.constant([[2, 7, 3]])})["sequence_output"].shape
    TensorShape([1, 3, 16])

    Args:
      config: a `MobileBertConfig`, or a dictionary of its values.
      real_tokens: whether the dense layers compute the real tokens only (see `real_tokens.py`). Turn it off for XLA: then all
        shapes follow from those of the input.
      **kwargs: passed to `keras.Model`, for example `dtype="mixed_bfloat16"`.

    `call` describes the inputs and the outputs.

    In the trigram embedding, the neighbour after a text's last token is [PAD] if the row is padded, and zeros if it is not. The
    published checkpoints and transformers do so too. A text's vectors therefore depend a little on whether its row is padded,
    but not on how much padding there is, nor on the ids that stand there. Tasks pad every row that is shorter than `max_length`
    (`TextPreprocessor(padded_end=True)`), so that a text has the same answer alone, in a batch, frozen and exported.

    Raises:
      TypeError: if `config` is neither a `MobileBertConfig` nor a dictionary.
    """

    config_class = MobileBertConfig
    embeddings_class = MobileBertEmbeddings
    block_class = MobileBertBlock

    @property
    def reads_next_token(self) -> bool:  # type: ignore[override]
        """Whether a token's vector depends on the token after it: in the trigram embedding."""
        return self.config.trigram_input

    def make_pooler(self) -> Projection | None:
        """Returns a new layer for `pooled_output`, or None if `pooled_output` is the first token's vector."""
        return super().make_pooler() if self.config.classifier_activation else None

    def pool(self, first: tf.Tensor) -> tf.Tensor:
        """Returns `pooled_output` `[B, H]` of the first tokens' rows `[B, H]`."""
        return first if self.pooler is None else super().pool(first)
