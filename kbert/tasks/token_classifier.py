"""A label for each word; entities of several words."""

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.tasks.labels import check_labels, label_index, label_keys
from kbert.tasks.prediction import Progress, in_order, softmax
from kbert.tasks.task import Task
from kbert.tasks.words import are_words, read_words
from kbert.text.packing import windows
from kbert.training.entities import check_tags, entities, entity_scores
from kbert.training.examples import Examples, check_weights
from kbert.training.losses import NO_LABEL, LabelledCrossentropy


@keras.saving.register_keras_serializable("kbert")
class TokenClassifier(Task):
    """Labels words: names, parts of speech.

    >>> task = TokenClassifier.from_preset("all-minilm-l6-v2", labels=["O", "B-city", "I-city"])  # doctest: +SKIP
    >>> task.fit([["In", "New", "York"]], [["O", "B-city", "I-city"]])  # doctest: +SKIP
    >>> task.classify(["It rains in New York."])  # doctest: +SKIP
    [[{'label': 'city', 'text': 'New York', 'start': 12, 'end': 20, 'score': 0.98}]]

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      labels: the names of the classes, in the order of their indices; for entities BIO or BIOES tags.
      dropout: of the tokens' vectors in training; the encoder's own by default.
      label_all_pieces: train on all pieces of a word; by default on its first alone, as in the BERT paper. The answer is always the
        first one's.
      window_stride: pieces that neighbouring windows share, where a text is longer than `max_length`. A piece's answer is that of the
        window in which it stands farthest from an edge.

    Calling it with the packed dictionary gives logits `[B, L, labels]`.
    """

    head, pools, positional = "TokenClassification", False, True

    def __init__(
        self, encoder, preprocessor=None, labels=None, dropout=None, label_all_pieces=False, window_stride=32, **kwargs
    ):
        super().__init__(encoder, preprocessor, **kwargs)
        self.labels = check_labels(labels)
        self.label_all_pieces = bool(label_all_pieces)
        if preprocessor is not None and not 0 <= window_stride < preprocessor.max_length - 2:
            window_stride = (preprocessor.max_length - 2) // 4
        self.window_stride = window_stride
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

    # Training

    def fit(self, x=None, y=None, **kwargs):
        """Trains on words with labels.

        >>> task.fit(sentences, tags, validation_split=0.1)  # doctest: +SKIP

        Args:
          x: lists of words; or texts.
          y: a list of labels for each list of words; for each text a list of entities, `{"start", "end", "label"}` in characters, where
            the task's labels are their BIO tags.
          **kwargs: the other arguments of a task's `fit`. Where the labels are BIO or BIOES tags and there is validation data of words,
            `val_precision`, `val_recall` and `val_f1` of entities are reported after each epoch, for callbacks too.
        """
        return super().fit(x, y, **kwargs)

    def scores(self, x, y, verbose="auto"):
        """Precision, recall and F1 of entities, as seqeval counts them; of lists of words, where the labels are BIO or BIOES tags."""
        if not are_words(x) or not self._has_tags():
            return {}
        scores = entity_scores(y, self.predict(x, verbose=verbose))
        return {name: scores[name] for name in ("precision", "recall", "f1")}

    def _has_tags(self):
        try:
            check_tags(self.labels)
        except ValueError:
            return False
        return True

    def _examples(self, x, y=None, sample_weight=None, class_weight=None):
        """Words with labels to windows of pieces with labels."""
        if y is None:
            raise ValueError("targets are missing: fit(words, labels)")
        if not len(x):
            raise ValueError("there are no texts: at least one with its labels is needed")
        if len(x) != len(y):
            raise ValueError(f"each text needs its labels: got {len(x)} texts and {len(y)} lists of labels")
        words = read_words(x, self.tokenizer)
        of_word = np.concatenate([self._labels_of_words(words, place, labels, are_words(x)) for place, labels in enumerate(y)])
        of_piece = of_word[words.word] if len(words.word) else np.zeros(0, np.int64)
        if not self.label_all_pieces:
            of_piece = np.where(words.is_first, of_piece, NO_LABEL)
        weights = check_weights(sample_weight, len(y))
        if class_weight is not None:
            raise ValueError("class_weight is for one label a text; a token classifier takes sample_weight")
        cut = self._windows(words)
        labels = cut.of(words.ids.with_values(tf.constant(of_piece, tf.int32)))
        document = cut.document.numpy()
        return Examples((cut.of(words.ids),), labels, None if weights is None else weights[document], document)

    def _labels_of_words(self, words, place, labels, given):
        """The indices of the labels of one text's words."""
        count = int(words.splits[place + 1] - words.splits[place])
        if given:
            if len(labels) != count:
                raise ValueError(f"x[{place}] has {count} words, y[{place}] {len(labels)} labels; each word needs one")
            return np.array([label_index(self.labels, label, f"y[{place}][{n}]") for n, label in enumerate(labels)], np.int64)
        text, tags = words.texts[place], ["O"] * count
        of_text = slice(words.splits[place], words.splits[place + 1])
        starts, ends = words.starts[of_text], words.ends[of_text]
        for n, entity in enumerate(labels):
            where = f"y[{place}][{n}]"
            if not isinstance(entity, dict) or not {"start", "end", "label"} <= set(entity):
                raise TypeError(f"{where} should be a dictionary with start, end and label, got {entity!r}")
            if not 0 <= entity["start"] < entity["end"] <= len(text):
                raise ValueError(f"{where} is {entity!r}, but the text has {len(text)} characters")
            inside = np.flatnonzero((starts < entity["end"]) & (ends > entity["start"]))
            for number, word in enumerate(inside):
                tags[word] = f"{'I' if number else 'B'}-{entity['label']}"
        return np.array([label_index(self.labels, tag, f"y[{place}]") for tag in tags], np.int64)

    def _windows(self, words):
        lengths = tf.cast(words.ids.row_lengths(), tf.int32)
        return windows(lengths, self.preprocessor.max_length - 2, self.window_stride)

    # Answers

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Labels of words; of texts, logits.

        Args:
          x: lists of words, of any length; or what a task's `predict` takes.

        Returns:
          For lists of words a list of labels for each; otherwise what calling the task gives, `[B, L, labels]`.
        """
        return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def _predict_texts(self, x, batch_size, verbose, engine):
        if not are_words(x):
            return super()._predict_texts(x, batch_size, verbose, engine)
        words, probabilities = engine._word_probabilities(x, batch_size, verbose)
        best = [self.labels[n] for n in probabilities.argmax(-1)]
        return [best[a:b] for a, b in zip(words.splits, words.splits[1:])]

    def classify(self, x, batch_size=None, verbose="auto"):
        """The entities of texts.

        Args:
          x: texts, or lists of words, which are read as `" ".join(words)`; of any length.

        Returns:
          For each text a list of `{"label": str, "text": str, "start": int, "end": int, "score": float}`; `text[start:end]` is the entity,
          `score` the mean probability of its words' labels. Labels are BIO or BIOES tags; an I (or E) that continues nothing of its
          type begins an entity, as in conlleval.
        """
        check_tags(self.labels)
        words, probabilities = self._word_probabilities(x, batch_size, verbose)
        best, scores = probabilities.argmax(-1), probabilities.max(-1)
        answers = []
        for text, first, beyond in zip(words.texts, words.splits, words.splits[1:]):
            found = []
            for kind, start, end in entities([self.labels[n] for n in best[first:beyond]]):
                a, b = int(words.starts[first + start]), int(words.ends[first + end - 1])
                score = float(scores[first + start : first + end].mean())
                found.append({"label": kind, "text": text[a:b], "start": a, "end": b, "score": score})
            answers.append(found)
        return answers

    def _word_probabilities(self, x, batch_size, verbose):
        """Texts or words as `Words`, and the probabilities of each word's labels `[W, labels]`."""
        if isinstance(x, (str, bytes)):
            x = [x]
        words = read_words(x, self.tokenizer)
        cut = self._windows(words)
        groups, outputs = self._compute_pieces((cut.of(words.ids),), batch_size, Progress(verbose))
        logits = in_order(groups, outputs, positional=True)  # [windows, L, labels]
        pieces = np.zeros((len(words.word), len(self.labels)), np.float32)
        distance = np.full(len(pieces), -1)
        row_starts, row_ends = words.ids.row_splits.numpy()[:-1], words.ids.row_splits.numpy()[1:]
        for number, (document, start, length) in enumerate(zip(*(part.numpy() for part in cut))):
            first = row_starts[document] + start
            places = np.arange(first, first + length)
            # From the text's own ends no context is missing.
            before = np.arange(length) if start else np.full(length, len(pieces))
            after = np.arange(length)[::-1] if first + length < row_ends[document] else np.full(length, len(pieces))
            better = np.minimum(before, after) > distance[places]
            distance[places[better]] = np.minimum(before, after)[better]
            pieces[places[better]] = logits[number, 1 : 1 + length][better]
        # A word without pieces (an invisible character, say) is none: O, if there is such a label.
        none = np.eye(len(self.labels), dtype=np.float32)[self.labels.index("O") if "O" in self.labels else 0]
        probabilities = np.tile(none, (int(words.splits[-1]), 1))
        probabilities[words.word[words.is_first]] = softmax(pieces[words.is_first])
        return words, probabilities

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
        own = ("labels", "label_all_pieces", "window_stride")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}, "dropout": self.dropout_rate}
