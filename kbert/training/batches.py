"""Batches of texts of similar length, as `tf.data`: a step then costs what its real tokens cost."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.training.losses import NO_LABEL

WINDOW = 20  # batches that are sorted together; FACTS S6


class Phase(NamedTuple):
    """A dataset and how many looks at it there are."""

    data: tf.data.Dataset
    epochs: int

    @property
    def steps(self):
        """Batches of all looks, or None where nobody knows."""
        count = int(self.data.cardinality())
        return count * self.epochs if count > 0 else None


def spans(phases, epochs_done=0, batches_done=0):
    """What is left of phases: `(dataset, first epoch, epoch before which it ends)` of each part with epochs of one length.

    Keras takes the length of its first epoch for that of all others, and would cut longer ones: each span needs a `fit` of its own.
    """
    found, epoch = [], 0
    for data, epochs in phases:
        first, epoch = max(epoch, epochs_done), epoch + epochs
        if first == epochs_done and batches_done and first < epoch:
            found.append((data.skip(batches_done), first, first + 1))
            first += 1
        if first < epoch:
            found.append((data, first, epoch))
    return found


def sorted_batches(lengths, max_tokens, max_rows=None):
    """Groups rows of similar length, longest first, so that each group has at most `max_tokens` positions.

    >>> [rows.tolist() for rows in sorted_batches([3, 9, 4, 2], max_tokens=12)]
    [[1], [2, 0, 3]]

    Args:
      lengths: number of positions of each row.
      max_tokens: the most positions of a group, padding included; a longer row is a group of its own.
      max_rows: the most rows of a group.

    Returns:
      A list of arrays of row numbers, which holds each row once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    groups, start = [], 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, lengths[order[start]]))
        rows = min(rows, max_rows or rows)
        groups.append(order[start : start + rows])
        start += rows
    return groups


def token_batches(lengths, max_tokens, window, random=None):
    """Groups of row numbers with at most `max_tokens` tokens each, always as many groups, whatever the order.

    >>> [group.tolist() for group in token_batches(np.array([3, 2, 4, 2, 3, 1, 3]), 12, 640)]
    [[0, 1], [2, 3], [4, 5, 6]]

    Args:
      lengths: numbers of tokens.
      max_tokens: at least three times the longest.
      window: rows that are sorted by length together, when shuffled.
      random: a NumPy generator; without one the rows stay in the order given.
    """
    longest, total = int(lengths.max()), int(lengths.sum())
    if max_tokens < 3 * longest:
        raise ValueError(f"max_tokens should be at least three times the longest text's {longest} pieces, got {max_tokens}")
    # A row belongs to the group in whose share of all tokens its middle lies: then no group is more than a share and a row.
    count = -(-total // (max_tokens - longest))
    order = np.arange(len(lengths))
    if random is not None:
        order = random.permutation(order)
        windows = [order[start : start + window] for start in range(0, len(order), window)]
        order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in windows])
    sizes = lengths[order]
    group = ((np.cumsum(sizes) - sizes / 2) * count / total).astype(int)
    groups = np.split(order, np.flatnonzero(np.diff(group)) + 1)
    if random is not None:
        random.shuffle(groups)
    return groups


def by_epoch(make, epoch=None):
    """A dataset that is made anew for each look at it, of the number of looks before.

    Args:
      make: a function of that number, an int64 tensor, to a dataset.
      epoch: a list that gets the variable which counts. A training that goes on after a crash sets it, so that each epoch is as it was.
    """
    count = tf.Variable(0, dtype=tf.int64, trainable=False)
    if epoch is not None:
        epoch.append(count)

    @tf.autograph.experimental.do_not_convert  # plain ops: without it, tracing takes half the time
    def start(_):
        number = count.read_value()
        with tf.control_dependencies([number]):
            counted = count.assign_add(1)
        with tf.control_dependencies([counted]):
            return make(tf.identity(number))

    return tf.data.Dataset.from_tensors(0).flat_map(start)


def batches(columns, targets, pack, batch_size, shuffle, seed=0, max_tokens=None, epoch=None):
    """A dataset of packed batches, `(inputs, *targets)`.

    With `shuffle`, each epoch sees the rows in a new order, and within every `WINDOW` batches of that order rows of similar
    length are put into the same batch, whose own order is shuffled again. Without, the rows come in the order given.

    Args:
      columns: a tuple of ragged ids `[rows, (pieces)]`, one for each text of the input.
      targets: a tuple of arrays `[rows, ...]`; or of ragged labels, one for each piece of single texts.
      pack: a function of the columns of a batch that gives the encoder's input.
      batch_size: rows of a batch; the last one may have fewer.
      shuffle: see above.
      seed: of the order; the same seed gives the same batches.
      epoch: see `by_epoch`.
      max_tokens: the most pieces of a batch, in place of `batch_size`, which then only says how far lengths are sorted.

    Returns:
      A `tf.data.Dataset` with known cardinality.
    """
    rows = int(columns[0].nrows())
    columns = [(column.values, column.row_splits) for column in columns]
    lengths = sum(tf.cast(splits[1:] - splits[:-1], tf.int32) for _, splits in columns)
    targets = [target if isinstance(target, tf.RaggedTensor) else tf.convert_to_tensor(target) for target in targets]
    count = -(-rows // batch_size)
    if max_tokens:
        known = lengths.numpy()
        count = len(token_batches(known, max_tokens, WINDOW * batch_size))

        def groups(number):
            random = np.random.default_rng([seed, int(number)]) if shuffle else None
            yield from token_batches(known, max_tokens, WINDOW * batch_size, random)

        signature = tf.TensorSpec([None], tf.int64)
        places = by_epoch(
            lambda number: tf.data.Dataset.from_generator(groups, args=(number,), output_signature=signature), epoch
        )
    elif shuffle:

        def arrange(number):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(rows, dtype=tf.int64), tf.stack([tf.cast(seed, tf.int64), number])
            )
            windows = tf.data.Dataset.from_tensor_slices(order).batch(WINDOW * batch_size).enumerate()
            return windows.flat_map(lambda place, window: sort(place, window, number))

        @tf.autograph.experimental.do_not_convert
        def sort(place, window, number):
            window = tf.gather(window, tf.argsort(tf.gather(lengths, window), stable=True))
            starts = tf.range(0, tf.size(window), batch_size)
            # Another seed than that of the order: place counts from 1.
            draw = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), number]), place + 1)
            starts = tf.random.experimental.stateless_shuffle(starts, draw)
            return tf.data.Dataset.from_tensor_slices(starts).map(lambda start: window[start : start + batch_size])

        places = by_epoch(arrange, epoch)
    else:
        places = tf.data.Dataset.range(rows).batch(batch_size)

    @tf.autograph.experimental.do_not_convert
    def batch(places):
        texts = [
            tf.gather(tf.RaggedTensor.from_row_splits(values, splits, validate=False), places) for values, splits in columns
        ]
        inputs = pack(*texts)
        chosen = [tf.gather(target, places) for target in targets]
        return (inputs, *(place_labels(t, inputs) if isinstance(t, tf.RaggedTensor) else t for t in chosen))

    dataset = places.map(batch, num_parallel_calls=2, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def place_labels(labels, inputs):
    """Ragged labels of pieces to `[B, L]`, with no label at [CLS], [SEP] and padding."""
    length = tf.shape(inputs["token_ids"])[1]
    dense = labels.to_tensor(NO_LABEL)[:, : length - 2]
    after = length - 1 - tf.shape(dense)[1]
    return tf.pad(dense, [[0, 0], [1, after]], constant_values=NO_LABEL)
