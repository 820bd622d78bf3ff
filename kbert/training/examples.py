"""Texts with their targets, in memory: what `fit` and `evaluate` make of columns."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from kbert.training.batches import batches


class Examples(NamedTuple):
    """Tokenized texts, encoded targets, and weights if there are any; the same number of rows in each."""

    columns: tuple  # of ragged ids [rows, (pieces)], one for each text of the input
    targets: np.ndarray  # [rows, ...], or ragged labels of pieces
    weights: np.ndarray | None  # float32 [rows]
    texts: np.ndarray | None = None  # [rows], ascending: the text of each row, where a long text makes several

    def rows(self, piece):
        """The examples of a slice."""
        weights = None if self.weights is None else self.weights[piece]
        columns = tuple(column[piece] for column in self.columns)
        texts = None if self.texts is None else self.texts[piece]
        return self._replace(columns=columns, targets=self.targets[piece], weights=weights, texts=texts)

    def split(self, share):
        """Holds out the end of the data, as Keras does, by whole texts, and warns where labels occur only there."""
        count = int(self.columns[0].nrows())
        if self.texts is None:
            first = rows_kept(count, share)
        else:
            first = int(np.searchsorted(self.texts, rows_kept(int(self.texts[-1]) + 1, share)))
        kept, held_out = self.rows(slice(0, first)), self.rows(slice(first, count))
        if isinstance(self.targets, np.ndarray) and self.targets.ndim == 1 and np.issubdtype(self.targets.dtype, np.integer):
            unseen = np.setdiff1d(held_out.targets, kept.targets)
            if len(unseen):
                warnings.warn(
                    "validation_split holds out the end of the data, and there are labels that occur only there; "
                    "shuffle texts and labels together before fit()",
                    stacklevel=3,
                )
        return kept, held_out

    def batches(self, pack, batch_size, shuffle, max_tokens=None, epoch=None):
        """A dataset of packed batches, see `kbert.training.batches`."""
        extra = (self.targets,) if self.weights is None else (self.targets, self.weights)
        seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        return batches(self.columns, extra, pack, batch_size, shuffle, seed, max_tokens, epoch)


def held_out_rows(column, share):
    """The end of a column that `Examples.split` holds out."""
    first = rows_kept(len(column), share)
    return column.iloc[first:] if hasattr(column, "iloc") else column[first:]


def rows_kept(count, share):
    """How many of `count` texts are trained on when a share at their end is held out."""
    if not 0 <= share < 1:
        raise ValueError(f"validation_split should be a share in [0, 1), got {share}")
    first = math.floor(count * (1 - share))
    if first == 0:
        raise ValueError(f"validation_split={share} of {count} texts leaves nothing to train on")
    return first


def check_weights(weights, count):
    """A weight for each text as float32, or None."""
    if weights is None:
        return None
    weights = np.asarray(weights, np.float32)
    if weights.shape != (count,):
        raise ValueError(f"each text needs one weight: got {count} texts and weights of shape {weights.shape}")
    return weights
