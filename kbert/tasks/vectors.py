"""Reads vectors that are given in the place of texts, scales them to length 1, and searches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

SCORES_AT_ONCE = 16_000_000  # similarities of queries and corpus held at a time


def vectors_in(given: Any, name: str) -> np.ndarray | None:
    """Returns vectors that were given in the place of texts, `[N, D]`, in float32 or float64; or None for texts.

    Half precision (float16, bfloat16) becomes float32, because the squares of a norm overflow in float16.

    Args:
      given: an array or a tensor of floats, or a list of such vectors, or anything else.
      name: the name of the argument in an error.

    Raises:
      ValueError: `given` is a single vector, or has numbers that are not finite.
    """
    if isinstance(given, (list, tuple)) and given and all(is_numeric(vector) for vector in given):
        given = np.stack([np.asarray(vector) for vector in given])
    if not is_numeric(given):
        return None
    vectors = np.asarray(given)
    vectors = vectors.astype(np.result_type(np.float32, vectors.dtype if vectors.dtype.kind == "f" else np.float16))
    if vectors.ndim != 2:
        raise ValueError(f"{name} should be vectors [N, D], got shape {vectors.shape}; one vector is vector[None]")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} have numbers that are not finite, first in row {np.argwhere(~np.isfinite(vectors))[0, 0]}")
    return vectors


def is_numeric(given: Any) -> bool:
    """Returns whether `given` is an array or a tensor of floats. NumPy's `dtype.kind` does not say so of bfloat16."""
    return isinstance(given, (np.ndarray, tf.Tensor)) and given.dtype.name.startswith(("float", "bfloat"))


def of_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors `[N, D]` of any length, scaled to length 1. A vector of zeros stays as it is."""
    largest = np.abs(vectors).max(-1, keepdims=True, initial=0)  # so that no square overflows or vanishes
    vectors = vectors / np.where(largest > 0, largest, 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def nearest(queries: np.ndarray, vectors: np.ndarray, top_k: int) -> Iterator[list[tuple[int, float]]]:
    """Yields for each query the places and the cosines of the vectors that are nearest to it, the best first.

    Args:
      queries: vectors of length 1, `[Q, D]`.
      vectors: vectors of length 1, `[C, D]`.
      top_k: the number of vectors for each query; all of them if there are fewer.
    """
    top_k, block = min(top_k, len(vectors)), max(1, SCORES_AT_ONCE // max(1, len(vectors)))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ vectors.T
        best = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k] if top_k else np.zeros((len(scores), 0), int)
        for row, places in zip(scores, best):
            order = places[np.argsort(-row[places], kind="stable")]
            yield [(place, float(row[place])) for place in order.tolist()]
