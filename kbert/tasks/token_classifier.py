"""A label for each word; entities of several words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import check_verbose, share, whole_numbers, yes_or_no
from kbert.encoders.layers import Projection
from kbert.scoring.entities import check_lengths, scores_of_entities
from kbert.scoring.figures import Figures, figures_of_entities
from kbert.scoring.tag_schemes import are_tags, check_tags
from kbert.tasks.columns import Chunk, Columns, joined_chunks
from kbert.tasks.entity_decoder import (
    Entities,
    best_window,
    entities_of_pieces,
    entities_of_words,
    entity_answers,
    entity_types,
    texts_between,
)
from kbert.tasks.exported_answers import ComparableAnswer, rows_with_count, values_by_text
from kbert.tasks.from_preset import head_dropout, load_task, stated_labels
from kbert.tasks.inputs import open_input
from kbert.tasks.labels import check_labels, check_same_labels, label_keys
from kbert.tasks.long_texts import chosen_stride
from kbert.tasks.on_logits import Logits
from kbert.tasks.one_window import entities_of_window
from kbert.tasks.prediction import Prediction, softmax
from kbert.tasks.progress import Progress
from kbert.tasks.targets import plain_targets
from kbert.tasks.task import Task
from kbert.tasks.words import (
    Words,
    check_entities,
    entities_of_tags,
    labelled_words,
    piece_targets,
    read_words,
    tags_of_words,
    true_entities,
)
from kbert.text.packing import TextPreprocessor
from kbert.text.truncation import Windows, windows
from kbert.training.examples import Examples
from kbert.training.losses import NO_LABEL, LabelledCrossentropy
from kbert.training.soft_targets import soft_targets


@keras.saving.register_keras_serializable("kbert")
class TokenClassifier(Task):
    """A task that labels words: names, parts of speech.

    >>> task = TokenClassifier.from_preset("all-minilm-l6-v2", labels=["O", "B-city", "I-city"])  # doctest: +SKIP
    >>> task.fit([["In", "New", "York"]], [["O", "B-city", "I-city"]])  # doctest: +SKIP
    >>> task.classify(["It rains in New York."])  # doctest: +SKIP
    [[{'label': 'city', 'text': 'New York', 'start': 12, 'end': 20, 'score': 0.98}]]

    `fit(sentences, tags)` trains on lists of words with a label for each word, or -100 for none. It also trains on texts with
    entities, a list of `{"start", "end", "label"}` in characters for each text, if the task's labels are tags of these
    entities. If the labels are tags and there are validation data, `val_precision`, `val_recall` and `val_f1` of entities are
    reported after each epoch. `evaluate` reports the same figures. Tags are BIO, BIOES, BILOU or BMES, without types (B, I, O),
    or types without letters beside O.

    A text is read by BERT's own words, which end at punctuation: U.S. is four of them. The answer to a given word is the answer
    at its first piece, which `evaluate` and `figures` count. If the labels are tags, training teaches the first piece of each
    of BERT's words in a given word: U.S. with the tag B-x is taught B-x I-x I-x I-x. The same sentence then has the same
    entities if it is given as a text. The BERT paper's code teaches the first piece of the given word alone, so a checkpoint
    that was trained elsewhere may not know these parts. Evaluate it on texts with spans as `y` to measure its answers to
    texts. In BIOES, BILOU and BMES a given word that holds white space ("10 000") may be several entities in the text.

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or None for packed input.
      labels: the names of the classes, in the order of their indices. For entities these are tags of one scheme.
      dropout: the rate of the dropout on the tokens' vectors in training; the encoder's own by default.
      label_all_pieces: trains on all pieces of a word; later pieces of a B- or S- word are taught I-. By default training is
        on the first piece of each of BERT's words in it if the labels are tags, and otherwise on its first piece alone. The
        answer is always the one at the given word's first piece.
      window_stride: the pieces that neighbouring windows share, where a text is longer than `max_length`. A piece's answer is
        that of the window in which it stands farthest from an edge. By default 32, or a quarter of a window's pieces if a
        window has 32 or fewer.
      **kwargs: `name`, and `dtype`, a Keras dtype policy.

    Calling the task with the packed dictionary gives logits `[B, L, labels]`.
    """

    head, pools, positional = "TokenClassification", False, True

    def __init__(
        self,
        encoder: Any,
        preprocessor: TextPreprocessor | None = None,
        labels: Sequence[str] | None = None,
        dropout: float | None = None,
        label_all_pieces: bool = False,
        window_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, preprocessor, **kwargs)
        self.labels = check_labels(labels)
        yes_or_no(label_all_pieces=label_all_pieces)
        self.label_all_pieces = bool(label_all_pieces)
        room = None if preprocessor is None else preprocessor.max_length - 2
        default = 32 if room is None or room > 32 else room // 4
        self.given_stride, self.window_stride = window_stride, chosen_stride(window_stride, default, room)
        self.dropout_rate = encoder.config.hidden_dropout_prob if dropout is None else share("dropout", dropout)
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        # Logits keep their precision under a mixed policy.
        self.classifier = Projection(len(self.labels), encoder.config.initializer_range, dtype="float32", name="classifier")
        self.classifier.build((None, encoder.config.hidden_size))
        self.built = True

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        vectors = outputs["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = self.classifier(tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(logits, [shape[0], shape[1], len(self.labels)])

    @classmethod
    def from_preset(
        cls,
        preset: Any,
        labels: Sequence[str] | None = None,
        max_length: int | None = None,
        dropout: float | None = None,
        **kwargs: Any,
    ) -> TokenClassifier:
        """Returns a token classifier on the encoder of a checkpoint, with its token head if it has one that fits.

        >>> task = TokenClassifier.from_preset("all-minilm-l6-v2", labels=["O", "B-city", "I-city"])  # doctest: +SKIP

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, or a live KerasHub model.
          labels: the names of the classes. A checkpoint that was fine-tuned brings its own. If it brings as many, its head is
            kept.
          max_length: the most positions of a window; the checkpoint's most (512) by default. A shorter one is faster.
          dropout: the rate of the dropout on the tokens' vectors; the checkpoint's by default.
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, a `TextPreprocessor` in place of the checkpoint's, or None
            for packed input; `vocabulary`, the path of a vocab.txt or a list of tokens where the preset has none;
            `label_all_pieces` and `window_stride`, as in the constructor.

        Raises:
          FileNotFoundError: there is no such checkpoint, or its files are not complete.
          ValueError: a weight is missing, left over or of another shape, or the checkpoint does not say its labels.
        """
        return load_task(
            cls,
            preset,
            lambda task, missing: f"the token classification head ({len(task.labels)} labels)",
            max_length=max_length,
            labels=stated_labels(preset, labels),
            dropout=head_dropout(dropout, ("classifier_dropout",)),
            **kwargs,
        )

    # Training

    columns = training_columns = (Columns(("text",), words=True),)
    fit_call = "fit(words, labels)"
    makes_windows = True

    def check_rows(self, chunk: Chunk) -> None:
        if chunk.targets is None:
            raise ValueError(f"targets are missing: {self.fit_call}")
        if not chunk.rows:
            raise ValueError("there are no texts: at least one with its labels is needed")
        if chunk.rows != len(chunk.targets):
            raise ValueError(f"each text needs its labels: got {chunk.rows} texts and {len(chunk.targets)} lists of labels")

    def encode(self, chunk: Chunk, class_weight: dict | None = None) -> Examples:
        """Returns the windows of a chunk's rows, with a label for each piece."""
        self.check_rows(chunk)
        if class_weight is not None:
            self.encode_class_weight(class_weight)  # refuses
        words = read_words(chunk.columns[0], self.tokenizer)
        of_piece = piece_targets(self.labels, words, chunk, self.tokenizer, self.label_all_pieces)
        cut = self._windows(words.ids)
        document = cut.document.numpy()
        weights = None if chunk.weights is None else chunk.weights[document, None]  # [W, 1], for labels [W, L]
        return Examples((cut.of(words.ids),), cut.of(words.ids.with_values(of_piece)), weights, document)

    def judge(self, chunk: Chunk, verbose: int | str = "auto") -> list[tuple[set, set]]:
        """Returns the true entities of each row and the task's: in words if words are given, otherwise in characters.

        Args:
          chunk: lists of words with their labels, or texts with their entities.
          verbose: 1 for a progress bar, 0 for none.
        """
        if not are_tags(self.labels):
            return []
        progress = Progress(verbose)
        if chunk.has_words:
            answered = zip(self.predict_chunk(chunk, None, progress), chunk.targets or [])
            answers = [entities_of_tags(self.labels, labelled_words(tags, given)) for tags, given in answered]
        else:
            found = self._entities_of_texts(chunk.columns[0], None, progress)
            answers = [{(entity["label"], entity["start"], entity["end"]) for entity in of_text} for of_text in found]
        return list(zip(true_entities(self.labels, chunk), answers))

    def score(self, judged: list[tuple[set, set]], weights: np.ndarray | None = None) -> dict[str, float]:
        """Returns precision, recall and F1 of entities, as seqeval counts them; an empty dictionary if there are none.

        Args:
          judged: the pairs that `judge` gave.
          weights: how often each row counts, float32 `[rows]`; None if each counts once.
        """
        if not judged:
            return {}
        expected, answered = zip(*judged)
        scores = scores_of_entities(expected, answered, weights)
        return {name: scores[name] for name in ("precision", "recall", "f1")}

    @property
    def score_names(self) -> list[str] | None:
        names = super().score_names
        return ["precision", "recall", "f1"] if names is not None and are_tags(self.labels) else names

    def _windows(self, ids: tf.RaggedTensor) -> Windows:
        """Returns the windows of ragged pieces `[B, (pieces)]`."""
        return windows(tf.cast(ids.row_lengths(), tf.int32), self.preprocessor.max_length - 2, self.window_stride)

    # Answers

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = "auto", **kwargs: Any) -> Any:
        """Returns labels of words; of texts, logits.

        >>> task.predict([["In", "New", "York"]])  # doctest: +SKIP
        [['O', 'B-city', 'I-city']]

        Args:
          x: lists of words, of any length; or texts, a stream of texts, or packed dictionaries.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.
          **kwargs: `steps` and `callbacks`, as in `keras.Model.predict`, for packed dictionaries.

        Returns:
          For lists of words a list of labels for each; otherwise what calling the task gives, `[B, L, labels]`.
        """
        return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def predict_chunk(self, chunk: Chunk, batch_size: int | None, progress: Progress) -> Any:
        if not chunk.has_words:
            return Prediction.predict_chunk(self, chunk, batch_size, progress)
        words, probabilities = self._word_probabilities(chunk.columns[0], batch_size, progress)
        best = [self.labels[n] for n in probabilities.argmax(-1)]
        splits = words.splits.numpy().tolist()
        return [best[a:b] for a, b in zip(splits, splits[1:])]

    def classify(self, x: Any, batch_size: int | None = None, verbose: int | str = "auto") -> list[list[dict]]:
        """Returns the entities of texts.

        >>> task.classify(["It rains in New York."])  # doctest: +SKIP
        [[{'label': 'city', 'text': 'New York', 'start': 12, 'end': 20, 'score': 0.98}]]

        Args:
          x: texts of any length, lists of words, which are read as `" ".join(words)`, or a stream of either.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.

        Returns:
          For each text a list of `{"label": str, "text": str, "start": int, "end": int, "score": float}`. `text[start:end]`
          is the entity, `score` the mean probability of its words' labels. An I (or E) that continues nothing of its type
          begins an entity, as in conlleval.

        Raises:
          ValueError: the task's labels are no tags of entities.
        """
        check_tags(self.labels)
        whole_numbers(batch_size=batch_size)
        check_verbose(verbose)
        progress, answers = Progress(verbose), []
        for chunk in open_input(self.columns, x):
            of_chunk = self._entities_of_given_words if chunk.has_words else self._entities_of_texts
            answers += of_chunk(chunk.columns[0], batch_size, progress)
        return answers

    def _entities_of_texts(self, texts: list[bytes], batch_size: int | None, progress: Progress) -> list[list[dict]]:
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(tf.constant(texts, tf.string))
        cut = self._windows(ids)
        logits = tf.constant(self.ordered(*self._compute_pieces((cut.of(ids),), batch_size, progress)))  # [windows, L, labels]
        found = self.entities_of_windows(ids, starts, ends, cut, logits)
        starts, ends = tf.gather(starts.values, found.first), tf.gather(ends.values, found.last)
        return entity_answers(self.labels, texts, found, starts, ends)

    def _entities_of_given_words(
        self, rows: list[list[bytes]], batch_size: int | None, progress: Progress, counted: np.ndarray | None = None
    ) -> list[list[dict]]:
        """Returns the entities of lists of words. `counted`, bool `[W]`, says which words count, by default all."""
        words, probabilities = self._word_probabilities(rows, batch_size, progress)
        text: np.ndarray = np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(words.splits.numpy()))
        starts, ends = words.starts.numpy(), words.ends.numpy()
        if counted is not None:
            text, probabilities, starts, ends = (part[counted] for part in (text, probabilities, starts, ends))
        found = entities_of_words(self.labels, tf.constant(text), tf.constant(probabilities, tf.float32))
        starts, ends = tf.gather(starts, found.first), tf.gather(ends, found.last)
        return entity_answers(self.labels, words.texts, found, starts, ends)

    def entities_of_windows(
        self, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor, cut: Windows, logits: tf.Tensor
    ) -> Entities:
        """Returns the entities of texts with the first and last piece of each, in ops of a graph.

        Args:
          ids: the texts' pieces, ragged `[B, (pieces)]`.
          starts: the pieces' first characters, ragged like `ids`.
          ends: the characters after the pieces, ragged like `ids`.
          cut: the texts' windows.
          logits: `[W, L, labels]`, of packed windows.
        """
        of_pieces = tf.gather(
            tf.reshape(logits, [-1, len(self.labels)]), best_window(ids, cut, tf.shape(logits)[1])
        )  # [P, labels]
        vocabulary, rows = self.tokenizer.vocabulary, ids.value_rowids()
        return entities_of_pieces(self.labels, vocabulary, ids.values, rows, of_pieces, starts.values, ends.values)

    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the entities of strings `[B]`, in ops of a graph.

        Returns:
          `count` int32 `[B]`, how many entities each text has, and, with `E` the most of them, `label` and `entity` strings,
          `start` and `end` int32 in characters, and `score` float32, each `[B, E]`. Behind a text's last entity the strings are
          empty, `start` and `end` -1 and `score` 0.
        """
        check_tags(self.labels)
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(text)
        cut = self._windows(ids)
        logits = self(self.preprocessor.pack(cut.of(ids)), training=False)
        row, kind, first, last, score = self.entities_of_windows(ids, starts, ends, cut, logits)
        start, end = tf.gather(starts.values, first), tf.gather(ends.values, last)
        label = tf.gather(tf.constant(entity_types(self.labels)), kind)
        entity = texts_between(text, row, start, end)
        columns = {"label": (label, ""), "entity": (entity, ""), "start": (start, -1), "end": (end, -1), "score": (score, 0.0)}
        return rows_with_count(row, tf.size(text), columns)

    # Export

    @property
    def served_labels(self) -> Sequence[str]:
        return self.labels

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        names = ("label", "text", "start", "end")
        answers = self.classify(columns[0], verbose=0)
        exact = [tuple(tuple(entity[name] for name in names) for entity in entities) for entities in answers]
        near = [np.array([entity["score"] for entity in entities]) for entities in answers]
        return [ComparableAnswer(entities, scores, entities) for entities, scores in zip(exact, near)]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        columns = [values_by_text(outputs, name) for name in ("label", "entity", "start", "end")]
        exact = [
            tuple(
                (label.decode("utf-8"), text.decode("utf-8"), int(start), int(end)) for label, text, start, end in zip(*values)
            )
            for values in zip(*columns)
        ]
        scores = values_by_text(outputs, "score")
        return [ComparableAnswer(entities, near, entities) for entities, near in zip(exact, scores)]

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        check_tags(self.labels)
        return functools.partial(entities_of_window, self, preprocessor)

    # Words

    def _word_probabilities(
        self, rows: list[list[bytes]], batch_size: int | None, progress: Progress
    ) -> tuple[Words, np.ndarray]:
        """Returns lists of words as `Words`, and the probabilities of each word's labels `[W, labels]`."""
        words = read_words(rows, self.tokenizer)
        cut = self._windows(words.ids)
        logits = self.ordered(*self._compute_pieces((cut.of(words.ids),), batch_size, progress))  # [windows, L, labels]
        pieces = logits.reshape(-1, len(self.labels))[best_window(words.ids, cut, logits.shape[1]).numpy()]
        is_first = words.is_first.numpy()
        # A word without pieces (an invisible character, say) is none: O, if there is such a label.
        none: np.ndarray = np.eye(len(self.labels), dtype=np.float32)[self.labels.index("O") if "O" in self.labels else 0]
        probabilities = np.tile(none, (int(words.splits[-1]), 1))
        probabilities[words.word.numpy()[is_first]] = softmax(pieces[is_first])
        return words, probabilities

    # Figures

    job = "ner"
    pipeline_tag = "token-classification"

    def figures(self, x: Any, y: Any) -> Figures:
        """Returns precision, recall and F1 of entities, the same for each type of entity, and the wrong entities.

        Args:
          x: lists of words, or texts, as `predict` takes them.
          y: for each list of words its tags, or their indices, or -100 for a word that does not count. For each text its
            entities in characters, as `fit` takes them. Entities of types that the task does not have count as missed.

        Raises:
          TypeError: `y` is of other kinds.
          ValueError: the labels or `y` are no tags of entities, or the number of targets is not that of the texts.
        """
        check_tags(self.labels)
        given = plain_targets(y)
        chunk = joined_chunks(list(open_input(self.columns, x)) or [Chunk(([],))])._replace(targets=given)
        self.check_rows(chunk)
        rows, progress = chunk.columns[0], Progress("auto")
        if not chunk.has_words:
            for place, entities in enumerate(given):
                check_entities(entities, f"y[{place}]")
            texts = [text.decode("utf-8") for text in rows]
            return figures_of_entities(texts, given, self._entities_of_texts(rows, None, progress), self.labels)
        words = [[word.decode("utf-8") for word in row] for row in rows]
        tags = [tags_of_words(self.labels, row, f"y[{place}]") for place, row in enumerate(given)]
        for row, of_row in zip(words, tags):
            check_lengths(of_row, row)
        tagged = np.array([tag is not None for row in tags for tag in row], bool)
        return figures_of_entities(words, tags, self._entities_of_given_words(rows, None, progress, tagged), self.labels)

    @property
    def logits(self) -> Logits | None:
        return Logits(len(self.labels))

    def default_loss(self) -> keras.losses.Loss:
        return LabelledCrossentropy()

    def default_metrics(self) -> list[keras.metrics.Metric]:
        return []

    # Distillation

    def soft_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        return soft_targets(teacher_outputs, student_outputs, temperature, mask)

    def hard_loss(self, outputs: tf.Tensor, targets: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
        targets = tf.where(labelled[:, None] > 0, targets, NO_LABEL)  # [B, L]
        return self.default_loss()(targets, outputs)  # a mean over the pieces that have a label

    def blank_target(self, text: Any) -> list:
        if isinstance(text, (str, bytes)):
            return []  # no entities
        return [self.labels[0]] * len(text)

    def check_student(self, student: Task) -> None:
        super().check_student(student)
        check_same_labels(self, student)

    def preset_config(self) -> dict[str, Any]:
        stated: dict[str, Any] = label_keys(self.labels)
        if self.encoder.config.type_vocab_size:  # DistilBERT's token head has the encoder's dropout and no key of its own
            stated["classifier_dropout"] = self.dropout_rate
        return stated

    def get_config(self) -> dict[str, Any]:
        own = {"labels": self.labels, "label_all_pieces": self.label_all_pieces, "window_stride": self.given_stride}
        return {**super().get_config(), **own, "dropout": self.dropout_rate}
