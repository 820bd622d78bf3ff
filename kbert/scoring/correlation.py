"""Correlations of two columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Returns Pearson's correlation of two columns of numbers; 0 if one of them is constant.

    >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.5]), 4)
    0.9979

    Args:
      a: numbers `[B]`.
      b: as many numbers.
    """
    x, y = (np.asarray(column, np.float64) - np.mean(column, dtype=np.float64) for column in (a, b))
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size else 0.0


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Returns Spearman's correlation, which is Pearson's of the ranks; equal numbers share the mean of their ranks.

    >>> spearman([1.0, 2.0, 30.0], [5.0, 6.0, 7.0])
    1.0

    Args:
      a: numbers `[B]`.
      b: as many numbers.
    """
    return pearson(_ranks(a), _ranks(b))


def _ranks(column: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the rank of each number, counted from 1."""
    _, place, count = np.unique(np.asarray(column), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
