"""Texts with their targets, in memory: what `fit` and `evaluate` make of columns."""

from typing import NamedTuple

import numpy as np

from kbert.training.batches import batches


class Examples(NamedTuple):
    """Tokenized texts, encoded targets, and weights if there are any; the same number of rows in each."""

    columns: tuple  # of ragged ids [rows, (pieces)], one for each text of the input
    targets: np.ndarray  # [rows, ...], or ragged labels of pieces
    weights: np.ndarray | None  # float32 [rows]
    texts: np.ndarray | None = None  # [rows], ascending: the text of each row, where a long text makes several

    def batches(self, pack, batch_size, shuffle, max_tokens=None, epoch=None, seed=None):
        """A dataset of packed batches, see `kbert.training.batches`."""
        extra = (self.targets,) if self.weights is None else (self.targets, self.weights)
        if seed is None:
            seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        return batches(self.columns, extra, pack, batch_size, shuffle, seed, max_tokens, epoch)
