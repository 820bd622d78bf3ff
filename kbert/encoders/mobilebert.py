"""MobileBERT (Sun et al. 2020): a deep, thin BERT whose blocks work inside bottlenecks."""

import keras
import tensorflow as tf

from kbert.config import MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import ACTIVATIONS, Dropout, Projection, attend, initial_values, look_up, segment_rows


class NoNorm(keras.layers.Layer):
    """What stands in the place of layer norm (Sun et al. 2020, section 3.4): a scale and a shift, `gamma x + beta`."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="beta")

    def call(self, rows):
        return rows * self.gamma + self.beta


class MobileBertEmbeddings(keras.layers.Layer):
    """The vectors of a token and of its two neighbours, projected; plus position and segment: packed ids to rows `[N, H]`."""

    look_up, segment_rows = staticmethod(look_up), staticmethod(segment_rows)  # replaced by an export, as `Projection.product`

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.projects = config.trigram_input or config.embedding_size != config.hidden_size
        if self.projects:
            self.projection = Projection(
                config.hidden_size, config.initializer_range, dtype=self.dtype_policy, name="projection"
            )
        self.norm = make_norm(config, self.dtype_policy, "norm", epsilon=DEFAULT_EPSILON)
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self):
        config = self.config
        initializer = initial_values(config.initializer_range)

        def table(name, size, width):
            return self.add_weight(shape=(size, width), initializer=initializer, name=name)

        self.tokens = table("tokens", config.vocab_size, config.embedding_size)
        self.positions = table("positions", config.max_position_embeddings, config.hidden_size)
        self.segments = table("segments", config.type_vocab_size, config.hidden_size)
        if self.projects:
            self.projection.build((None, config.embedding_size * (3 if config.trigram_input else 1)))
        self.norm.build((None, config.hidden_size))
        self.built = True

    def call(self, inputs, view=None, training=None):
        ids = inputs["token_ids"]
        if self.config.trigram_input:
            # The token after the last real one is [PAD] in a padded row and nothing (zeros) at the row's end, as in the
            # original code; whatever ids stand at padding have no influence.
            ids = tf.where(inputs["padding_mask"] == 0, self.config.pad_token_id, ids)
            before, after = tf.pad(ids[:, :-1], [[0, 0], [1, 0]]), tf.pad(ids[:, 1:], [[0, 0], [0, 1]])
            last = tf.shape(ids)[1] - 1
            position = view.positions()
            rows = tf.concat(
                [
                    self._neighbours(view.rows(after), position < last),
                    self.look_up(self.tokens, view.rows(ids), self.config),
                    self._neighbours(view.rows(before), position > 0),
                ],
                axis=-1,
            )  # [N, 3 * embedding_size]
        else:
            rows = self.look_up(self.tokens, view.rows(ids), self.config)
        if self.projects:
            rows = self.projection(rows)
        rows += tf.gather(self.positions, view.positions()) + self.segment_rows(self.segments, view.rows(inputs["segment_ids"]))
        return self.dropout(self.norm(rows), training=training)

    def _neighbours(self, ids, is_there):
        rows = self.look_up(self.tokens, ids, self.config)
        return rows * tf.cast(is_there, rows.dtype)[:, None]


class BottleneckAttention(keras.layers.Layer):
    """Attention whose queries and keys are made from one input and whose values from another, added to a third."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        width = config.bottleneck_size
        self.query_key = Projection(2 * width, name="query_key", **make)
        self.value = Projection(width, name="value", **make)
        self.output_projection = Projection(width, name="output", **make)
        self.dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self):
        config = self.config
        width = config.bottleneck_size
        self.query_key.build((None, width))
        self.value.build((None, width if config.use_bottleneck_attention else config.hidden_size))
        self.output_projection.build((None, width))
        self.built = True

    def call(self, query_key, value, view=None, training=None, chosen=None):
        rows = tf.concat([self.query_key(query_key), self.value(value)], axis=-1)
        context, attention = attend(rows, view, self.config.num_attention_heads, self.dropout, training, chosen)
        return self.output_projection(context), attention


class FeedForwardNorm(keras.layers.Layer):
    """A feed-forward, added to its input and normalized: `[N, bottleneck]` to the same."""

    def __init__(self, config, epsilon, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.inner = Projection(config.intermediate_size, name="inner", **make)
        self.outer = Projection(config.bottleneck_size, name="outer", **make)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.norm = make_norm(config, self.dtype_policy, "norm", epsilon=epsilon)

    def build(self):
        width = self.config.bottleneck_size
        self.inner.build((None, width))
        self.outer.build((None, self.config.intermediate_size))
        self.norm.build((None, width))
        self.built = True

    def call(self, rows, training=None):
        fed = self.outer(self.activation(self.inner(rows)))
        return self.norm(rows + self.dropout(fed, training=training))


class Bottleneck(keras.layers.Layer):
    """A projection and its norm, between the width of a block's ends and that of its inside."""

    def __init__(self, config, width, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.projection = Projection(width, config.initializer_range, dtype=self.dtype_policy, name="projection")
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.norm = make_norm(config, self.dtype_policy, "norm")

    def build(self, input_shape):
        self.projection.build(input_shape)
        self.norm.build((None, self.projection.width))
        self.built = True

    def call(self, rows, added_to=None, training=None):
        rows = self.dropout(self.projection(rows), training=training)
        return self.norm(rows if added_to is None else rows + added_to)


class MobileBertBlock(keras.layers.Layer):
    """Into the bottleneck, attention, a stack of feed-forwards, and out again, added to the block's input (figure 1c)."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        policy, width = self.dtype_policy, config.bottleneck_size
        # Dropout has a place inside only where there is no bottleneck, and at the way out where there is one.
        inside = 0.0 if config.use_bottleneck else config.hidden_dropout_prob
        if config.use_bottleneck:
            self.way_in = Bottleneck(config, width, dtype=policy, name="way_in")
            if config.key_query_shared_bottleneck:  # in checkpoints even where use_bottleneck_attention leaves it unused
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

    def build(self):
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

    def call(self, rows, view=None, training=None, chosen=None):
        narrow = query_key = value = rows
        if self.config.use_bottleneck:
            narrow = self.way_in(rows)
            if self.config.use_bottleneck_attention:
                query_key = value = narrow
            elif self.config.key_query_shared_bottleneck:
                query_key = self.query_key_in(rows)
        attended, attention = self.attention(query_key, value, view=view, training=training, chosen=chosen)
        if chosen is not None:
            rows, narrow = chosen.rows(rows), chosen.rows(narrow)
        narrow = self.attention_norm(narrow + self.attention_dropout(attended, training=training))
        for feed_forward in self.feed_forwards:
            narrow = feed_forward(narrow)
        narrow = self.last_feed_forward(narrow, training=training)
        if not self.config.use_bottleneck:
            return narrow, attention
        return self.way_out(narrow, added_to=rows, training=training), attention


# Where the original code does not pass the configuration's epsilon on to a layer norm, it has torch's own.
DEFAULT_EPSILON = 1e-5


def make_norm(config, policy, name, epsilon=None):
    """The configuration's normalization."""
    if config.normalization_type == "no_norm":
        return NoNorm(dtype=policy, name=name)
    return keras.layers.LayerNormalization(epsilon=epsilon or config.layer_norm_eps, dtype=policy, name=name)


@keras.saving.register_keras_serializable("kbert")
class MobileBertEncoder(BertEncoder):
    """Turns packed token ids into vectors, with the contract of `BertEncoder`.

    >>> config = MobileBertConfig(vocab_size=20, hidden_size=16, intra_bottleneck_size=8, embedding_size=8, num_hidden_layers=2)
    >>> MobileBertEncoder(config)({"token_ids": tf.constant([[2, 7, 3]])})["sequence_output"].shape
    TensorShape([1, 3, 16])

    Args:
      config: a `MobileBertConfig`, or a dictionary of its values.
      real_tokens: as for `BertEncoder`.

    In the trigram embedding the neighbour after a text's last token is [PAD] where the row is padded and zeros where it is not:
    so do the published checkpoints and transformers, so that a text's vectors depend a little on whether its row is padded
    at all; not on by how much, nor on the ids that stand there.
    """

    config_class, embeddings_class, block_class = MobileBertConfig, MobileBertEmbeddings, MobileBertBlock

    def make_pooler(self):
        return super().make_pooler() if self.config.classifier_activation else None

    def pool(self, first):
        return first if self.pooler is None else super().pool(first)
