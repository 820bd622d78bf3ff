"""The span of a text that answers a question."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.scoring.squad import squad_scores
from kbert.tasks.exported_answers import ComparableAnswer
from kbert.tasks.one_window import fixed_shape, one_row, substrings
from kbert.tasks.prediction import Progress, in_order, softmax
from kbert.tasks.probes import PROBES
from kbert.tasks.spans import CANDIDATES, IMPOSSIBLE, at_pieces, best_of_texts, best_spans
from kbert.tasks.task import Task
from kbert.text.packing import TextPreprocessor, windows
from kbert.text.texts import text_list
from kbert.training.examples import Examples, check_weights


class Spans(Examples):
    """Examples whose targets are the first and last token of the answer, `[rows, 2]`."""

    def batches(self, pack, batch_size, shuffle, max_tokens=None, epoch=None):
        def apart(inputs, spans, *weights):
            return (inputs, {"start_logits": spans[:, 0], "end_logits": spans[:, 1]}, *weights)

        return (
            super().batches(pack, batch_size, shuffle, max_tokens, epoch).map(tf.autograph.experimental.do_not_convert(apart))
        )


@keras.saving.register_keras_serializable("kbert")
class QuestionAnswerer(Task):
    """Finds where a question is answered in a text.

    >>> task = QuestionAnswerer.from_preset("all-minilm-l6-v2", max_length=384)  # doctest: +SKIP
    >>> task.fit((questions, contexts), answers)  # doctest: +SKIP
    >>> task.answer("Where is the tower?", "The tower stands in Paris.")  # doctest: +SKIP
    {'text': 'Paris', 'start': 20, 'end': 25, 'score': 0.93}

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> sorted(QuestionAnswerer(encoder)({"token_ids": tf.constant([[2, 7, 3]])}))
    ['end_logits', 'start_logits']

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      dropout: of the tokens' vectors in training; 0, but for DistilBERT's checkpoints.
      window_stride: pieces that neighbouring windows of a long text share.

    Calling it with the packed dictionary gives `start_logits` and `end_logits`, both `[B, L]`. They are computed on every position:
    padding is among what the loss of the original code chooses from.
    """

    head, pools, positional, on_real_tokens = "QuestionAnswering", False, True, False

    def __init__(self, encoder, preprocessor=None, dropout=0.0, window_stride=128, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        if preprocessor is not None:  # less than the pieces that always have room beside the longest question
            window_stride = min(window_stride, (preprocessor.max_length - 3 - preprocessor.longest_query) // 2)
        self.window_stride = window_stride
        self.dropout_rate = dropout
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.spans = Projection(2, encoder.config.initializer_range, dtype="float32", name="spans")
        self.spans.build((None, encoder.config.hidden_size))
        self.built = True

    def head_outputs(self, outputs, inputs, training=None):
        vectors = outputs["sequence_output"]  # [B, L, H]
        vectors = tf.cast(self.dropout(vectors, training=training), tf.float32)
        shape = tf.shape(vectors)
        logits = tf.reshape(self.spans(tf.reshape(vectors, [-1, vectors.shape[-1]])), [shape[0], shape[1], 2])
        return {"start_logits": logits[:, :, 0], "end_logits": logits[:, :, 1]}

    @classmethod
    def from_preset(cls, preset, max_length=None, dropout=None, **kwargs):
        """A question answerer on the encoder of a preset; arguments as of `TextClassifier.from_preset`."""
        from kbert.checkpoints.opened import head_dropout, load_task

        return load_task(
            cls, preset, lambda task, missing: "the answer head", max_length=max_length,
            dropout=head_dropout(dropout, ("qa_dropout",), otherwise=0.0), **kwargs,
        )  # fmt: skip

    # Training

    def fit(self, x=None, y=None, **kwargs):
        """Trains on questions, texts and answers.

        >>> task.fit((examples["question"], examples["context"]), examples["answers"])  # doctest: +SKIP

        Args:
          x: a tuple of two columns, questions and texts.
          y: for each the answer, `{"text": str, "start": int}` in characters, or a list of them, of which the first is learned; `None` or an
            empty list where there is no answer in the text.
          **kwargs: the other arguments of a task's `fit`. A long text makes several examples, its windows.
        """
        return super().fit(x, y, **kwargs)

    def scores(self, x, y, verbose="auto"):
        """Exact match and F1 of the answers in percent, as the official script of SQuAD counts them."""
        found = self.answer(*x, no_answer_threshold=None if all(_right(answer) for answer in y) else 0.0, verbose=verbose)
        return squad_scores([answer["text"] for answer in found], [_right(answer) for answer in y])

    def _examples(self, x, y=None, sample_weight=None, class_weight=None):
        """Questions, texts and answers to windows with the tokens of the answers."""
        if not isinstance(x, tuple) or len(x) != 2:
            raise ValueError("questions and texts are needed: fit((questions, contexts), answers)")
        if y is None:
            raise ValueError("answers are missing: fit((questions, contexts), answers)")
        if class_weight is not None:
            raise ValueError("class_weight is for labels; a question answerer takes sample_weight")
        columns = [text_list(column, name) for column, name in zip(x, ("questions", "contexts"))]
        self._check_pairs(columns)
        if not len(y):
            raise ValueError("there are no questions: at least one is needed")
        if len(y) != len(columns[0]):
            raise ValueError(f"each question needs its answer, or None: got {len(columns[0])} questions and {len(y)} answers")
        answers = [self._check_answer(place, answer, columns[1][place].decode("utf-8")) for place, answer in enumerate(y)]
        questions, contexts, starts, ends, cut = self._windows(columns)
        splits = starts.row_splits.numpy()[1:-1]
        starts, ends = (np.split(part.values.numpy(), splits) for part in (starts, ends))
        first = [int(np.searchsorted(e, a[0], side="right")) if a else -1 for a, e in zip(answers, ends)]
        last = [int(np.searchsorted(s, a[1], side="left")) - 1 if a else -1 for a, s in zip(answers, starts)]
        document, start, length = (part.numpy() for part in cut)
        before = 2 + tf.cast(questions.row_lengths(), tf.int32).numpy()  # [CLS], the question, [SEP]
        spans = np.stack([np.array(first)[document] - start, np.array(last)[document] - start], 1)
        inside = (spans[:, 0] >= 0) & (spans[:, 1] >= spans[:, 0]) & (spans[:, 1] < length) & (np.array(last)[document] >= 0)
        spans = np.where(inside[:, None], spans + before[:, None], 0).astype(np.int32)  # [CLS] where the window has no answer
        weights = check_weights(sample_weight, len(y))
        return Spans((questions, contexts), spans, None if weights is None else weights[document], document)

    def _check_answer(self, place, answer, context):
        """The characters of the first of a question's answers, or None."""
        right = _right(answer)
        if not right:
            return None
        if not isinstance(right[0], dict) or not {"text", "start"} <= set(right[0]):
            raise TypeError(f"y[{place}] should be a dictionary with text and start, a list of them, or None, got {answer!r}")
        text, start = right[0]["text"], right[0]["start"]
        if not text or context[start : start + len(text)] != text:
            raise ValueError(
                f"y[{place}] says that {text!r} stands at character {start} of its text, but there is {context[start : start + len(text)]!r}"
            )
        return start, start + len(text)

    def _windows(self, columns):
        """Questions and texts cut into windows.

        Returns:
          Ragged ids of the windows' questions and of the windows, ragged starts and ends of the texts' pieces in characters, and
          `Windows`.
        """
        questions = self.tokenizer(columns[0])[:, : self.preprocessor.longest_query]
        contexts, starts, ends = self.tokenizer.tokenize_with_offsets(columns[1])
        room = self.preprocessor.max_length - 3 - tf.cast(questions.row_lengths(), tf.int32)
        cut = windows(tf.cast(contexts.row_lengths(), tf.int32), room, self.window_stride)
        return tf.gather(questions, cut.document), cut.of(contexts), starts, ends, cut

    # Answers

    def answer(self, question, context, top_k=1, max_answer_length=30, no_answer_threshold=None, verbose="auto"):
        """The answers to questions in texts.

        Args:
          question, context: a question and a text of any length, or a list of each.
          top_k: how many answers for a question.
          max_answer_length: the most tokens of an answer.
          no_answer_threshold: with a number, an empty answer is possible: it is given where its logit (the lowest of the windows' at [CLS])
            is more than this above the best span's. `None`: there always is an answer.

        Returns:
          `{"text", "start", "end", "score"}` for a question, or a list of them; with `top_k` more than 1 a list for each question, the best
          first. `context[start:end]` is the text; `score` is its share among the best spans (and the empty answer, if possible). An empty
          text, or none, is `{"text": "", "start": 0, "end": 0}`.
        """
        single = isinstance(question, (str, bytes))
        columns = [text_list(column, name) for column, name in ((question, "question"), (context, "context"))]
        self._check_pairs(columns)
        if not isinstance(top_k, int) or not 1 <= top_k <= CANDIDATES:
            raise ValueError(f"top_k should be between 1 and {CANDIDATES}, got {top_k!r}")
        if not columns[0]:
            return []
        questions, pieces, starts, ends, cut = self._windows(columns)
        groups, outputs = self._compute_pieces((questions, pieces), None, Progress(verbose))
        logits = tf.nest.map_structure(lambda *parts: in_order(groups, parts, positional=True), *outputs)
        before = 2 + tf.cast(questions.row_lengths(), tf.int32)
        allowed = self._allowed(logits, before, cut)
        spans = [
            best_spans(
                logits["start_logits"][start : start + 256], logits["end_logits"][start : start + 256], allowed[start : start + 256],
                max_answer_length,
            )
            for start in range(0, len(before), 256)  # [256, L, lengths] at a time
        ]  # fmt: skip
        spans = [tf.concat(parts, 0) for parts in zip(*spans)]
        scores, first, last = best_of_texts(spans, cut.document, cut.start - before, len(columns[0]))
        scores, starts, ends = (part.numpy() for part in (scores, at_pieces(starts, first), at_pieces(ends, last)))
        null = tf.math.segment_min(self._null(logits), cut.document).numpy()
        answers = [
            _answers(text.decode("utf-8"), scores[n], starts[n], ends[n], null[n], top_k, no_answer_threshold)
            for n, text in enumerate(columns[1])
        ]
        answers = [answer[0] for answer in answers] if top_k == 1 else answers
        return answers[0] if single else answers

    @staticmethod
    def _allowed(logits, before, cut):
        """Where an answer may be: in the window, not in the question; bool `[W, L]`."""
        place = tf.range(tf.shape(logits["start_logits"])[1])
        return (place >= before[:, None]) & (place < (before + cut.length)[:, None])

    @staticmethod
    def _null(logits):
        """The logit of no answer, start and end at [CLS]; `[W]`."""
        return logits["start_logits"][:, 0] + logits["end_logits"][:, 0]

    # Export

    text_inputs = ("question", "context")

    def serve(self, question, context):
        """Questions and texts `[B]` to the best answer of each, in a graph.

        Returns:
          `answer` string `[B]`, `start` and `end` int32 `[B]` in characters, `score` float32 `[B]`, its share among the best spans, and
          `no_answer` float32 `[B]`: how far the logit of no answer is above the answer's.
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

    def probes(self, pairs: bool = False) -> tuple[list[str], ...]:
        return (["Where is it?", "", "what " * 300] * 6)[: len(PROBES)], PROBES

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        return [
            ComparableAnswer((answer["text"], answer["start"], answer["end"]), np.array([answer["score"]]))
            for answer in self.answer(columns[0], columns[1], verbose=0)
        ]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        served = zip(outputs["answer"], outputs["start"], outputs["end"], outputs["score"])
        return [
            ComparableAnswer((text.decode("utf-8"), int(start), int(end)), np.array([score]))
            for text, start, end, score in served
        ]

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        return functools.partial(self._answer_of_window, preprocessor)

    def _answer_of_window(
        self, preprocessor: TextPreprocessor, question: tf.Tensor, context: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the best answer in the first window of a text, for a question and a text `[1]`.

        Returns:
          `answer` string, `start` and `end` int32 (characters), `score` and `no_answer` float32, each `[1]`.
        """
        question = one_row(self.tokenizer.call(question).values[: preprocessor.longest_query])
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(context)
        _, byte_starts, byte_ends = self.tokenizer.tokenize_with_offsets(context, unit="bytes")
        before = 2 + tf.size(question.values)
        count = tf.minimum(tf.size(ids.values), preprocessor.max_length - 1 - before)
        packed = fixed_shape(preprocessor, preprocessor.pack(question, one_row(ids.values[:count])))
        logits = self(packed, training=False)
        place = tf.range(preprocessor.max_length)
        allowed = (place >= before) & (place < before + count)
        scores, first, last = best_spans(logits["start_logits"], logits["end_logits"], allowed[None])
        is_found = tf.cast(scores[:, 0] > IMPOSSIBLE / 2, tf.int32)  # [1]
        first, last = first[:, :1] - before, last[:, :1] - before

        def at(offsets: tf.RaggedTensor, piece: tf.Tensor) -> tf.Tensor:
            return is_found * at_pieces(offsets, piece)[:, 0]

        is_answer = tf.cast(is_found, tf.float32)
        return {
            "answer": substrings(context, at(byte_starts, first), at(byte_ends, last)),
            "start": at(starts, first),
            "end": at(ends, last),
            "score": is_answer * tf.nn.softmax(scores)[:, 0] + (1 - is_answer),
            "no_answer": is_answer * (self._null(logits) - scores[:, 0]),
        }

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
        return {**super().get_config(), "dropout": self.dropout_rate, "window_stride": self.window_stride}


def _right(answer):
    """The right answers of a question, given as one, as several or as none."""
    return [] if answer is None else [answer] if isinstance(answer, dict) else list(answer)


def _answers(text, scores, starts, ends, null, top_k, threshold):
    """The best of a text's spans, and no answer among them where that is possible."""
    spans = [(int(a), int(b), float(score)) for score, a, b in zip(scores, starts, ends) if score > IMPOSSIBLE / 2]
    if threshold is not None or not spans:
        spans.append((0, 0, float(null)))
        if spans[0][2] < null - (threshold or 0.0):
            spans.insert(0, spans.pop())
    shares = softmax(np.array([score for *_, score in spans]))
    return [
        {"text": text[start:end], "start": start, "end": end, "score": float(share)}
        for (start, end, _), share in zip(spans, shares)
    ][:top_k]
