"""The one decoder of answers: the best spans of texts, in graph ops that Python, SavedModels and LiteRT files call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.tasks.prediction import softmax
from kbert.tasks.targets import is_missing, is_whole

CANDIDATES = 20  # spans of a window among which the best are chosen, as in the BERT paper's code
IMPOSSIBLE = -1e9  # the score of a span that may not be


def best_spans(
    start_logits: tf.Tensor, end_logits: tf.Tensor, allowed: tf.Tensor, max_answer_length: int = 30, top_k: int = CANDIDATES
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the spans with the highest `start + end`, in ops that TF Serving and LiteRT have.

    >>> start_logits, end_logits = tf.constant([[0.0, 5.0, 1.0]]), tf.constant([[9.0, 0.0, 3.0]])
    >>> scores, starts, ends = best_spans(start_logits, end_logits, tf.constant([[1, 1, 1]]), top_k=1)
    >>> scores.numpy().tolist(), starts.numpy().tolist(), ends.numpy().tolist()
    ([[9.0]], [[0]], [[0]])

    Args:
      start_logits: the logits of each position as an answer's first token, float32 `[B, L]`.
      end_logits: the logits of each position as an answer's last token, float32 `[B, L]`.
      allowed: 1 where an answer may be, int32 `[B, L]`.
      max_answer_length: the most tokens of an answer, a number.
      top_k: how many spans.

    Returns:
      Scores, first and last tokens, each `[B, top_k]`; fewer where `L * max_answer_length` is less.
    """
    length = tf.shape(start_logits)[1]
    barred = (1.0 - tf.cast(allowed, tf.float32)) * IMPOSSIBLE
    ends = tf.pad(end_logits + barred, [[0, 0], [0, max_answer_length - 1]], constant_values=IMPOSSIBLE)
    scores = [start_logits + barred + ends[:, more : more + length] for more in range(max_answer_length)]
    scores = tf.reshape(tf.stack(scores, 2), [tf.shape(start_logits)[0], length * max_answer_length])  # [B, L * lengths]
    best = tf.math.top_k(scores, tf.minimum(top_k, length * max_answer_length))
    first = best.indices // max_answer_length
    return best.values, first, first + best.indices % max_answer_length


def best_of_texts(
    spans: Sequence[tf.Tensor], document: tf.Tensor, shift: tf.Tensor, texts: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the best spans of texts from those of their windows: each span once, whichever windows it stands in.

    Args:
      spans: scores, first and last tokens of windows, each `[W, K]`.
      document: the text of each window, int32 `[W]`, ascending.
      shift: what is added to a token's place to get that of the piece in its text, int32 `[W]`.
      texts: how many texts there are, `B`; each has a window.

    Returns:
      Scores and the first and last pieces, each `[B, CANDIDATES]` or fewer, the best first. Where there are not as many
      spans, the last scores are below `IMPOSSIBLE / 2`.
    """
    scores, first, last = spans
    first, last = first + shift[:, None], last + shift[:, None]

    def by_text(values: tf.Tensor, otherwise: float) -> tf.Tensor:
        ragged = tf.RaggedTensor.from_value_rowids(values, tf.cast(document, tf.int64), nrows=tf.cast(texts, tf.int64))
        dense = ragged.to_tensor(tf.constant(otherwise, values.dtype))  # [B, windows, K]
        flat = tf.reshape(dense, [texts, tf.shape(dense)[1] * tf.shape(dense)[2]])
        return tf.pad(flat, [[0, 0], [0, 1]], constant_values=tf.constant(otherwise, values.dtype))  # one column of no text too

    # A window shares less than half of its pieces with the next one, so that a span is in two of them at most.
    scores, first, last = by_text(scores, IMPOSSIBLE), by_text(first, -1), by_text(last, -1)
    best = tf.math.top_k(scores, tf.minimum(2 * CANDIDATES, tf.shape(scores)[1]))
    scores, first, last = best.values, *(tf.gather(part, best.indices, batch_dims=1) for part in (first, last))
    same = (first[:, :, None] == first[:, None]) & (last[:, :, None] == last[:, None])  # [B, M, M]
    place = tf.range(tf.shape(scores)[1])
    again = tf.reduce_any(same & (place[None, :] < place[:, None]), -1)
    best = tf.math.top_k(tf.where(again, IMPOSSIBLE, scores), tf.minimum(CANDIDATES, tf.shape(scores)[1]))
    return best.values, *(tf.gather(part, best.indices, batch_dims=1) for part in (first, last))


def at_pieces(offsets: tf.RaggedTensor, pieces: tf.Tensor) -> tf.Tensor:
    """Returns the offsets of pieces, `[B, K]`.

    Args:
      offsets: the offsets of all pieces, ragged `[B, (pieces)]`.
      pieces: numbers of pieces, `[B, K]`. Where there is no such piece, some other offset is returned.
    """
    values = tf.concat([offsets.values, [0]], 0)
    places = tf.cast(offsets.row_splits[:-1], tf.int32)[:, None] + pieces
    return tf.gather(values, tf.clip_by_value(places, 0, tf.size(values) - 1))


def right_answers(answer: Any) -> list:
    """Returns the right answers of a question as a list, which may be empty.

    Args:
      answer: `{"text", "start"}` or `(text, start)`, or a list of answers. A dictionary of two lists, `{"text",
        "answer_start"}`, is several answers, as in the tables of Hugging Face's hub. None, NaN and an empty list are no answer.
    """
    if is_missing(answer):
        return []
    if isinstance(answer, dict):
        text, start = answer.get("text"), answer.get("start", answer.get("answer_start"))
        if isinstance(text, list) and isinstance(start, list) and len(text) == len(start):
            return [{"text": part, "start": place} for part, place in zip(text, start)]
        return [answer if "answer_start" not in answer else {"text": text, "start": start}]
    several = answer if isinstance(answer, (list, tuple)) and not _is_answer(answer) else [answer]
    return [{"text": item[0], "start": item[1]} if _is_answer(item) else item for item in several]


def _is_answer(value: Any) -> bool:
    """Returns whether a value is `(text, start)`."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str) and is_whole(value[1])


def best_answers(
    text: str, scores: np.ndarray, starts: np.ndarray, ends: np.ndarray, null: float, top_k: int, threshold: float | None
) -> list[dict]:
    """Returns the best of a text's spans, and no answer among them where that is possible.

    Args:
      text: the text.
      scores: the scores of the best spans, `[K]`.
      starts: their first characters, `[K]`.
      ends: the characters after them, `[K]`.
      null: the logit of no answer.
      top_k: how many answers.
      threshold: how far the logit of no answer has to be above the best span's; None if there is an answer in any case.

    Returns:
      A list of `{"text", "start", "end", "score"}`, the best first; `score` is the share among the spans.
    """
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


def answer_and_odds(text: str, scores: np.ndarray, starts: np.ndarray, ends: np.ndarray, null: float) -> tuple[str, float]:
    """Returns a text's best answer, and by how much the logit of no answer exceeds its score.

    A text without possible spans has the answer "" and infinity. The arguments are described at `best_answers`.
    """
    best = best_answers(text, scores, starts, ends, null, top_k=1, threshold=None)[0]["text"]
    possible = [float(score) for score in scores if score > IMPOSSIBLE / 2]
    return best, float(null) - possible[0] if possible else np.inf


def characters_of_answer(place: int, answer: Any, context: str) -> tuple[int, int] | None:
    """Returns the first and the last character, plus one, of the first of a question's answers; None if it has none.

    Args:
      place: the number of the question, for an error.
      answer: its answers, as `fit` takes them.
      context: its text.

    Raises:
      TypeError: an answer that is no dictionary with text and start.
      ValueError: the answer does not stand in the text at its place.
    """
    right = right_answers(answer)
    if not right:
        return None
    if not isinstance(right[0], dict) or not {"text", "start"} <= set(right[0]):
        raise TypeError(
            f"y[{place}] should be a dictionary with text and start, (text, start), a list of them, or None, got {answer!r}"
        )
    for other in right[1:]:  # answers are only compared with these, so that they need no place
        if not isinstance(other, dict) or not isinstance(other.get("text"), str):
            raise TypeError(
                f"y[{place}] has the answer {other!r:.80}, which should be a dictionary with text, or (text, start)"
            )
    text, start = right[0]["text"], right[0]["start"]
    if not isinstance(text, str):
        raise TypeError(f"y[{place}] has the text {text!r}, which is no string")
    if not is_whole(start):
        raise TypeError(f"y[{place}] has the start {start!r}, which is not a whole number of characters")
    start = int(start)
    if not text or context[start : start + len(text)] != text:
        raise ValueError(
            f"y[{place}] says that {text!r} stands at character {start} of its text, but there is "
            f"{context[start : start + len(text)]!r}"
        )
    return start, start + len(text)
