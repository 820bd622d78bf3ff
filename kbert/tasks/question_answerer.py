"""The span of a text that answers a question."""

import keras
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.tasks.task import Task


@keras.saving.register_keras_serializable("kbert")
class QuestionAnswerer(Task):
    """Finds where a question is answered in a text.

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> sorted(QuestionAnswerer(encoder)({"token_ids": tf.constant([[2, 7, 3]])}))
    ['end_logits', 'start_logits']

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      dropout: of the tokens' vectors in training; 0, but for DistilBERT's checkpoints.

    Calling it with the packed dictionary gives `start_logits` and `end_logits`, both `[B, L]`. They are computed on every position:
    padding is among what the loss of the original code chooses from.
    """

    head, pools, positional, on_real_tokens = "QuestionAnswering", False, True, False

    def __init__(self, encoder, preprocessor=None, dropout=0.0, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        self.dropout_rate = dropout
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.spans = Projection(2, encoder.config.initializer_range, dtype="float32", name="spans")
        self.spans.build((None, encoder.config.hidden_size))
        self.built = True

    def call(self, inputs, training=None):
        vectors = self.encoder(inputs, training=training)["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = tf.reshape(self.spans(tf.reshape(vectors, [-1, vectors.shape[-1]])), [shape[0], shape[1], 2])
        return {"start_logits": logits[:, :, 0], "end_logits": logits[:, :, 1]}

    @classmethod
    def from_preset(cls, preset, max_length=None, dropout=None, **kwargs):
        """A question answerer on the encoder of a preset; arguments as of `TextClassifier.from_preset`."""
        from kbert.checkpoints.presets import head_dropout, load_task

        return load_task(
            cls, preset, lambda task, missing: "the answer head", max_length=max_length,
            dropout=head_dropout(dropout, ("qa_dropout",), otherwise=0.0), **kwargs,
        )  # fmt: skip

    def default_loss(self):
        """The mean of the cross-entropies of start and end."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"start_logits": loss, "end_logits": loss}

    def default_loss_weights(self):
        return {"start_logits": 0.5, "end_logits": 0.5}

    def default_metrics(self):
        return {}

    def preset_config(self):
        return {"qa_dropout": self.dropout_rate} if self.encoder.config.type_vocab_size == 0 else {}

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout_rate}
