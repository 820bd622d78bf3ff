"""Correlations of two columns of numbers."""

import numpy as np


def pearson(a, b):
    """Pearson's correlation of two columns of numbers; 0 where one of them is constant.

    >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.5]), 4)
    0.9979
    """
    a, b = (np.asarray(column, np.float64) - np.mean(column, dtype=np.float64) for column in (a, b))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else 0.0


def spearman(a, b):
    """Spearman's correlation, Pearson's of the ranks; equal numbers share the mean of their ranks.

    >>> spearman([1.0, 2.0, 30.0], [5.0, 6.0, 7.0])
    1.0
    """
    return pearson(_ranks(a), _ranks(b))


def _ranks(column):
    _, place, count = np.unique(np.asarray(column), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
