"""A label for each word."""

import keras
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.tasks.labels import check_labels, label_keys
from kbert.tasks.task import Task
from kbert.training.losses import LabelledCrossentropy


@keras.saving.register_keras_serializable("kbert")
class TokenClassifier(Task):
    """Labels the tokens of texts: names, parts of speech.

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> task = TokenClassifier(encoder, labels=["O", "B-city", "I-city"])
    >>> task({"token_ids": tf.constant([[2, 7, 3]])}).shape
    TensorShape([1, 3, 3])

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      labels: the names of the classes, in the order of their indices.
      dropout: of the tokens' vectors in training; the encoder's own by default.

    Calling it with the packed dictionary gives logits `[B, L, labels]`.
    """

    head, pools, positional = "TokenClassification", False, True

    def __init__(self, encoder, preprocessor=None, labels=None, dropout=None, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        self.labels = check_labels(labels)
        self.dropout_rate = encoder.config.hidden_dropout_prob if dropout is None else dropout
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        # Logits keep their precision under a mixed policy.
        self.classifier = Projection(len(self.labels), encoder.config.initializer_range, dtype="float32", name="classifier")
        self.classifier.build((None, encoder.config.hidden_size))
        self.built = True

    def call(self, inputs, training=None):
        vectors = self.encoder(inputs, training=training)["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = self.classifier(tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(logits, [shape[0], shape[1], len(self.labels)])

    @classmethod
    def from_preset(cls, preset, labels=None, max_length=None, dropout=None, **kwargs):
        """A token classifier on the encoder of a preset; arguments as of `TextClassifier.from_preset`."""
        from kbert.checkpoints.presets import head_dropout, load_task, stated_labels

        return load_task(
            cls, preset, lambda task, missing: f"the token classification head ({len(task.labels)} labels)",
            max_length=max_length, labels=stated_labels(preset, labels), dropout=head_dropout(dropout, ("classifier_dropout",)), **kwargs,
        )  # fmt: skip

    def default_loss(self):
        return LabelledCrossentropy()

    def default_metrics(self):
        return []

    def preset_config(self):
        stated = label_keys(self.labels)
        if self.encoder.config.type_vocab_size:  # DistilBERT's token head has the encoder's dropout and no key of its own
            stated["classifier_dropout"] = self.dropout_rate
        return stated

    def get_config(self):
        return {**super().get_config(), "labels": self.labels, "dropout": self.dropout_rate}
