"""Reads vectors that are given in the place of texts, scales them to length 1, and searches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
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


def similarities(first: np.ndarray, second: np.ndarray, kind: str = "dot") -> np.ndarray:
    """Returns the similarities of vectors, `[A, B]`: the larger, the more alike.

    >>> similarities(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 4.0]]), "euclidean").tolist()
    [[-5.0, 0.0]]

    Args:
      first: vectors `[A, D]`; of length 1 for cosines.
      second: vectors `[B, D]`; of length 1 for cosines.
      kind: `"cosine"` or `"dot"` for products, `"euclidean"` or `"manhattan"` for distances with a minus sign, as
        sentence-transformers names them.
    """
    if kind in ("cosine", "dot"):
        return first @ second.T
    order = 2 if kind == "euclidean" else 1
    rows = [0.0 - np.linalg.norm(row - second, ord=order, axis=-1) for row in first]  # and no -0.0
    return np.stack(rows) if rows else np.zeros((0, len(second)), second.dtype)


def nearest(queries: np.ndarray, vectors: np.ndarray, top_k: int, kind: str = "cosine") -> Iterator[list[tuple[int, float]]]:
    """Yields for each query the places and the similarities of the vectors that are nearest to it, the best first.

    Args:
      queries: vectors `[Q, D]`; of length 1 for cosines.
      vectors: vectors `[C, D]`; of length 1 for cosines.
      top_k: the number of vectors for each query; all of them if there are fewer.
      kind: the kind of similarity, as `similarities` takes it.
    """
    top_k, block = min(top_k, len(vectors)), max(1, SCORES_AT_ONCE // max(1, len(vectors)))
    for start in range(0, len(queries), block):
        scores = similarities(queries[start : start + block], vectors, kind)
        best = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k] if top_k else np.zeros((len(scores), 0), int)
        for row, places in zip(scores, best):
            order = places[np.argsort(-row[places], kind="stable")]
            yield [(place, float(row[place])) for place in order.tolist()]
