"""The layers of BERT. Every one works on rows `[N, H]`; attention asks the view how the rows stand in their texts.

A weight's path is made of the names and attributes of layers, and checkpoints are read into these paths.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kbert.config import BertConfig, MobileBertConfig
from kbert.encoders.real_tokens import FirstTokens, View


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Computes the exact GELU, `x * Phi(x)` (Hendrycks & Gimpel 2016), that BERT's checkpoints were trained with.

    The formula is written with erf. `tf.nn.gelu` uses Erfc in TensorFlow 2.21, which tf2onnx 1.17 does not know: it writes an
    invalid model without an error. LiteRT fuses this form into its own GELU.
    """
    half, root = tf.constant(0.5, x.dtype), tf.constant(math.sqrt(0.5), x.dtype)
    return half * x * (1 + tf.math.erf(x * root))


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """Computes the approximation of GELU by tanh, which Google's first code used."""
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
def weights_left_empty() -> Iterator[None]:
    """Makes the matrices of layers that are built inside the context without initial values.

    A checkpoint fills them. Before that they cost neither time nor memory.
    """
    token = _left_empty.set(True)
    try:
        yield
    finally:
        _left_empty.reset(token)


def initial_values(initializer_range: float) -> Callable[..., tf.Tensor]:
    """Returns the initializer of matrices: a normal distribution that is cut at two standard deviations, as BERT's is.

    Args:
      initializer_range: the standard deviation.
    """
    if _left_empty.get():
        return lambda shape, dtype=None: tf.raw_ops.Empty(shape=shape, dtype=dtype)
    return keras.initializers.TruncatedNormal(stddev=initializer_range)


class Projection(keras.layers.Layer):
    """A dense layer on rows, `x W + b`: `[N, in]` to `[N, width]`.

    Args:
      width: the width of the result.
      initializer_range: the standard deviation of the initial matrix.
      **kwargs: passed to `keras.layers.Layer`, for example `name` and `dtype`.
    """

    def __init__(self, width: int, initializer_range: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.initializer = initial_values(initializer_range)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.width), initializer=self.initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.width,), initializer="zeros", name="bias")

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns `rows W + b`, `[N, width]` of `[N, in]`."""
        return self.product(rows, self.kernel, self.bias)

    @staticmethod
    def product(rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Returns `rows kernel + bias`. An export to int8 replaces this function (`export/calibrated.py`)."""
        return tf.nn.bias_add(tf.matmul(rows, kernel), bias)


class Dropout(keras.layers.Dropout):
    """Keras's dropout, with two draws out of each 32 random bits.

    Drawing the bits is most of the cost of dropout on a CPU. The rate is rounded to a multiple of 1/65536, and the values that
    are kept are scaled by the rounded rate.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Returns the inputs with some values set to 0 and the others scaled up, if `training` is true."""
        if not training or not self.rate:
            return inputs
        dropped = round(self.rate * 65536)
        shape, seed = tf.shape(inputs), self.seed_generator.next()
        count = tf.reduce_prod(shape)
        bits = tf.random.stateless_uniform([(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32)
        draws = tf.reshape(tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:count], shape)
        kept = tf.cast(draws >= tf.constant(dropped, tf.uint16), inputs.dtype)
        return inputs * (kept * tf.constant(65536 / (65536 - dropped), inputs.dtype))


def look_up(table: tf.Tensor, ids: tf.Tensor, config: BertConfig | MobileBertConfig) -> tf.Tensor:
    """Returns the embeddings of tokens. The embedding of [PAD] gets no gradient, as in transformers (`padding_idx`).

    Args:
      table: the embeddings, `[V, H]`.
      ids: the tokens, int32 `[N]`.
      config: the encoder's configuration, which knows the id of [PAD].

    Returns:
      `[N, H]`.
    """

    @tf.custom_gradient
    def gather(table: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.IndexedSlices:
            upstream = tf.where((ids == config.pad_token_id)[:, None], tf.zeros_like(upstream), upstream)
            return tf.IndexedSlices(upstream, ids, tf.shape(table))

        return tf.gather(table, ids), gradient

    return gather(tf.convert_to_tensor(table))


def segment_rows(table: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
    """Returns the embeddings `[N, H]` of segments `[N]`, out of the table `[segments, H]`.

    A product with a one-hot is cheaper than a gather, whose gradient scatters all rows into two.
    """
    return tf.matmul(tf.one_hot(segment_ids, table.shape[0], dtype=tf.as_dtype(table.dtype)), table)


class Embeddings(keras.layers.Layer):
    """Token, position and segment embeddings, summed and normalized: packed ids `[B, L]` to rows `[N, H]`."""

    # An export to int8 replaces these functions, as it replaces `Projection.product`.
    look_up, segment_rows = staticmethod(look_up), staticmethod(segment_rows)

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self) -> None:
        config = self.config
        initializer = initial_values(config.initializer_range)

        def table(name: str, size: int) -> keras.Variable:
            return self.add_weight(shape=(size, config.hidden_size), initializer=initializer, name=name)

        self.tokens = table("tokens", config.vocab_size)
        self.positions = table("positions", config.max_position_embeddings)
        if config.type_vocab_size:
            self.segments = table("segments", config.type_vocab_size)
        self.norm.build((None, config.hidden_size))
        self.built = True

    def call(self, inputs: dict[str, tf.Tensor], view: View, training: bool | None = None) -> tf.Tensor:
        """Embeds packed ids.

        Args:
          inputs: `token_ids` and `segment_ids`, int32 `[B, L]`.
          view: how rows stand in their texts.
          training: whether dropout acts.

        Returns:
          Rows `[N, H]`.
        """
        rows = self.look_up(self.tokens, view.rows(inputs["token_ids"]), self.config)  # [N, H]
        rows += tf.gather(self.positions, view.positions())
        if self.config.type_vocab_size:
            rows += self.segment_rows(self.segments, view.rows(inputs["segment_ids"]))
        return self.dropout(self.norm(rows), training=training)


def at_least_float32(values: tf.Tensor) -> tf.Tensor:
    """Returns values of half precision as float32, so that sums over many of them are exact, and other values as they are."""
    return tf.cast(values, tf.float32) if values.dtype.size < 4 else values


class Attention(NamedTuple):
    """The intermediate results of attention, which distillation compares and users may ask for."""

    probabilities: tf.Tensor  # [B, heads, L, L], or [B, heads, P, L] for chosen tokens; float32 under a half-precision policy
    scores: tf.Tensor  # of the same shape and type, before the softmax and before padding is masked
    values: tf.Tensor  # [B, heads, L, d]


def attend(
    rows: tf.Tensor,
    view: View,
    num_heads: int,
    dropout: keras.layers.Layer,
    training: bool | None,
    chosen: FirstTokens | None = None,
) -> tuple[tf.Tensor, Attention]:
    """Computes `softmax(Q K^T / sqrt(d)) V` for each head (Vaswani et al. 2017, section 3.2).

    The softmax is computed in float32 or more under every dtype policy. In bfloat16 its sum over 512 tokens loses the values
    that are added last, and the probabilities then add up to 1.04 rather than to 1.

    Args:
      rows: queries, keys and values side by side, `[N, 3 H]`.
      view: how rows stand in their texts.
      num_heads: the number of heads.
      dropout: the layer that drops attention weights.
      training: whether that layer acts.
      chosen: the tokens whose queries are used, from `view.choose`; None uses all of them.

    Returns:
      Rows `[N, H]`, or `[B * P, H]` of the chosen tokens, and the `Attention`.
    """
    query, key, value = view.heads(rows, num_heads)  # [B, heads, L, d]
    if chosen is not None:
        query = chosen.queries(query)
    scale = tf.constant(1 / math.sqrt(query.shape[-1]), query.dtype)
    scores = at_least_float32(tf.matmul(query * scale, key, transpose_b=True))  # [B, heads, L, L]
    probabilities = tf.nn.softmax(scores + (chosen or view).score_bias(scores.dtype))
    kept = dropout(tf.cast(probabilities, value.dtype), training=training)
    context = tf.matmul(kept, value)  # [B, heads, L, d]
    return (chosen or view).merge(context), Attention(probabilities, scores, value)


class SelfAttention(keras.layers.Layer):
    """Attention of each text to itself, then a projection: rows `[N, H]` to rows. One product gives queries, keys and
    values."""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.num_heads = config.num_attention_heads
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.qkv = Projection(3 * config.hidden_size, name="qkv", **make)
        self.output_projection = Projection(config.hidden_size, name="output", **make)
        self.dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def build(self) -> None:
        self.qkv.build((None, self.config.hidden_size))
        self.output_projection.build((None, self.config.hidden_size))
        self.built = True

    def call(
        self, rows: tf.Tensor, view: View, training: bool | None = None, chosen: FirstTokens | None = None
    ) -> tuple[tf.Tensor, Attention]:
        """Lets each token attend to its text.

        Args:
          rows: the input, `[N, H]`.
          view: how rows stand in their texts.
          training: whether dropout acts.
          chosen: the tokens to compute, from `view.choose`; None computes all of them. A head that reads those tokens only
            needs no others of the last block.

        Returns:
          Rows `[N, H]`, or `[B * P, H]` of the chosen tokens, and the `Attention`.
        """
        context, attention = attend(self.qkv(rows), view, self.num_heads, self.dropout, training, chosen)  # [N, H]
        return self.output_projection(context), attention


class FeedForward(keras.layers.Layer):
    """Two projections with the activation between them: `[N, H]` to `[N, intermediate_size]` to `[N, H]`."""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        make = {"initializer_range": config.initializer_range, "dtype": self.dtype_policy}
        self.inner = Projection(config.intermediate_size, name="inner", **make)
        self.outer = Projection(config.hidden_size, name="outer", **make)
        self.activation = ACTIVATIONS[config.hidden_act]

    def build(self) -> None:
        self.inner.build((None, self.config.hidden_size))
        self.outer.build((None, self.config.intermediate_size))
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns rows `[N, H]` of rows `[N, H]`."""
        return self.outer(self.activation(self.inner(rows)))  # [N, H]


class EncoderBlock(keras.layers.Layer):
    """Attention, then feed-forward, each added to its input and normalized after (post-layer-norm): rows `[N, H]` to rows."""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
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

    def build(self) -> None:
        self.attention.build()
        self.feed_forward.build()
        self.attention_norm.build((None, self.config.hidden_size))
        self.feed_forward_norm.build((None, self.config.hidden_size))
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
        attended, attention = self.attention(rows, view=view, training=training, chosen=chosen)  # [N, H]
        rows = rows if chosen is None else chosen.rows(rows)
        rows = self.attention_norm(rows + self.attention_dropout(attended, training=training))
        fed = self.feed_forward(rows)  # [N, H]
        return self.feed_forward_norm(rows + self.feed_forward_dropout(fed, training=training)), attention
