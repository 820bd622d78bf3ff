"""Entities from the logits of pieces, in graph ops: Python, SavedModels, LiteRT files and frozen tasks call them."""

import tensorflow as tf


def best_window(ids, cut, length):
    """Where the logits of each piece are to be read: in the window in which it stands farthest from an edge, the first of such.

    Args:
      ids: ragged `[B, (pieces)]`.
      cut: their `Windows`.
      length: positions of a packed window, `L`.

    Returns:
      For each piece a place among all `W * L` positions, int64 `[P]`.
    """
    whole = tf.cast(ids.row_lengths(), tf.int32)
    window = tf.repeat(tf.range(tf.size(cut.length)), cut.length)
    place = tf.ragged.range(cut.length).values
    start, size = tf.gather(cut.start, window), tf.gather(cut.length, window)
    document = tf.gather(cut.document, window)
    far = tf.int32.max // 2  # from the text's own ends no context is missing
    before = tf.where(start > 0, place, far)
    after = tf.where(start + size < tf.gather(whole, document), size - 1 - place, far)
    windows_in_all = tf.cast(tf.size(cut.length), tf.int64)
    order = tf.cast(tf.minimum(before, after), tf.int64) * windows_in_all - tf.cast(window, tf.int64)
    piece = tf.gather(ids.row_splits, document) + tf.cast(start + place, tf.int64)
    count = tf.size(ids.values, tf.int64)
    best = tf.where(tf.equal(order, tf.gather(tf.math.unsorted_segment_max(order, piece, count), piece)))[:, 0]
    position = tf.cast(window, tf.int64) * tf.cast(length, tf.int64) + 1 + tf.cast(place, tf.int64)
    return tf.scatter_nd(tf.gather(piece, best)[:, None], tf.gather(position, best), [count])
