"""The span of a text that answers a question."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import check_verbose, number, share, whole_number
from kbert.encoders.layers import Projection
from kbert.scoring.figures import Figures, Mistake
from kbert.scoring.squad import squad2_scores, squad_scores
from kbert.tasks.answer_decoder import (
    CANDIDATES,
    IMPOSSIBLE,
    answer_and_odds,
    at_pieces,
    best_answers,
    best_of_texts,
    best_spans,
    characters_of_answer,
    right_answers,
)
from kbert.tasks.columns import Chunk, Columns, joined_chunks, plain_columns
from kbert.tasks.exported_answers import ComparableAnswer
from kbert.tasks.from_preset import head_dropout, load_task
from kbert.tasks.inputs import open_input
from kbert.tasks.long_texts import chosen_stride
from kbert.tasks.on_logits import Logits
from kbert.tasks.one_window import answer_of_window
from kbert.tasks.probes import PROBES
from kbert.tasks.progress import Progress
from kbert.tasks.targets import plain_targets
from kbert.tasks.task import Task
from kbert.text.packing import TextPreprocessor
from kbert.text.truncation import Windows, windows
from kbert.training.examples import Examples
from kbert.training.soft_targets import mean_of_labelled, soft_targets

WINDOWS_AT_ONCE = 256  # whose candidates [256, L, lengths] are held at a time


@keras.saving.register_keras_serializable("kbert")
class QuestionAnswerer(Task):
    """A task that finds where a question is answered in a text.

    >>> task = QuestionAnswerer.from_preset("all-minilm-l6-v2", max_length=384)  # doctest: +SKIP
    >>> task.fit((questions, contexts), answers)  # doctest: +SKIP
    >>> task.answer("Where is the tower?", "The tower stands in Paris.")  # doctest: +SKIP
    {'text': 'Paris', 'start': 20, 'end': 25, 'score': 0.93}

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> sorted(QuestionAnswerer(encoder)({"token_ids": tf.constant([[2, 7, 3]])}))
    ['end_logits', 'start_logits']

    `fit((questions, contexts), answers)` trains on an answer for each question, `{"text": str, "start": int}` in characters,
    or `(text, start)`. A question may have a list of answers, of which the first is learned; None or an empty list says that
    its text has no answer. A long text makes several rows, its windows.

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or None for packed input.
      dropout: the rate of the dropout on the tokens' vectors in training; 0, but for DistilBERT's checkpoints.
      window_stride: the pieces that neighbouring windows of a long text share. By default 128, or half of the room
        beside the longest question if that is less.
      **kwargs: `name`, and `dtype`, a Keras dtype policy.

    Calling the task with the packed dictionary gives `start_logits` and `end_logits`, both `[B, L]`. They are computed on every
    position: padding is among what the loss of the original code chooses from.
    """

    head, pools, positional, on_real_tokens = "QuestionAnswering", False, True, False

    def __init__(
        self,
        encoder: Any,
        preprocessor: TextPreprocessor | None = None,
        dropout: float = 0.0,
        window_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, preprocessor, **kwargs)
        share("dropout", dropout)
        # The number of a text's pieces for which there is room beside the longest question.
        room = None if preprocessor is None else preprocessor.max_length - 3 - preprocessor.longest_query
        default = 128 if room is None else min(128, room // 2)
        self.given_stride, self.window_stride = window_stride, chosen_stride(window_stride, default, room)
        self.dropout_rate = dropout
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.spans = Projection(2, encoder.config.initializer_range, dtype="float32", name="spans")
        self.spans.build((None, encoder.config.hidden_size))
        self.built = True

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        vectors = outputs["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = tf.reshape(self.spans(tf.reshape(vectors, [-1, vectors.shape[-1]])), [shape[0], shape[1], 2])
        return {"start_logits": logits[:, :, 0], "end_logits": logits[:, :, 1]}

    @classmethod
    def from_preset(
        cls, preset: Any, max_length: int | None = None, dropout: float | None = None, **kwargs: Any
    ) -> QuestionAnswerer:
        """Returns a question answerer on the encoder of a checkpoint, with its answer head if it has one.

        >>> task = QuestionAnswerer.from_preset("all-minilm-l6-v2", max_length=384)  # doctest: +SKIP

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, or a live KerasHub model.
          max_length: the most positions of a question with a window of its text; the checkpoint's most (512) by default.
          dropout: the rate of the dropout on the tokens' vectors; the checkpoint's by default.
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, a `TextPreprocessor` in place of the checkpoint's, or None
            for packed input; `vocabulary`, the path of a vocab.txt or a list of tokens where the preset has none;
            `window_stride`, as in the constructor.

        Raises:
          FileNotFoundError: there is no such checkpoint, or its files are not complete.
          ValueError: a weight is missing, left over or of another shape.
        """
        return load_task(
            cls,
            preset,
            lambda task, missing: "the answer head",
            max_length=max_length,
            dropout=head_dropout(dropout, ("qa_dropout",)),
            **kwargs,
        )

    # Training

    columns = training_columns = (Columns(("question", "context")),)
    fit_call = "fit((questions, contexts), answers)"
    needs = f"questions and texts are needed: {fit_call}"
    makes_windows = True

    def check_rows(self, chunk: Chunk) -> None:
        if chunk.targets is None:
            raise ValueError(f"answers are missing: {self.fit_call}")
        if not chunk.rows:
            raise ValueError("there are no questions: at least one is needed")
        if len(chunk.targets) != chunk.rows:
            raise ValueError(
                f"each question needs its answer, or None: got {chunk.rows} questions and {len(chunk.targets)} answers"
            )

    def encode(self, chunk: Chunk, class_weight: dict | None = None) -> Examples:
        """Returns the windows of a chunk's contexts beside their questions, with the first and last token of the answers."""
        self.check_rows(chunk)
        if class_weight is not None:
            raise ValueError("class_weight is for labels; a question answerer takes sample_weight")
        answers = [
            characters_of_answer(place, answer, context.decode("utf-8"))
            for place, (answer, context) in enumerate(zip(chunk.targets or [], chunk.columns[1]))
        ]
        questions, contexts, starts, ends, cut = self._windows(chunk.columns)
        splits = starts.row_splits.numpy()[1:-1]
        starts, ends = (np.split(part.values.numpy(), splits) for part in (starts, ends))
        first = [int(np.searchsorted(e, a[0], side="right")) if a else -1 for a, e in zip(answers, ends)]
        last = [int(np.searchsorted(s, a[1], side="left")) - 1 if a else -1 for a, s in zip(answers, starts)]
        document, start, length = (part.numpy() for part in cut)
        before = 2 + tf.cast(questions.row_lengths(), tf.int32).numpy()  # [CLS], the question, [SEP]
        spans = np.stack([np.array(first)[document] - start, np.array(last)[document] - start], 1)
        inside = (spans[:, 0] >= 0) & (spans[:, 1] >= spans[:, 0]) & (spans[:, 1] < length) & (np.array(last)[document] >= 0)
        spans = np.where(inside[:, None], spans + before[:, None], 0).astype(np.int32)  # [CLS] where the window has no answer
        weights = None if chunk.weights is None else chunk.weights[document]
        return Examples((questions, contexts), spans, weights, document)

    def batches_of(self, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        """Returns examples as a dataset of packed batches, with `start_logits` and `end_logits` as the names of the targets."""

        def by_name(inputs: dict, spans: tf.Tensor, *weights: tf.Tensor) -> tuple:
            return (inputs, {"start_logits": spans[:, 0], "end_logits": spans[:, 1]}, *weights)

        return super().batches_of(*args, **kwargs).map(tf.autograph.experimental.do_not_convert(by_name))

    def judge(self, chunk: Chunk, verbose: int | str = "auto") -> list[tuple[list[dict], tuple[str, float]]]:
        """Returns the right answers of each question, and the task's answer with the result of `answer_and_odds`.

        Args:
          chunk: questions and texts with their answers.
          verbose: 1 for a progress bar, 0 for none.
        """
        found = self._best_spans(chunk.columns, 30, Progress(verbose))
        return [(right_answers(answer), answer_and_odds(*spans)) for answer, spans in zip(chunk.targets or [], found)]

    def score(self, judged: list[tuple[list[dict], tuple[str, float]]], weights: np.ndarray | None = None) -> dict[str, float]:
        """Returns exact match and F1 of the answers in percent, as the official scripts of SQuAD count them.

        If some questions have no answer, these are the figures of SQuAD 2 (`kbert.scoring.squad.squad2_scores`). The task's
        answer is then empty if the logit of no answer is above the best span's. `best_f1_thresh` is the
        `no_answer_threshold` of `answer` that gives the highest F1 on these questions.

        Args:
          judged: the pairs that `judge` gave.
          weights: how often each question counts, float32 `[rows]`; None if each counts once.
        """
        right, texts, odds = [right for right, _ in judged], [text for _, (text, _) in judged], [odd for _, (_, odd) in judged]
        return squad_scores(texts, right, weights) if all(right) else squad2_scores(texts, right, odds, weights=weights)

    @property
    def score_names(self) -> list[str] | None:
        names = [f"{kind}_{name}" for kind in ("HasAns", "NoAns", "best") for name in ("exact", "f1")]
        return None if super().score_names is None else ["exact_match", "f1", *names]

    def _windows(self, columns: Sequence) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor, Windows]:
        """Cuts questions and texts, two columns, into windows.

        Returns:
          Ragged ids of the windows' questions and of the windows, ragged starts and ends of the texts' pieces in characters,
          and `Windows`.
        """
        questions = self.tokenizer(columns[0])[:, : self.preprocessor.longest_query]
        contexts, starts, ends = self.tokenizer.tokenize_with_offsets(columns[1])
        room = self.preprocessor.max_length - 3 - tf.cast(questions.row_lengths(), tf.int32)
        cut = windows(tf.cast(contexts.row_lengths(), tf.int32), room, self.window_stride)
        return tf.gather(questions, cut.document), cut.of(contexts), starts, ends, cut

    # Answers

    def answer(
        self,
        question: Any,
        context: Any,
        top_k: int = 1,
        max_answer_length: int = 30,
        no_answer_threshold: float | None = None,
        verbose: int | str = "auto",
    ) -> Any:
        """Returns the answers to questions in texts.

        >>> task.answer("Where is the tower?", "The tower stands in Paris.")  # doctest: +SKIP
        {'text': 'Paris', 'start': 20, 'end': 25, 'score': 0.93}

        Args:
          question: a question, or a list of them.
          context: a text of any length, or a list with one for each question.
          top_k: how many answers for a question.
          max_answer_length: the most tokens of an answer.
          no_answer_threshold: with a number, an empty answer is possible. It is given where its logit (the lowest of the
            windows' at [CLS]) is more than this above the best span's. With None there always is an answer.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.

        Returns:
          `{"text", "start", "end", "score"}` for a question, or a list of them; with `top_k` more than 1 a list for each
          question, the best first. `context[start:end]` is the text. `score` is its share among the best spans and, if it is
          possible, the empty answer. An empty text, or none, is `{"text": "", "start": 0, "end": 0}`.
        """
        single = isinstance(question, (str, bytes))
        top_k = whole_number("top_k", top_k, most=CANDIDATES)
        whole_number("max_answer_length", max_answer_length)
        check_verbose(verbose)
        if no_answer_threshold is not None:
            number("no_answer_threshold", no_answer_threshold)
        columns = plain_columns(self.columns, {"question": question, "context": context})
        if not columns[0]:
            return []
        spans = self._best_spans(columns, max_answer_length, Progress(verbose))
        ranked = [best_answers(*of_text, top_k=top_k, threshold=no_answer_threshold) for of_text in spans]
        answers = [answer[0] for answer in ranked] if top_k == 1 else ranked
        return answers[0] if single else answers

    def _best_spans(
        self, columns: tuple[list, ...], max_answer_length: int, progress: Progress
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, float]]:
        """Yields for each question its text, the best spans' scores, first and last characters, and the logit of no answer."""
        questions, pieces, starts, ends, cut = self._windows(columns)
        logits = self.ordered(*self._compute_pieces((questions, pieces), None, progress))
        before = 2 + tf.cast(questions.row_lengths(), tf.int32)
        allowed = self._allowed(logits, before, cut)
        parts = []
        for start in range(0, len(before), WINDOWS_AT_ONCE):
            rows = slice(start, start + WINDOWS_AT_ONCE)
            parts.append(best_spans(logits["start_logits"][rows], logits["end_logits"][rows], allowed[rows], max_answer_length))
        spans = [tf.concat(part, 0) for part in zip(*parts)]
        scores, first, last = best_of_texts(spans, cut.document, cut.start - before, len(columns[0]))
        scores, starts, ends = (part.numpy() for part in (scores, at_pieces(starts, first), at_pieces(ends, last)))
        null = tf.math.segment_min(self._null(logits), cut.document).numpy()
        for place, text in enumerate(columns[1]):
            yield text.decode("utf-8"), scores[place], starts[place], ends[place], null[place]

    @staticmethod
    def _allowed(logits: dict[str, tf.Tensor], before: tf.Tensor, cut: Windows) -> tf.Tensor:
        """Returns where an answer may be: in the window, not in the question; bool `[W, L]`."""
        place = tf.range(tf.shape(logits["start_logits"])[1])
        return (place >= before[:, None]) & (place < (before + cut.length)[:, None])

    @staticmethod
    def _null(logits: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the logit of no answer, start and end at [CLS]; `[W]`."""
        return logits["start_logits"][:, 0] + logits["end_logits"][:, 0]

    # Figures

    job = "qa"
    pipeline_tag = "question-answering"

    def figures(self, x: Any, y: Any) -> Figures:
        """Returns exact match and F1 in percent, as the official scripts of SQuAD count them, and the answers that are not
        exact.

        Args:
          x: questions and texts, as `fit` takes them: two columns, or a table or dictionary of them.
          y: answers, as `fit` takes them.
        """
        chunk = joined_chunks(list(open_input(self.columns, x)) or [Chunk(([], []))])._replace(targets=plain_targets(y))
        self.check_rows(chunk)
        right = [right_answers(answer) for answer in chunk.targets or []]
        questions, contexts = ([text.decode("utf-8") for text in column] for column in chunk.columns)
        for place, (answer, context) in enumerate(zip(chunk.targets or [], contexts)):
            characters_of_answer(place, answer, context)  # raises an error for what is no answer
        spans = list(self._best_spans(chunk.columns, 30, Progress("auto")))
        threshold = None if all(right) else 0.0
        found = [best_answers(*of_text, top_k=1, threshold=threshold)[0] for of_text in spans]
        mistakes = [
            Mistake(question, answers[0]["text"] if answers else "", answer["text"], answer["score"])
            for question, answers, answer in zip(questions, right, found)
            if not squad_scores([answer["text"]], [answers])["exact_match"]
        ]
        return Figures(
            self.score([(answers, answer_and_odds(*of_text)) for answers, of_text in zip(right, spans)]), mistakes=mistakes
        )

    # Export

    served_in_batches = False  # one context keeps all cores busy

    def serve(self, question: tf.Tensor, context: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the best answer to each question, in ops of a graph.

        Args:
          question: strings `[B]`.
          context: strings `[B]`.

        Returns:
          `answer` string `[B]`, `start` and `end` int32 `[B]` in characters, `score` float32 `[B]`, its share among the best
          spans, and `no_answer` float32 `[B]`: how far the logit of no answer is above the answer's.
        """
        questions, pieces, starts, ends, cut = self._windows((question, context))
        logits = self(self.preprocessor.pack(questions, pieces), training=False)
        before = 2 + tf.cast(questions.row_lengths(), tf.int32)
        spans = best_spans(logits["start_logits"], logits["end_logits"], self._allowed(logits, before, cut))
        scores, first, last = best_of_texts(spans, cut.document, cut.start - before, tf.size(context))
        found = scores[:, 0] > IMPOSSIBLE / 2
        start = tf.where(found, at_pieces(starts, first)[:, 0], 0)
        end = tf.where(found, at_pieces(ends, last)[:, 0], 0)
        null = tf.math.segment_min(self._null(logits), cut.document)
        return {
            "answer": tf.strings.substr(context, start, end - start, unit="UTF8_CHAR"),
            "start": start,
            "end": end,
            "score": tf.where(found, tf.nn.softmax(scores)[:, 0], 1.0),
            "no_answer": tf.where(found, null - scores[:, 0], 0.0),
        }

    def probes(self, pairs: bool | None = None) -> tuple[list[str], ...]:
        return (["Where is it?", "", "what " * 300] * 6)[: len(PROBES)], PROBES

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        answers = self.answer(columns[0], columns[1], verbose=0)
        spans = [(answer["text"], answer["start"], answer["end"]) for answer in answers]
        return [ComparableAnswer(span, np.array([answer["score"]]), (span,)) for span, answer in zip(spans, answers)]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        served = zip(outputs["answer"], outputs["start"], outputs["end"])
        spans = [(text.decode("utf-8"), int(start), int(end)) for text, start, end in served]
        return [ComparableAnswer(span, np.array([score]), (span,)) for span, score in zip(spans, outputs["score"])]

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        return functools.partial(answer_of_window, self, preprocessor)

    @property
    def logits(self) -> Logits | None:
        return Logits()

    def default_loss(self) -> dict[str, keras.losses.Loss]:
        """Returns the cross-entropies of start and end, whose mean is the loss."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"start_logits": loss, "end_logits": loss}

    def default_loss_weights(self) -> dict[str, float]:
        return {"start_logits": 0.5, "end_logits": 0.5}

    def default_metrics(self) -> dict[str, keras.metrics.Metric]:
        return {}

    # Distillation

    none_is_a_target = True  # the text has no answer

    def soft_loss(
        self, teacher_outputs: dict, student_outputs: dict, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        hidden = (1 - mask) * -30000.0  # padding is no place for an answer
        losses = [
            soft_targets(teacher_outputs[name] + hidden, student_outputs[name] + hidden, temperature)
            for name in student_outputs
        ]
        return tf.add_n(losses) / len(losses)

    def hard_loss(self, outputs: dict, targets: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
        losses = [
            mean_of_labelled(loss, targets[:, place], outputs[name], labelled)
            for place, (name, loss) in enumerate(self.default_loss().items())
        ]
        return tf.add_n(losses) / len(losses)

    def preset_config(self) -> dict[str, Any]:
        return {"qa_dropout": self.dropout_rate} if self.encoder.config.type_vocab_size == 0 else {}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dropout": self.dropout_rate, "window_stride": self.given_stride}
