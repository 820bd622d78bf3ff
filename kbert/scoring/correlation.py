"""Correlations of two columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pearson(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> float:
    """Returns Pearson's correlation of two columns of numbers; 0 if one of them is constant or all weights are 0.

    >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.5]), 4)
    0.9979

    Args:
      a: numbers `[B]`.
      b: as many numbers.
      weights: how often each pair counts, numbers `[B]` that are not negative; by default once.
    """
    w: np.ndarray = np.ones(len(a)) if weights is None else np.asarray(weights, np.float64)
    if not w.sum():
        return 0.0
    x, y = (np.asarray(column, np.float64) - np.average(column, weights=w) for column in (a, b))
    size = np.sqrt((w @ (x * x)) * (w @ (y * y)))
    return float(w @ (x * y) / size) if size else 0.0


def spearman(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> float:
    """Returns Spearman's correlation, which is Pearson's of the ranks; equal numbers share the mean of their ranks.

    >>> spearman([1.0, 2.0, 30.0], [5.0, 6.0, 7.0])
    1.0

    Args:
      a: numbers `[B]`.
      b: as many numbers.
      weights: how often each pair counts, numbers `[B]` that are not negative; by default once.
    """
    w: np.ndarray = np.ones(len(a)) if weights is None else np.asarray(weights, np.float64)
    return pearson(_ranks(a, w), _ranks(b, w), w)


def _ranks(column: Sequence[float] | np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the rank of each number, counted from 1. A number with weight 2 counts like two equal numbers."""
    _, place = np.unique(np.asarray(column), return_inverse=True)
    count = np.bincount(place, weights)
    return (np.cumsum(count) - (count - 1) / 2)[place]
