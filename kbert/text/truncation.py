"""How many pieces of texts fit into a row: the lengths of cut texts and pairs, and windows over long documents."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

TRUNCATIONS = ("longest_first", "only_first", "only_second", "round_robin")


def truncated_lengths(
    first: tf.Tensor, second: tf.Tensor | None, budget: int, truncation: str = "longest_first"
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns the number of pieces of each text that fit into a row.

    >>> a, b = truncated_lengths(tf.constant([10, 3]), tf.constant([9, 20]), budget=8)
    >>> a.numpy(), b.numpy()
    (array([4, 3], dtype=int32), array([4, 5], dtype=int32))

    Args:
      first, second: the numbers of pieces, int32 `[B]`; `second` is None for single texts.
      budget: the largest number of pieces of both texts together.
      truncation: `"longest_first"` takes piece by piece from the longer text, and from the first one on a tie. It is computed
        in closed form. `"only_first"` and `"only_second"` cut one text and leave the other whole. `"round_robin"` gives a piece
        to each text in turn, as KerasHub does; the first text then has the odd one.

    Returns:
      The pair of shortened numbers, int32 `[B]`; the second is None for single texts. The reference raises an error if the text
      that is left whole is longer than the budget. A graph cannot raise one, so that text is then cut to the budget too.
    """
    if second is None:
        return tf.minimum(first, budget), None
    if truncation == "longest_first":
        smaller = tf.minimum(tf.minimum(first, second), budget // 2)
        larger = budget - smaller
        fits = first + second <= budget
        kept_first = tf.where(first > second, larger, smaller)
        kept_second = tf.where(first > second, smaller, larger)
        return tf.where(fits, first, kept_first), tf.where(fits, second, kept_second)
    if truncation == "round_robin":
        kept_first = tf.minimum(first, tf.maximum(budget - budget // 2, budget - second))
        return kept_first, tf.minimum(second, budget - kept_first)
    if truncation == "only_first":
        kept_second = tf.minimum(second, budget)
        return tf.minimum(first, budget - kept_second), kept_second
    kept_first = tf.minimum(first, budget)
    return kept_first, tf.minimum(second, budget - kept_first)


class Windows(NamedTuple):
    """Overlapping windows of documents: `W` windows of `B` documents."""

    document: tf.Tensor  # int32 [W], the document of each window
    start: tf.Tensor  # int32 [W], the window's first piece in the document
    length: tf.Tensor  # int32 [W], the window's number of pieces

    def of(self, ragged: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the windows `[W, (pieces)]` of the values that documents have for their pieces, ragged `[B, (pieces)]`."""
        starts = tf.gather(ragged.row_splits[:-1], self.document) + tf.cast(self.start, tf.int64)
        ends = starts + tf.cast(self.length, tf.int64)
        return tf.gather(ragged.values, tf.ragged.range(starts, ends))


def windows(lengths: tf.Tensor, room: int | tf.Tensor, stride: int) -> Windows:
    """Cuts documents into windows of at most `room` pieces, each sharing `stride` pieces with the one before.

    >>> [part.numpy().tolist() for part in windows(tf.constant([7, 2]), room=4, stride=1)]
    [[0, 0, 1], [0, 3, 0], [4, 4, 2]]

    Args:
      lengths: the number of pieces of each document, int32 `[B]`.
      room: the number of a document's pieces in one window: a number or, if it depends on another text beside the document,
        int32 `[B]`.
      stride: the number of pieces that neighbouring windows share, as the reference's `stride`; less than `room`.

    Returns:
      The `Windows`. A document without pieces has one empty window.

    Raises:
      ValueError: if `room` is a number and `stride` is negative or not less than it.
    """
    if isinstance(room, int) and not 0 <= stride < room:
        raise ValueError(
            f"stride should be at least 0 and less than the {room} pieces of a window, got {stride}; "
            "choose a smaller stride or a larger max_length"
        )
    room = tf.broadcast_to(tf.convert_to_tensor(room, tf.int32), tf.shape(lengths))
    step = room - stride
    count = 1 + (tf.maximum(lengths - room, 0) + step - 1) // step  # [B]
    ends = tf.cumsum(count)
    first = ends - count
    # Every document has a window, so the document of a window is the number of first windows up to it, less one.
    is_first = tf.scatter_nd(first[:, None], tf.ones_like(first), tf.reduce_sum(count)[None])
    document = tf.cumsum(is_first) - 1  # [W]
    start = (tf.range(tf.reduce_sum(count)) - tf.gather(first, document)) * tf.gather(step, document)
    length = tf.minimum(tf.gather(lengths, document) - start, tf.gather(room, document))
    return Windows(document, start, length)
