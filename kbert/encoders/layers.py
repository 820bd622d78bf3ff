"""What BERT is made of. Every layer works on rows `[N, H]`; attention asks its view for the texts."""

import contextlib
import contextvars
import math
from typing import NamedTuple

import keras
import tensorflow as tf


def gelu(x):
    """The exact GELU, `x * Phi(x)` (Hendrycks & Gimpel 2016), that BERT's checkpoints were trained with.

    Written with erf: `tf.nn.gelu` uses Erfc, which tf2onnx does not know (FACTS X5); LiteRT fuses this form.
    """
    half, root = tf.constant(0.5, x.dtype), tf.constant(math.sqrt(0.5), x.dtype)
    return half * x * (1 + tf.math.erf(x * root))


def gelu_tanh(x):
    """The approximation of GELU by tanh, as Google's first code had it."""
    return tf.nn.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.math.tanh,
}


_left_empty = contextvars.ContextVar("left_empty", default=False)


@contextlib.contextmanager
def weights_left_empty():
    """Layers made inside have matrices without initial values: for a checkpoint to fill, at no cost in time or memory before."""
    token = _left_empty.set(True)
    try:
        yield
    finally:
        _left_empty.reset(token)


def initial_values(initializer_range):
    """The initializer of matrices: a normal distribution cut at two standard deviations, as BERT's."""
    if _left_empty.get():
        return lambda shape, dtype=None: tf.raw_ops.Empty(shape=shape, dtype=dtype)
    return keras.initializers.TruncatedNormal(stddev=initializer_range)


class Projection(keras.layers.Layer):
    """A dense layer on rows, `x W + b`: `[N, in]` to `[N, out]`."""

    def __init__(self, width, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.initializer = initial_values(initializer_range)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.width), initializer=self.initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.width,), initializer="zeros", name="bias")

    def call(self, rows):
        return self.product(rows, self.kernel, self.bias)

    @staticmethod
    def product(rows, kernel, bias):
        """What `call` computes; an export puts another way of computing it in its place (`export/calibrated.py`)."""
        return tf.nn.bias_add(tf.matmul(rows, kernel), bias)


class Dropout(keras.layers.Dropout):
    """Keras's dropout with two numbers out of each 32 random bits: drawing them is what dropout costs on a CPU.

    The rate is rounded to a multiple of 1/65536, and what is kept is scaled by that.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        dropped = round(self.rate * 65536)
        shape, seed = tf.shape(inputs), self.seed_generator.next()
        count = tf.reduce_prod(shape)
        bits = tf.random.stateless_uniform([(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32)
        draws = tf.reshape(tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:count], shape)
        kept = tf.cast(draws >= tf.constant(dropped, tf.uint16), inputs.dtype)
        return inputs * (kept * tf.constant(65536 / (65536 - dropped), inputs.dtype))


def look_up(table, ids, config):
    """The embeddings of tokens `[N]` to `[N, H]`. That of [PAD] learns nothing from it, as in the reference (`padding_idx`)."""

    @tf.custom_gradient
    def gather(table):
        def gradient(upstream):
            upstream = tf.where((ids == config.pad_token_id)[:, None], tf.zeros_like(upstream), upstream)
            return tf.IndexedSlices(upstream, ids, tf.shape(table))

        return tf.gather(table, ids), gradient

    return gather(tf.convert_to_tensor(table))


def segment_rows(table, segment_ids):
    """Segment embeddings `[N, H]`: a product with a one-hot is cheaper than a gather, whose gradient scatters into two rows."""
    return tf.matmul(tf.one_hot(segment_ids, table.shape[0], dtype=tf.as_dtype(table.dtype)), table)


class Embeddings(keras.layers.Layer):
    """Token, position and segment embeddings, summed and normalized: packed ids `[B, L]` to rows `[N, H]`."""

    look_up, segment_rows = staticmethod(look_up), staticmethod(segment_rows)  # replaced by an export, as `Projection.product`

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self):
        config = self.config
        initializer = initial_values(config.initializer_range)

        def table(name, size):
            return self.add_weight(shape=(size, config.hidden_size), initializer=initializer, name=name)

        self.tokens = table("tokens", config.vocab_size)
        self.positions = table("positions", config.max_position_embeddings)
        if config.type_vocab_size:
            self.segments = table("segments", config.type_vocab_size)
        self.norm.build((None, config.hidden_size))
        self.built = True

    def call(self, inputs, view=None, training=None):
        rows = self.look_up(self.tokens, view.rows(inputs["token_ids"]), self.config) + tf.gather(
            self.positions, view.positions()
        )
        if self.config.type_vocab_size:
            rows += self.segment_rows(self.segments, view.rows(inputs["segment_ids"]))
        return self.dropout(self.norm(rows), training=training)


class Attention(NamedTuple):
    """What attention computes on its way: for distillation, and for who wants to look."""

    probabilities: tf.Tensor  # [B, heads, L, L], or [B, heads, P, L]
    scores: tf.Tensor  # the same before the softmax and before padding is masked
    values: tf.Tensor  # [B, heads, L, d]


def attend(rows, view, num_heads, dropout, training, chosen=None):
    """`softmax(Q K^T / sqrt(d)) V` for each head (Vaswani et al. 2017, section 3.2).

    Args:
      rows: queries, keys and values side by side, `[N, 3 H]`.
      view: how rows stand in their texts.
      dropout: the layer for the attention weights.
      chosen: what `view.choose` gave: of those tokens only.

    Returns:
      Rows `[N, H]`, or `[B * P, H]` of the chosen tokens, and the `Attention`.
    """
    query, key, value = view.heads(rows, num_heads)  # [B, heads, L, d]
    if chosen is not None:
        query = chosen.queries(query)
    scores = tf.matmul(query * tf.constant(1 / math.sqrt(query.shape[-1]), query.dtype), key, transpose_b=True)
    attention = tf.nn.softmax(scores + (chosen or view).score_bias(scores.dtype))  # [B, heads, L, L]
    context = tf.matmul(dropout(attention, training=training), value)  # [B, heads, L, d]
    return (chosen or view).merge(context), Attention(attention, scores, value)


class SelfAttention(keras.layers.Layer):
    """Attention of each text to itself, with one product for queries, keys and values, then a projection: rows to rows."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.num_heads = config.num_attention_heads
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.qkv = Projection(3 * config.hidden_size, name="qkv", **make)
        self.output_projection = Projection(config.hidden_size, name="output", **make)
        self.dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self):
        self.qkv.build((None, self.config.hidden_size))
        self.output_projection.build((None, self.config.hidden_size))
        self.built = True

    def call(self, rows, view=None, training=None, chosen=None):
        context, attention = attend(self.qkv(rows), view, self.num_heads, self.dropout, training, chosen)
        return self.output_projection(context), attention


class FeedForward(keras.layers.Layer):
    """Two projections with the activation between them: `[N, H]` to `[N, intermediate]` to `[N, H]`."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.inner = Projection(config.intermediate_size, name="inner", **make)
        self.outer = Projection(config.hidden_size, name="outer", **make)
        self.activation = ACTIVATIONS[config.hidden_act]

    def build(self):
        self.inner.build((None, self.config.hidden_size))
        self.outer.build((None, self.config.intermediate_size))
        self.built = True

    def call(self, rows):
        return self.outer(self.activation(self.inner(rows)))


class EncoderBlock(keras.layers.Layer):
    """Attention, then feed-forward, each added to its input and normalized after (post-layer-norm).

    With `chosen`, rows `[B * P, H]` of the chosen tokens: all that a head on them needs of the last block.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        policy = self.dtype_policy
        self.attention = SelfAttention(config, dtype=policy, name="attention")
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=policy, name="attention_norm"
        )
        self.feed_forward = FeedForward(config, dtype=policy, name="feed_forward")
        self.feed_forward_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=policy, name="feed_forward_norm"
        )
        self.attention_dropout = Dropout(config.hidden_dropout_prob, dtype=policy, name="attention_dropout")
        self.feed_forward_dropout = Dropout(config.hidden_dropout_prob, dtype=policy, name="feed_forward_dropout")

    def build(self):
        self.attention.build()
        self.feed_forward.build()
        self.attention_norm.build((None, self.config.hidden_size))
        self.feed_forward_norm.build((None, self.config.hidden_size))
        self.built = True

    def call(self, rows, view=None, training=None, chosen=None):
        attended, attention = self.attention(rows, view=view, training=training, chosen=chosen)
        rows = rows if chosen is None else chosen.rows(rows)
        rows = self.attention_norm(rows + self.attention_dropout(attended, training=training))
        fed = self.feed_forward(rows)
        return self.feed_forward_norm(rows + self.feed_forward_dropout(fed, training=training)), attention
