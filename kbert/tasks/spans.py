"""The best spans of texts by their start and end logits, in graph ops: Python, SavedModels and LiteRT files call them."""

import tensorflow as tf

CANDIDATES = 20  # spans of a window among which the best are chosen, as in the BERT paper's code
IMPOSSIBLE = -1e9  # the score of a span that may not be


def best_spans(start_logits, end_logits, allowed, max_answer_length=30, top_k=CANDIDATES):
    """The spans with the highest `start + end`, in ops that TF Serving and LiteRT have.

    >>> scores, starts, ends = best_spans(tf.constant([[0.0, 5.0, 1.0]]), tf.constant([[9.0, 0.0, 3.0]]), tf.constant([[1, 1, 1]]), top_k=1)
    >>> scores.numpy().tolist(), starts.numpy().tolist(), ends.numpy().tolist()
    ([[9.0]], [[0]], [[0]])

    Args:
      start_logits, end_logits: float32 `[B, L]`.
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


def best_of_texts(spans, document, shift, texts):
    """The best spans of windows to those of their texts: each span once, whichever windows it stands in.

    Args:
      spans: scores, first and last tokens of windows, each `[W, K]`.
      document: the text of each window, int32 `[W]`, ascending.
      shift: what is added to a token's place to get that of the piece in its text, int32 `[W]`.
      texts: how many texts there are, `B`; each has a window.

    Returns:
      Scores and the first and last pieces, each `[B, CANDIDATES]` or fewer, the best first. Where there are not as many spans, the
      last scores are below `IMPOSSIBLE / 2`.
    """
    scores, first, last = spans
    first, last = first + shift[:, None], last + shift[:, None]

    def by_text(values, otherwise):
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


def at_pieces(offsets, pieces):
    """The offsets of pieces: of ragged `[B, (pieces)]` those at `[B, K]`; something where there is no such piece."""
    values = tf.concat([offsets.values, [0]], 0)
    places = tf.cast(offsets.row_splits[:-1], tf.int32)[:, None] + pieces
    return tf.gather(values, tf.clip_by_value(places, 0, tf.size(values) - 1))
