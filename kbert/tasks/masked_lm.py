"""Words in the place of [MASK]."""

import operator

import keras
import tensorflow as tf

from kbert.encoders.layers import ACTIVATIONS, Projection, initial_values
from kbert.tasks.task import Task
from kbert.training.losses import LabelledCrossentropy


class TokenHead(keras.layers.Layer):
    """From a position's vector to a logit for each token of the vocabulary: a projection, then the embedding table transposed.

    Where the embedding is narrower than the encoder (MobileBERT), `rest` is the table of the other columns.
    """

    def __init__(self, config, activation, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        width = config.hidden_size
        self.transform = Projection(width, config.initializer_range, dtype=self.dtype_policy, name="transform")
        self.activation = ACTIVATIONS[activation]
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy, name="norm")
        self.embedded = getattr(config, "embedding_size", width)

    def build(self):
        config = self.config
        self.transform.build((None, config.hidden_size))
        self.norm.build((None, config.hidden_size))
        self.bias = self.add_weight(shape=(config.vocab_size,), initializer="zeros", name="bias")
        if hasattr(config, "embedding_size"):
            shape = (config.hidden_size - self.embedded, config.vocab_size)
            self.rest = self.add_weight(shape=shape, initializer=initial_values(config.initializer_range), name="rest")
        self.built = True

    def call(self, vectors, table):
        """Vectors `[B, M, H]` and the embedding table `[V, E]` to logits `[B, M, V]`, float32."""
        shape = tf.shape(vectors)
        rows = self.norm(self.activation(self.transform(tf.reshape(vectors, [-1, vectors.shape[-1]]))))
        logits = tf.matmul(rows[:, : self.embedded], table, transpose_b=True)
        if self.embedded < self.config.hidden_size:
            logits += tf.matmul(rows[:, self.embedded :], self.rest)
        logits = tf.cast(tf.nn.bias_add(logits, self.bias), tf.float32)
        return tf.reshape(logits, [shape[0], shape[1], self.config.vocab_size])


def vectors_at(vectors, inputs):
    """The vectors `[B, M, H]` at `mask_positions` `[B, M]`, or all of them where the inputs name none."""
    positions = inputs.get("mask_positions")
    return vectors if positions is None else tf.gather(vectors, tf.cast(positions, tf.int32), batch_dims=1)


@keras.saving.register_keras_serializable("kbert")
class MaskedLM(Task):
    """Predicts the tokens of positions, most of all those of [MASK].

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> task = MaskedLM(encoder)
    >>> task({"token_ids": tf.constant([[2, 4, 3]])}).shape
    TensorShape([1, 3, 20])
    >>> task({"token_ids": tf.constant([[2, 4, 3]]), "mask_positions": tf.constant([[1]])}).shape
    TensorShape([1, 1, 20])

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`, whose embedding is the output table too.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      head_act, head_layer_norm_eps: of the head, where they are not the encoder's (a KerasHub preset's).

    Calling it with the packed dictionary gives logits `[B, L, V]`; with `mask_positions` `[B, M]` in it, `[B, M, V]`, which costs
    only those. A label of -100 counts for nothing in the loss.
    """

    head, pools, positional = "MaskedLM", False, True

    def __init__(self, encoder, preprocessor=None, head_act=None, head_layer_norm_eps=None, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        self.head_act = head_act or encoder.config.hidden_act
        self.head_layer_norm_eps = head_layer_norm_eps or encoder.config.layer_norm_eps
        self.token_head = TokenHead(
            encoder.config, self.head_act, self.head_layer_norm_eps, dtype=self.dtype_policy, name="token_head"
        )
        self.token_head.build()
        self.built = True

    def call(self, inputs, training=None):
        vectors = self.encoder(inputs, training=training)["sequence_output"]  # [B, L, H]
        return self.token_head(vectors_at(vectors, inputs), self.encoder.embeddings.tokens)

    @classmethod
    def from_preset(cls, preset, max_length=None, **kwargs):
        """A masked LM on the encoder of a preset; arguments as of `TextClassifier.from_preset`."""
        from kbert.checkpoints.presets import load_task

        stated = {key: operator.methodcaller("get", key) for key in ("head_act", "head_layer_norm_eps")}
        return load_task(cls, preset, lambda task, missing: "the masked-LM head", max_length=max_length, **{**stated, **kwargs})

    def default_loss(self):
        return LabelledCrossentropy()

    def default_metrics(self):
        return []

    def preset_config(self):
        """Keys of config.json; those of a head unlike its encoder are read here, but not by transformers."""
        return {"tie_word_embeddings": True, **self._own_head()}

    def _own_head(self):
        config = self.encoder.config
        if (self.head_act, self.head_layer_norm_eps) == (config.hidden_act, config.layer_norm_eps):
            return {}
        return {"head_act": self.head_act, "head_layer_norm_eps": self.head_layer_norm_eps}

    def get_config(self):
        return {**super().get_config(), **self._own_head()}
