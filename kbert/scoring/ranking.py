"""How far up a search puts the right text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def ranks(results: Sequence[Sequence[int]], right: Sequence[int]) -> list[float]:
    """Returns the rank of each query's right text among its results: 1 for the first, infinity if it is not among them.

    >>> ranks([[4, 7], [7, 4], [1, 2]], [4, 4, 4])
    [1, 2, inf]

    Args:
      results: for each query the indices of the texts that were found, the best first.
      right: for each query the index of the right text.
    """
    return [1 + result.index(place) if place in result else math.inf for result, place in zip(results, right)]


def found_first(ranks: Sequence[float]) -> float:
    """Returns the share of queries whose right text has rank 1.

    >>> found_first([1, 2, math.inf, 1])
    0.5
    """
    return float(np.mean([rank == 1 for rank in ranks]))


def mean_reciprocal_rank(ranks: Sequence[float]) -> float:
    """Returns the mean of 1 / rank; a right text that was not found counts 0.

    >>> mean_reciprocal_rank([1, 2, math.inf, 1])
    0.625
    """
    return float(np.mean([1 / rank for rank in ranks]))
