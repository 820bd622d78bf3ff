"""Batches of texts of similar length, as `tf.data`: the cost of a step follows the number of its real tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from kbert.training.losses import NO_LABEL

# The rows of so many batches are sorted by length together. In fine-tuning on tweets, in batches of 32 and on real tokens only,
# this made a step 1.1 times as fast (docs/facts.md).
BATCHES_SORTED_TOGETHER = 20


def sorted_batches(lengths: np.ndarray | Sequence[int], max_tokens: int, max_rows: int | None = None) -> list[np.ndarray]:
    """Groups rows of similar length, longest first, so that each group has at most `max_tokens` positions.

    >>> [rows.tolist() for rows in sorted_batches([3, 9, 4, 2], max_tokens=12)]
    [[1], [2, 0, 3]]

    Args:
      lengths: the number of positions of each row.
      max_tokens: the most positions of a group, padding included. A longer row is a group of its own.
      max_rows: the most rows of a group; by default there is no limit.

    Returns:
      A list of int arrays of row numbers, which holds each row once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    groups, start = [], 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, lengths[order[start]]))
        rows = min(rows, max_rows or rows)
        groups.append(order[start : start + rows])
        start += rows
    return groups


def token_batches(
    lengths: np.ndarray, max_tokens: int, rows_sorted_together: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Groups rows so that each group has at most `max_tokens` tokens, in as many groups whatever the order of the rows.

    >>> [group.tolist() for group in token_batches(np.array([3, 2, 4, 2, 3, 1, 3]), 12, 640)]
    [[0, 1], [2, 3], [4, 5, 6]]

    Args:
      lengths: int array `[rows]`, the number of tokens of each row.
      max_tokens: the most tokens of a group, at least three times the longest row's.
      rows_sorted_together: how many rows are sorted by length together, when they are shuffled.
      random: a NumPy generator that shuffles rows and groups. Without one the rows stay in the order given.

    Returns:
      A list of int arrays of row numbers, which holds each row once.

    Raises:
      ValueError: `max_tokens` is too small for the longest row.
    """
    longest, total = int(lengths.max()), int(lengths.sum())
    if max_tokens < 3 * longest:
        raise ValueError(f"max_tokens should be at least three times the longest text's {longest} pieces, got {max_tokens}")
    # All tokens are cut into equal shares, and a row belongs to the group in whose share its middle lies. A group then has
    # at most the tokens of a share and of one row.
    count = -(-total // (max_tokens - longest))
    order = np.arange(len(lengths))
    if random is not None:
        order = random.permutation(order)
        together = [order[start : start + rows_sorted_together] for start in range(0, len(order), rows_sorted_together)]
        order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in together])
    sizes = lengths[order]
    group = ((np.cumsum(sizes) - sizes / 2) * count / total).astype(int)
    groups = np.split(order, np.flatnonzero(np.diff(group)) + 1)
    if random is not None:
        random.shuffle(groups)
    return groups


def by_epoch(make: Callable[[tf.Tensor], tf.data.Dataset], epoch: list[tf.Variable] | None = None) -> tf.data.Dataset:
    """Returns a dataset that is made anew each time it is iterated.

    Args:
      make: a function that returns the dataset of an epoch. Its argument is the number of iterations before, an int64 scalar.
      epoch: a list to which the variable that counts iterations is appended. A training that goes on after a crash sets this
        variable, so that each epoch has the order that it would have had.
    """
    count = tf.Variable(0, dtype=tf.int64, trainable=False)
    if epoch is not None:
        epoch.append(count)

    @tf.autograph.experimental.do_not_convert  # these are plain ops: without AutoGraph, tracing takes half the time
    def start(_: tf.Tensor) -> tf.data.Dataset:
        number = count.read_value()
        with tf.control_dependencies([number]):
            counted = count.assign_add(1)
        with tf.control_dependencies([counted]):
            return make(tf.identity(number))

    return tf.data.Dataset.from_tensors(0).flat_map(start)


def batches(
    columns: Sequence[tf.RaggedTensor],
    targets: Sequence[np.ndarray | tf.Tensor | tf.RaggedTensor],
    pack: Callable[..., dict[str, tf.Tensor]],
    batch_size: int,
    shuffle: bool,
    seed: int = 0,
    max_tokens: int | None = None,
    epoch: list[tf.Variable] | None = None,
) -> tf.data.Dataset:
    """Returns a dataset of packed batches, `(inputs, *targets)`.

    With `shuffle`, each epoch sees the rows in a new order. Within every `BATCHES_SORTED_TOGETHER` batches of that order,
    rows of similar length are put into the same batch, and the order of these batches is shuffled again.

    Args:
      columns: ragged ids `[rows, (pieces)]`, one column for each text of the input.
      targets: arrays `[rows, ...]`, or ragged labels `[rows, (pieces)]` of the pieces of single texts.
      pack: a function from the columns of a batch to the encoder's input.
      batch_size: the rows of a batch; the last one may have fewer.
      shuffle: whether each epoch has a new order. Otherwise the rows come in the order given.
      seed: the seed of the order. The same seed gives the same batches.
      max_tokens: the most pieces of a batch, in place of `batch_size`, which then only says how many rows are sorted together.
      epoch: a list to which the variable that counts the epochs is appended, see `by_epoch`.

    Returns:
      A `tf.data.Dataset` with known cardinality. Ragged labels become `[B, L]`, see `place_labels`.
    """
    rows = int(columns[0].nrows())
    parts = [(column.values, column.row_splits) for column in columns]
    lengths = sum(tf.cast(splits[1:] - splits[:-1], tf.int32) for _, splits in parts)
    targets = [target if isinstance(target, tf.RaggedTensor) else tf.convert_to_tensor(target) for target in targets]
    count = -(-rows // batch_size)
    if max_tokens:
        count, groups = _groups_of_tokens(lengths.numpy(), max_tokens, batch_size, seed if shuffle else None, epoch)
    elif shuffle:
        groups = _shuffled_groups(lengths, batch_size, seed, epoch)
    else:
        groups = tf.data.Dataset.range(rows).batch(batch_size)

    @tf.autograph.experimental.do_not_convert
    def batch(group: tf.Tensor) -> tuple:
        texts = [tf.gather(tf.RaggedTensor.from_row_splits(values, splits, validate=False), group) for values, splits in parts]
        inputs = pack(*texts)
        chosen = [tf.gather(target, group) for target in targets]
        return (inputs, *(place_labels(t, inputs) if isinstance(t, tf.RaggedTensor) else t for t in chosen))

    dataset = groups.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def _groups_of_tokens(
    lengths: np.ndarray, max_tokens: int, batch_size: int, seed: int | None, epoch: list[tf.Variable] | None
) -> tuple[int, tf.data.Dataset]:
    """Returns the number of groups that `token_batches` makes in each epoch, and a dataset of the groups.

    Without a seed the groups are not shuffled.
    """
    together = BATCHES_SORTED_TOGETHER * batch_size

    def groups(number: np.int64) -> Iterator[np.ndarray]:
        random = None if seed is None else np.random.default_rng([seed, int(number)])
        yield from token_batches(lengths, max_tokens, together, random)

    def make(number: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(groups, args=(number,), output_signature=tf.TensorSpec([None], tf.int64))

    return len(token_batches(lengths, max_tokens, together)), by_epoch(make, epoch)


def _shuffled_groups(lengths: tf.Tensor, batch_size: int, seed: int, epoch: list[tf.Variable] | None) -> tf.data.Dataset:
    """Returns a dataset of groups of `batch_size` row numbers of similar length, in a new order each epoch."""

    def arrange(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(lengths.shape[0], dtype=tf.int64), tf.stack([tf.cast(seed, tf.int64), number])
        )
        together = tf.data.Dataset.from_tensor_slices(order).batch(BATCHES_SORTED_TOGETHER * batch_size).enumerate()
        return together.flat_map(lambda place, rows: sort(place, rows, number))

    @tf.autograph.experimental.do_not_convert
    def sort(place: tf.Tensor, rows: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        rows = tf.gather(rows, tf.argsort(tf.gather(lengths, rows), stable=True))
        starts = tf.range(0, tf.size(rows), batch_size)
        # The seed differs from that of the order: `place` counts from 1.
        draw = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), number]), place + 1)
        starts = tf.random.experimental.stateless_shuffle(starts, draw)
        return tf.data.Dataset.from_tensor_slices(starts).map(lambda start: rows[start : start + batch_size])

    return by_epoch(arrange, epoch)


def place_labels(labels: tf.RaggedTensor, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns ragged labels of pieces as `[B, L]`, with -100 (no label) at [CLS], [SEP] and padding.

    Args:
      labels: int `[B, (pieces)]`. Labels of pieces that did not fit into the row are left out.
      inputs: the packed dictionary, whose `token_ids` `[B, L]` give the length.
    """
    length = tf.shape(inputs["token_ids"])[1]
    dense = labels.to_tensor(NO_LABEL)[:, : length - 2]
    after = length - 1 - tf.shape(dense)[1]
    return tf.pad(dense, [[0, 0], [1, after]], constant_values=NO_LABEL)
