"""One label for each text."""

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.tasks.task import Task


@keras.saving.register_keras_serializable("kbert")
class TextClassifier(Task):
    """Labels texts.

    >>> task = TextClassifier.from_preset("all-minilm-l6-v2", labels=["ham", "spam"])  # doctest: +SKIP
    >>> task.fit(texts, labels)  # doctest: +SKIP
    >>> task.classify(["WINNER!! Claim your prize"])  # doctest: +SKIP
    [{'label': 'spam', 'score': 0.99, 'scores': {'ham': 0.01, 'spam': 0.99}}]

    Args:
      encoder: a `BertEncoder`.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      labels: the names of the classes, in the order of their indices.
      dropout: of the text's vector in training; the encoder's own by default.

    Calling it with the packed dictionary gives logits `[B, labels]`.
    """

    head = "SequenceClassification"

    def __init__(self, encoder, preprocessor=None, labels=None, dropout=None, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        self.labels = check_labels(labels)
        self.dropout_rate = encoder.config.hidden_dropout_prob if dropout is None else dropout
        width, initializer_range = encoder.config.hidden_size, encoder.config.initializer_range
        self.pre_classifier = None
        if not encoder.config.add_pooling_layer:  # as DistilBERT: a layer of the head in the pooler's place
            self.pre_classifier = Projection(width, initializer_range, dtype=self.dtype_policy, name="pre_classifier")
            self.pre_classifier.build((None, width))
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        self.classifier = Projection(
            len(self.labels),
            initializer_range=initializer_range,
            dtype="float32",  # logits keep their precision under a mixed policy
            name="classifier",
        )
        self.classifier.build((None, width))
        self.built = True

    def call(self, inputs, training=None):
        outputs = self.encoder(inputs, training=training)
        if self.pre_classifier is None:
            pooled = outputs["pooled_output"]  # [B, H]
        else:
            pooled = tf.nn.relu(self.pre_classifier(outputs["sequence_output"][:, 0]))
        return self.classifier(tf.cast(self.dropout(pooled, training=training), tf.float32))  # [B, labels]

    def compute_output_shape(self, input_shape):
        return (None, len(self.labels))

    @classmethod
    def from_preset(cls, preset, labels=None, max_length=None, dropout=None, **kwargs):
        """A classifier on the encoder of a preset.

        Args:
          preset: a built-in name (`kbert.presets()`) or a folder.
          labels: the names of the classes. A checkpoint that was fine-tuned brings its own; where it brings as many, its
            head is kept.
          max_length: the most positions of a text; the checkpoint's most (512) by default. A shorter one is faster.
          dropout: of the text's vector; by default the checkpoint's.
          **kwargs: `dtype` for a Keras dtype policy, and `preprocessor`, `None` for packed input.
        """
        from kbert.checkpoints.presets import label_names, load_task

        if labels is not None:
            labels = check_labels(labels)

        def known_labels(config):
            names = labels or label_names(config)
            if names is None:
                raise ValueError(f'{preset} does not say its labels: pass labels=["...", "..."]')
            return names

        def known_dropout(config):
            stated = (dropout, config.get("classifier_dropout"), config.get("seq_classif_dropout"))
            return next((rate for rate in stated if rate is not None), None)

        description = f"the classification head ({len(labels)} labels)" if labels else "the classification head"
        return load_task(cls, preset, description, max_length=max_length, labels=known_labels, dropout=known_dropout, **kwargs)

    def default_loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def encode_targets(self, y):
        """Names or indices of labels to int32 `[B]`."""
        return np.array([self._index(label, place) for place, label in enumerate(y)], np.int32)

    def encode_target_tensor(self, names):
        """A string tensor of names to indices, in a dataset's graph."""
        labels = tf.constant(self.labels)
        same = tf.equal(names[..., None], labels)
        known = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_any(same, -1)), ["labels should be among", labels, "got", names], summarize=20
        )
        with tf.control_dependencies([known]):
            return tf.argmax(same, -1, tf.int32)

    def encode_class_weight(self, class_weight):
        """A dictionary by label or index to float32 `[labels]`; a label left out weighs 1."""
        weights = np.ones(len(self.labels), np.float32)
        for label, weight in class_weight.items():
            weights[self._index(label, None)] = weight
        return weights

    def _index(self, label, place):
        where = "class_weight" if place is None else f"y[{place}]"
        if isinstance(label, bytes):
            label = label.decode("utf-8")
        if isinstance(label, str):
            if label not in self.labels:
                raise ValueError(f"{where} is {label!r}, which is not one of the labels {self.labels}")
            return self.labels.index(label)
        if isinstance(label, (bool, np.bool_, int, np.integer)) or (hasattr(label, "dtype") and label.dtype.is_integer):
            if not 0 <= int(label) < len(self.labels):
                raise ValueError(
                    f"{where} is {int(label)}, but the {len(self.labels)} labels have indices 0 to {len(self.labels) - 1}"
                )
            return int(label)
        raise TypeError(f"{where} is {label!r} ({type(label).__name__}); a label is its name or its index")

    def classify(self, texts, **kwargs):
        """The label of each text with its probability, and those of all labels.

        Args:
          texts: as for `predict`.

        Returns:
          A list with `{"label": str, "score": float, "scores": {label: float}}` for each text.
        """
        answers = []
        for row in np.asarray(tf.nn.softmax(self.predict(texts, **kwargs))):
            best = int(row.argmax())
            scores = dict(zip(self.labels, row.tolist()))
            answers.append({"label": self.labels[best], "score": float(row[best]), "scores": scores})
        return answers

    def serving_outputs(self, logits):
        """What an exported graph answers for logits `[B, labels]`."""
        probabilities = tf.nn.softmax(logits)
        return {
            "label": tf.gather(tf.constant(self.labels), tf.argmax(probabilities, -1)),
            "score": tf.reduce_max(probabilities, -1),
            "probabilities": probabilities,
        }

    def preset_config(self):
        """The keys of config.json that transformers needs for this head."""
        return {
            "id2label": {str(number): label for number, label in enumerate(self.labels)},
            "label2id": {label: number for number, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
            "classifier_dropout": self.dropout_rate,
        }

    def get_config(self):
        return {**super().get_config(), "labels": self.labels, "dropout": self.dropout_rate}


def check_labels(labels):
    """The names of the classes as a list, two or more and all different."""
    if labels is None or isinstance(labels, (str, bytes, int)):
        raise TypeError(f'labels should be a list of names such as ["ham", "spam"], got {labels!r}')
    labels = list(labels)
    if all(isinstance(label, (int, np.integer)) for label in labels) and labels == list(range(len(labels))):
        labels = [str(label) for label in labels]
    wrong = [label for label in labels if not isinstance(label, str) or not label]
    if wrong:
        raise TypeError(f"labels should be names, got {wrong[0]!r}")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"labels should differ, got {twice!r} twice")
    if len(labels) < 2:
        raise ValueError(f"at least two labels are needed, got {labels}")
    return labels
