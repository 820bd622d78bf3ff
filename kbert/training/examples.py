"""Tokenized texts with their targets, in memory: what `fit` and `evaluate` make of columns of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.training.length_batches import batches


class Examples(NamedTuple):
    """Tokenized texts, encoded targets, and weights if there are any, with the same number of rows in each."""

    columns: tuple[tf.RaggedTensor, ...]  # ragged ids [rows, (pieces)], one column for each text of the input
    targets: np.ndarray | tf.RaggedTensor  # [rows, ...], or ragged labels of pieces [rows, (pieces)]
    weights: np.ndarray | None  # float32 [rows]
    texts: np.ndarray | None = None  # int [rows], ascending: each row's text, where a long text makes several rows

    def batches(
        self,
        pack: Callable[..., dict[str, tf.Tensor]],
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None = None,
        epoch: list[tf.Variable] | None = None,
        seed: int | None = None,
    ) -> tf.data.Dataset:
        """Returns a dataset of packed batches `(inputs, targets)` or `(inputs, targets, weights)`.

        Args:
          pack: a function from the columns of a batch to the encoder's input.
          batch_size: the rows of a batch; the last one may have fewer.
          shuffle: whether each epoch has a new order, with rows of similar length in the same batch.
          max_tokens: the most pieces of a batch, in place of `batch_size`.
          epoch: a list to which the variable that counts the epochs is appended.
          seed: the seed of the order; by default one drawn from NumPy's global generator, which
            `keras.utils.set_random_seed` sets.
        """
        extra = (self.targets,) if self.weights is None else (self.targets, self.weights)
        if seed is None:
            seed = int(np.random.randint(2**31))
        return batches(self.columns, extra, pack, batch_size, shuffle, seed, max_tokens, epoch)
