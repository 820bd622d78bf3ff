"""A label for each word; entities of several words."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.scoring.entities import check_tags, entities, entity_scores
from kbert.tasks.entity_graph import best_window
from kbert.tasks.exported_answers import ComparableAnswer, slices_by_text
from kbert.tasks.labels import check_labels, label_index, label_keys
from kbert.tasks.one_window import fixed_shape, one_row, substrings
from kbert.tasks.prediction import Progress, in_order, softmax
from kbert.tasks.task import Task
from kbert.tasks.words import are_words, read_words
from kbert.text.packing import TextPreprocessor, windows
from kbert.text.texts import text_list
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

    def head_outputs(self, outputs, inputs, training=None):
        vectors = outputs["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = self.classifier(tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(logits, [shape[0], shape[1], len(self.labels)])

    @classmethod
    def from_preset(cls, preset, labels=None, max_length=None, dropout=None, **kwargs):
        """A token classifier on the encoder of a preset; arguments as of `TextClassifier.from_preset`."""
        from kbert.checkpoints.opened import head_dropout, load_task, stated_labels

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
        of_text = self._labels_of_given_words if are_words(x) else self._labels_of_found_words
        labels = [of_text(words, place, labels) for place, labels in enumerate(y)]
        of_word = tf.constant([label for text in labels for label in text], tf.int32)
        of_piece = tf.gather(of_word, words.word)
        if not self.label_all_pieces:
            of_piece = tf.where(words.is_first, of_piece, NO_LABEL)
        weights = check_weights(sample_weight, len(y))
        if class_weight is not None:
            raise ValueError("class_weight is for one label a text; a token classifier takes sample_weight")
        cut = self._windows(words.ids)
        labels = cut.of(words.ids.with_values(of_piece))
        document = cut.document.numpy()
        return Examples((cut.of(words.ids),), labels, None if weights is None else weights[document], document)

    def _labels_of_given_words(self, words, place, labels):
        """The indices of the labels of one text's words."""
        count = int(words.splits[place + 1] - words.splits[place])
        if len(labels) != count:
            raise ValueError(f"x[{place}] has {count} words, y[{place}] {len(labels)} labels; each word needs one")
        return [label_index(self.labels, label, f"y[{place}][{n}]") for n, label in enumerate(labels)]

    def _labels_of_found_words(self, words, place, labels):
        """The indices of the tags that entities in characters give one text's words."""
        text = words.texts[place].decode("utf-8")
        of_text = slice(words.splits[place], words.splits[place + 1])
        starts, ends = words.starts[of_text].numpy(), words.ends[of_text].numpy()
        tags = ["O"] * len(starts)
        for n, entity in enumerate(labels):
            where = f"y[{place}][{n}]"
            if not isinstance(entity, dict) or not {"start", "end", "label"} <= set(entity):
                raise TypeError(f"{where} should be a dictionary with start, end and label, got {entity!r}")
            if not 0 <= entity["start"] < entity["end"] <= len(text):
                raise ValueError(f"{where} is {entity!r}, but the text has {len(text)} characters")
            inside = np.flatnonzero((starts < entity["end"]) & (ends > entity["start"]))
            for number, word in enumerate(inside):
                tags[word] = f"{'I' if number else 'B'}-{entity['label']}"
        return [label_index(self.labels, tag, f"y[{place}]") for tag in tags]

    def _windows(self, ids):
        """How ragged pieces `[B, (pieces)]` are cut."""
        return windows(tf.cast(ids.row_lengths(), tf.int32), self.preprocessor.max_length - 2, self.window_stride)

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
        splits = words.splits.numpy().tolist()
        return [best[a:b] for a, b in zip(splits, splits[1:])]

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
        if are_words(x):
            return self._entities_of_words(x, batch_size, verbose)
        texts = text_list(x, "x")
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts)
        cut = self._windows(ids)
        groups, outputs = self._compute_pieces((cut.of(ids),), batch_size, Progress(verbose))
        logits = tf.constant(in_order(groups, outputs, positional=True))  # [windows, L, labels]
        found = [part.numpy() for part in self._entities_of_texts(ids, starts, ends, cut, logits)]
        answers = [[] for _ in texts]
        for row, kind, start, end, score in zip(*(part.tolist() for part in found)):
            answers[row].append({"label": self._kinds[kind], "text": "", "start": start, "end": end, "score": score})
        for text, answer in zip(texts, answers):
            decoded = text.decode("utf-8") if answer else ""
            for entity in answer:
                entity["text"] = decoded[entity["start"] : entity["end"]]
        return answers

    @property
    def _kinds(self):
        """The types of entities."""
        return sorted({label[2:] for label in self.labels if label != "O"})

    def _entities_of_texts(self, ids, starts, ends, cut, logits):
        """Logits of windows to the entities of texts, in ops of a graph.

        Args:
          ids, starts, ends: ragged `[B, (pieces)]`; offsets in whichever unit the answer is to have.
          cut: the texts' `Windows`.
          logits: `[W, L, labels]`, of packed windows.

        Returns:
          For each entity its text, its type (a place in `_kinds`), start, end, all int32 `[E]`, and score, float32 `[E]`.
        """
        chosen = tf.gather(
            tf.reshape(logits, [-1, len(self.labels)]), best_window(ids, cut, tf.shape(logits)[1])
        )  # [P, labels]
        text, kind, first, last, score = self._entities(ids.values, ids.value_rowids(), chosen)
        return text, kind, tf.gather(starts.values, first), tf.gather(ends.values, last), score

    def _entities(self, ids, rows, logits):
        """Pieces `[P]`, the text of each and its logits `[P, labels]` to entities, in ops that LiteRT has too.

        Returns:
          For each entity its text, its type, its first and last piece, all int32 `[E]`, and score, float32 `[E]`.
        """
        continues_word = tf.constant([token.startswith("##") for token in self.tokenizer.vocabulary])
        before = tf.concat([tf.constant([-1], rows.dtype), rows[:-1]], 0)
        is_first = ~tf.gather(continues_word, ids) | (rows != before)
        first_piece = tf.where(is_first)[:, 0]  # [words]
        last_piece = tf.where(tf.concat([is_first[1:], tf.ones_like(is_first[:1])], 0))[:, 0]
        probabilities = tf.nn.softmax(tf.gather(logits, first_piece))
        best, scores = tf.argmax(probabilities, -1, tf.int32), tf.reduce_max(probabilities, -1)
        # A word goes on an entity if it is I or E after B or I of its type, in the same text; see training/entities.py.
        prefix = tf.gather(tf.constant(["OBIES".index(label[0]) for label in self.labels]), best)
        kinds = [0 if label == "O" else self._kinds.index(label[2:]) for label in self.labels]
        kind, text = tf.gather(tf.constant(kinds), best), tf.cast(tf.gather(rows, first_piece), tf.int32)
        inside, open_before = (prefix == 2) | (prefix == 3), (prefix == 1) | (prefix == 2)

        def previous(values, at_start):
            return tf.concat([tf.fill([1], tf.constant(at_start, values.dtype)), values], 0)[:-1]

        goes_on = inside & previous(open_before, False) & (kind == previous(kind, -1)) & (text == previous(text, -1))
        begins = (prefix > 0) & ~goes_on
        final = (prefix > 0) & ~tf.concat([goes_on[1:], tf.zeros_like(goes_on[:1])], 0)
        first_word, last_word = tf.where(begins)[:, 0], tf.where(final)[:, 0]
        within = tf.where(prefix > 0)[:, 0]
        number = tf.gather(tf.cumsum(tf.cast(begins, tf.int32)) - 1, within)
        return (
            tf.gather(text, first_word),
            tf.gather(kind, first_word),
            tf.gather(first_piece, first_word),
            tf.gather(last_piece, last_word),
            tf.math.segment_sum(tf.gather(scores, within), number)
            / tf.math.segment_sum(tf.ones_like(within, tf.float32), number),
        )

    def serve(self, text):
        """Texts `[B]` to their entities, `E` in all, in a graph.

        Returns:
          `label` and `entity` strings, `start` and `end` int32 in characters, `score` float32, each `[E]`, text by text, and `row_splits`
          int64 `[B + 1]`: the entities of text `n` are `row_splits[n]` to `row_splits[n + 1]`.
        """
        check_tags(self.labels)
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(text)
        cut = self._windows(ids)
        logits = self(self.preprocessor.pack(cut.of(ids)), training=False)
        row, kind, start, end, score = self._entities_of_texts(ids, starts, ends, cut, logits)
        counts = tf.math.bincount(row, minlength=tf.size(text), maxlength=tf.size(text), dtype=tf.int64)
        return {
            "label": tf.gather(tf.constant(self._kinds), kind),
            "entity": tf.strings.substr(tf.gather(text, row), start, end - start, unit="UTF8_CHAR"),
            "start": start,
            "end": end,
            "score": score,
            "row_splits": tf.concat([tf.zeros([1], tf.int64), tf.cumsum(counts)], 0),
        }

    # Export

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        return [
            ComparableAnswer(
                tuple((entity["label"], entity["text"], entity["start"], entity["end"]) for entity in entities_of_text),
                np.array([entity["score"] for entity in entities_of_text]),
            )
            for entities_of_text in self.classify(columns[0], verbose=0)
        ]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        served = zip(outputs["label"], outputs["entity"], outputs["start"], outputs["end"])
        exact = [(label.decode("utf-8"), text.decode("utf-8"), int(start), int(end)) for label, text, start, end in served]
        return [ComparableAnswer(tuple(exact[part]), outputs["score"][part]) for part in slices_by_text(outputs)]

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        check_tags(self.labels)
        return functools.partial(self._entities_of_window, preprocessor)

    def _entities_of_window(self, preprocessor: TextPreprocessor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the entities of a text `[1]`, filled up to as many as there could be.

        Some platforms cannot read outputs without values.

        Returns:
          `count` int32 `[1]`, and `label`, `entity` (strings), `start`, `end` (int32, characters) and `score`, each `[L - 2]`.
        """
        most = preprocessor.max_length - 2
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(text)
        _, byte_starts, byte_ends = self.tokenizer.tokenize_with_offsets(text, unit="bytes")
        ids = one_row(ids.values[:most])
        logits = self(fixed_shape(preprocessor, preprocessor.pack(ids)), training=False)
        count = tf.size(ids.values)
        _, kind, first, last, score = self._entities(ids.values, tf.zeros([count], tf.int64), logits[0, 1:][:count])
        places = tf.range(tf.size(kind))[:, None]

        def filled(values: tf.Tensor) -> tf.Tensor:
            return tf.scatter_nd(places, values, [most])

        def at(offsets: tf.RaggedTensor, pieces: tf.Tensor) -> tf.Tensor:
            return filled(tf.gather(offsets.values, pieces))

        return {
            "count": tf.reshape(tf.size(kind), [1]),
            "label": tf.gather(tf.constant(["", *self._kinds]), filled(kind + 1)),
            "entity": substrings(text, at(byte_starts, first), at(byte_ends, last)),
            "start": at(starts, first),
            "end": at(ends, last),
            "score": filled(score),
        }

    # Words

    def _entities_of_words(self, x, batch_size, verbose):
        words, probabilities = self._word_probabilities(x, batch_size, verbose)
        best, scores = probabilities.argmax(-1), probabilities.max(-1)
        starts, ends, splits = (part.numpy().tolist() for part in (words.starts, words.ends, words.splits))
        answers = []
        for text, first, beyond in zip(words.texts, splits, splits[1:]):
            found, text = [], text.decode("utf-8")
            for kind, start, end in entities([self.labels[n] for n in best[first:beyond]]):
                a, b = starts[first + start], ends[first + end - 1]
                score = float(scores[first + start : first + end].mean())
                found.append({"label": kind, "text": text[a:b], "start": a, "end": b, "score": score})
            answers.append(found)
        return answers

    def _word_probabilities(self, x, batch_size, verbose):
        """Lists of words as `Words`, and the probabilities of each word's labels `[W, labels]`."""
        words = read_words(x, self.tokenizer)
        cut = self._windows(words.ids)
        groups, outputs = self._compute_pieces((cut.of(words.ids),), batch_size, Progress(verbose))
        logits = in_order(groups, outputs, positional=True)  # [windows, L, labels]
        pieces = logits.reshape(-1, len(self.labels))[best_window(words.ids, cut, logits.shape[1]).numpy()]
        is_first = words.is_first.numpy()
        # A word without pieces (an invisible character, say) is none: O, if there is such a label.
        none = np.eye(len(self.labels), dtype=np.float32)[self.labels.index("O") if "O" in self.labels else 0]
        probabilities = np.tile(none, (int(words.splits[-1]), 1))
        probabilities[words.word.numpy()[is_first]] = softmax(pieces[is_first])
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
