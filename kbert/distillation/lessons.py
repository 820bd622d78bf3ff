"""What a student learns from: texts, with labels or without, as batches of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.tasks.columns import Chunk
from kbert.tasks.inputs import is_stream, open_input
from kbert.tasks.labels import is_no_label
from kbert.tasks.task import Task
from kbert.training.length_batches import batches
from kbert.training.losses import NO_LABEL

MASKED_AT_ONCE = 64  # texts whose tokens are hidden in one step


class Lessons(NamedTuple):
    """Tokenized texts in `R` rows, with the targets of those that have one. A long text can make several rows."""

    columns: tuple[tf.RaggedTensor, ...]  # of int32 ids [R, (pieces)], one for each text of the input
    targets: np.ndarray | tf.RaggedTensor  # [R, ...], or ragged labels of pieces
    labelled: np.ndarray  # float32 [R]: 1 for a row whose target counts, 0 for the others
    mask_positions: np.ndarray | None = None  # int32 [R, M], the places of hidden tokens, zeros behind the last one

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.columns[0].nrows())

    @property
    def masks(self) -> np.ndarray | None:
        """How many tokens are hidden in each row, int64 `[R]`, or None if none are."""
        return None if self.mask_positions is None else (self.targets != NO_LABEL).sum(1)

    def inputs_of(self, pack: Callable, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the packed dictionary of some rows, in a graph.

        Args:
          pack: a function of ragged columns that gives the packed dictionary.
          rows: row numbers, int64 `[B]`.
        """
        inputs = pack(*(tf.gather(column, rows) for column in self.columns))
        if self.mask_positions is None:
            return inputs
        inputs, _ = at_masks(inputs, tf.gather(self.targets, rows), tf.gather(self.mask_positions, rows))
        return inputs

    def batches(self, pack: Callable, batch_size: int, shuffle: bool, teacher: Callable | None) -> tf.data.Dataset:
        """Returns a dataset of `(inputs, {"targets", "labelled"})`.

        Args:
          pack: a function of ragged columns that gives the packed dictionary.
          batch_size: rows of a batch.
          shuffle: whether the rows come in another order in each epoch.
          teacher: a function of row numbers, int64 `[B]`, whose result each batch gets as `"teacher"`, beside `"targets"` and
            `"labelled"`; or None.
        """
        columns = [self.targets, self.labelled]
        columns += [] if self.mask_positions is None else [self.mask_positions]
        columns += [] if teacher is None else [np.arange(self.rows)]

        @tf.autograph.experimental.do_not_convert
        def with_names(inputs: dict, targets: tf.Tensor, labelled: tf.Tensor, *others: tf.Tensor) -> tuple[dict, dict]:
            if self.mask_positions is not None:
                inputs, targets = at_masks(inputs, targets, others[0])
            y = {"targets": targets, "labelled": labelled}
            return inputs, y if teacher is None else {**y, "teacher": teacher(others[-1])}

        seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        data = batches(self.columns, columns, pack, batch_size, shuffle, seed)
        return data.map(with_names, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def at_masks(inputs: dict, targets: tf.Tensor, positions: tf.Tensor) -> tuple[dict, tf.Tensor]:
    """Adds `mask_positions` to a batch, and cuts targets and positions to the most masks that a row of the batch has.

    Args:
      inputs: the packed dictionary of `B` rows.
      targets: the hidden tokens, int32 `[B, M]`, -100 where a row has fewer.
      positions: their places, int32 `[B, M]`.

    Returns:
      The packed dictionary with `mask_positions`, and the targets.
    """
    most = tf.reduce_max(tf.reduce_sum(tf.cast(tf.not_equal(targets, NO_LABEL), tf.int32), 1))
    return {**inputs, "mask_positions": positions[:, :most]}, targets[:, :most]


def open_lessons(student: Task, x: Any, y: Any) -> Chunk:
    """Returns texts and their targets, which came through the door, as one chunk.

    Args:
      student: the task that reads them.
      x: texts, as the student's `fit` takes them; an embedder's student learns from single texts.
      y: None; or a target for each text, where None stands for a missing one.

    Raises:
      TypeError: the student has no preprocessor to read texts with.
      ValueError: a stream; no text; targets for a task that learns from texts alone, or not as many as texts.
    """
    student.check_reads_texts(x)
    if student.hard_targets != "given" and y is not None:
        raise ValueError(f"a {type(student).__name__} that is a student learns from texts alone: fit(texts)")
    if is_stream(x):
        raise ValueError(f"a student learns from texts in memory, got a {type(x).__name__}: give lists, arrays or columns")
    chunk = open_input(student.columns if student.hard_targets == "none" else student.training_columns, x, y).chunk
    if not chunk.rows:
        raise ValueError("there are no texts: at least one is needed")
    if chunk.targets is not None and len(chunk.targets) != chunk.rows:
        raise ValueError(f"each text needs one target, or None: got {chunk.rows} texts and {len(chunk.targets)} targets")
    return chunk


def read_lessons(student: Task, chunk: Chunk) -> Lessons:
    """Returns texts and their targets as `Lessons`.

    Args:
      student: the task that reads them.
      chunk: what `open_lessons` gave.
    """
    if student.hard_targets == "drawn":
        return masked_once(student, chunk)
    if student.hard_targets == "none":
        nothing: np.ndarray = np.zeros(chunk.rows, np.float32)
        return Lessons(student.read(chunk.columns), nothing, nothing)
    given = [None] * chunk.rows if chunk.targets is None else chunk.targets
    has_target = np.full(chunk.rows, chunk.targets is not None)
    if not student.none_is_a_target:
        has_target &= np.array([not (target is None or is_no_label(target)) for target in given])
    filled = [
        target if known else student.blank_target(text) for text, target, known in zip(chunk.columns[0], given, has_target)
    ]
    examples = student.encode(chunk._replace(targets=filled))
    labelled = has_target if examples.texts is None else has_target[examples.texts]
    return Lessons(examples.columns, examples.targets, labelled.astype(np.float32))


def masked_once(student: Task, chunk: Chunk) -> Lessons:
    """Returns texts with some tokens hidden, which are the same in each epoch and in each run.

    Args:
      student: a task whose targets are hidden tokens.
      chunk: texts.
    """
    masked = list(student.batches_of(student.encode(chunk), MASKED_AT_ONCE, shuffle=False, seed=0))
    most = max(int(tf.shape(labels)[1]) for _, labels in masked)

    def joined(values: Sequence[tf.Tensor], fill: int) -> np.ndarray:
        return tf.concat([tf.pad(v, [[0, 0], [0, most - tf.shape(v)[1]]], constant_values=fill) for v in values], 0).numpy()

    ids = [
        tf.RaggedTensor.from_tensor(inputs["token_ids"], tf.reduce_sum(inputs["padding_mask"], 1))[:, 1:-1]
        for inputs, _ in masked
    ]
    columns = (tf.cast(tf.concat(ids, 0).with_row_splits_dtype(tf.int64), tf.int32),)
    targets = joined([labels for _, labels in masked], NO_LABEL)
    positions = joined([inputs["mask_positions"] for inputs, _ in masked], 0)
    return Lessons(columns, targets, np.ones(len(targets), np.float32), positions)


def masked_anew(student: Task, chunk: Chunk, batch_size: int, shuffle: bool) -> tf.data.Dataset:
    """Returns a dataset of `(inputs, {"targets", "labelled"})` with other hidden tokens in each epoch.

    Args:
      student: a task whose targets are hidden tokens.
      chunk: texts.
      batch_size: texts of a batch.
      shuffle: whether the texts come in another order in each epoch. If not, the hidden tokens are the same in each, too.
    """

    @tf.autograph.experimental.do_not_convert
    def with_names(inputs: dict, labels: tf.Tensor) -> tuple[dict, dict]:
        return inputs, {"targets": labels, "labelled": tf.ones(tf.shape(labels)[0])}

    return student.batches_of(student.encode(chunk), batch_size, shuffle).map(with_names)


def count_tokens(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns how many tokens each text has, int32 `[B]`. A text in windows has the sum of their tokens.

    Args:
      inputs: the packed dictionary.
    """
    lengths = tf.reduce_sum(inputs["padding_mask"], 1)
    return tf.math.segment_sum(lengths, inputs["document"]) if "document" in inputs else lengths
