"""Describes the data of a training: its phases, and how many batches they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


def rows_of(inputs: Any) -> int:
    """Returns the number of rows of a nest of arrays `[B, ...]`, for example of a packed dictionary.

    >>> rows_of({"token_ids": np.zeros([6, 9], int)})
    6
    """
    return int(np.shape(keras.tree.flatten(inputs)[0])[0])


def batches_in(data: Any, batch_size: int, held_out: float = 0.0) -> int | None:
    """Returns the number of batches of an epoch, or None if the data do not say.

    Args:
      data: a `tf.data.Dataset` or a `PyDataset` of batches; or arrays in a nest, which Keras cuts into batches.
      batch_size: the rows of a batch of arrays.
      held_out: the share of the rows of arrays that Keras holds out at the end.
    """
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return count if count > 0 else None
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    return -(-int(np.floor(rows_of(data) * (1.0 - held_out))) // batch_size)


class Phase(NamedTuple):
    """A part of a training: its data, its number of epochs, and the number of batches of an epoch, or None if it is unknown."""

    data: Any
    epochs: int
    batches: int | None

    @classmethod
    def of(cls, data: tf.data.Dataset, epochs: int, steps_per_epoch: int | None = None) -> Phase:
        """Returns the phase of a dataset.

        Args:
          data: a dataset of batches. If it ends, it begins anew where `steps_per_epoch` asks for more batches.
          epochs: the number of epochs.
          steps_per_epoch: the batches of an epoch; by default all that there are.
        """
        if steps_per_epoch is None:
            return cls(data, epochs, batches_in(data, 1))
        return cls(data.repeat(), epochs, steps_per_epoch)


def batches_of_training(phases: Sequence[Phase], initial_epoch: int) -> int | None:
    """Returns how many batches are trained on from an epoch on, or None if it is unknown.

    Args:
      phases: all phases, in their order.
      initial_epoch: the number of the first epoch, counted from 0 over all phases.
    """
    total, epoch = 0, 0
    for _, epochs, batches in phases:
        left = max(0, epoch + epochs - max(epoch, initial_epoch))
        if left and batches is None:
            return None
        total, epoch = total + left * (batches or 0), epoch + epochs
    return total


def remaining_phases(
    phases: Sequence[Phase], epochs_done: int = 0, batches_done: int = 0
) -> list[tuple[tf.data.Dataset, int, int]]:
    """Returns the rest of a training that continues, in parts. All epochs of a part have the same length.

    Keras takes the length of the first epoch of a `fit` for that of all others, and would cut longer ones. So each part needs
    a `fit` of its own.

    Args:
      phases: all phases of the training, in their order.
      epochs_done: the number of epochs that were finished.
      batches_done: the number of batches that were finished in the epoch after these.

    Returns:
      A list of `(data, first epoch, epoch before which the part ends)`. Epochs are counted from 0 over all phases.
    """
    parts, epoch = [], 0
    for data, epochs, _ in phases:
        first, epoch = max(epoch, epochs_done), epoch + epochs
        if first == epochs_done and batches_done and first < epoch:
            parts.append((data.skip(batches_done), first, first + 1))
            first += 1
        if first < epoch:
            parts.append((data, first, epoch))
    return parts
