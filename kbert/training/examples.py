"""Tokenized texts with their targets, in memory: what `fit` and `evaluate` make of columns of texts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.training.batches import batches


class Examples(NamedTuple):
    """Tokenized texts, encoded targets, and weights if there are any, with the same number of rows in each."""

    columns: tuple[tf.RaggedTensor, ...]  # ragged ids [rows, (pieces)], one column for each text of the input
    targets: np.ndarray | tf.RaggedTensor  # [rows, ...], or ragged labels of pieces [rows, (pieces)]
    weights: np.ndarray | None  # float32 [rows]
    texts: np.ndarray | None = (
        None  # int [rows], ascending: the number of each row's text, where a long text makes several rows
    )

    def rows(self, piece: slice) -> Examples:
        """Returns the examples of a slice of rows."""
        weights = None if self.weights is None else self.weights[piece]
        columns = tuple(column[piece] for column in self.columns)
        texts = None if self.texts is None else self.texts[piece]
        return self._replace(columns=columns, targets=self.targets[piece], weights=weights, texts=texts)

    def split(self, share: float) -> tuple[Examples, Examples]:
        """Returns the examples to train on and the examples to validate on, which are the end of the data, as in Keras.

        All rows of a text come into the same part. A warning says so if a label occurs only in the second part.

        Args:
          share: the share of the texts to validate on, from 0 to less than 1.
        """
        count = int(self.columns[0].nrows())
        if self.texts is None:
            first = rows_kept(count, share)
        else:
            first = int(np.searchsorted(self.texts, rows_kept(int(self.texts[-1]) + 1, share)))
        trained, held_out = self.rows(slice(0, first)), self.rows(slice(first, count))
        if isinstance(self.targets, np.ndarray) and self.targets.ndim == 1 and np.issubdtype(self.targets.dtype, np.integer):
            unseen_labels = np.setdiff1d(held_out.targets, trained.targets)
            if len(unseen_labels):
                warnings.warn(
                    "validation_split holds out the end of the data, and there are labels that occur only there; "
                    "shuffle texts and labels together before fit()",
                    stacklevel=3,
                )
        return trained, held_out

    def batches(
        self,
        pack: Callable[..., dict[str, tf.Tensor]],
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None = None,
        epoch: list[tf.Variable] | None = None,
    ) -> tf.data.Dataset:
        """Returns a dataset of packed batches `(inputs, targets)` or `(inputs, targets, weights)`.

        The seed of the order is drawn from NumPy's global generator, which `keras.utils.set_random_seed` sets.

        Args:
          pack: a function from the columns of a batch to the encoder's input.
          batch_size: the rows of a batch; the last one may have fewer.
          shuffle: whether each epoch has a new order, with rows of similar length in the same batch.
          max_tokens: the most pieces of a batch, in place of `batch_size`.
          epoch: a list to which the variable that counts the epochs is appended.
        """
        extra = (self.targets,) if self.weights is None else (self.targets, self.weights)
        seed = int(np.random.randint(2**31))
        return batches(self.columns, extra, pack, batch_size, shuffle, seed, max_tokens, epoch)


def held_out_rows(column: Any, share: float) -> Any:
    """Returns the end of a column that `Examples.split` holds out.

    Args:
      column: a list, an array or a pandas column of texts or targets.
      share: the share to hold out, from 0 to less than 1.
    """
    first = rows_kept(len(column), share)
    return column.iloc[first:] if hasattr(column, "iloc") else column[first:]


def rows_kept(count: int, share: float) -> int:
    """Returns how many texts are trained on when a share at their end is held out.

    Args:
      count: the number of texts.
      share: the share to hold out, from 0 to less than 1.

    Raises:
      ValueError: the share is out of range, or nothing would be left to train on.
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation_split should be a share in [0, 1), got {share}")
    first = math.floor(count * (1 - share))
    if first == 0:
        raise ValueError(f"validation_split={share} of {count} texts leaves nothing to train on")
    return first


def check_weights(weights: Sequence[float] | np.ndarray | None, count: int) -> np.ndarray | None:
    """Returns the weights of texts as float32 `[count]`, or None if there are none.

    Args:
      weights: a weight for each text, or None.
      count: the number of texts.

    Raises:
      ValueError: there are not as many weights as texts.
    """
    if weights is None:
        return None
    array = np.asarray(weights, np.float32)
    if array.shape != (count,):
        raise ValueError(f"each text needs one weight: got {count} texts and weights of shape {array.shape}")
    return array
