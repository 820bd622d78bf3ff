"""Weights of rows: `sample_weight` as it is given, and `class_weight` made into weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kbert.tasks.labels import label_index


def check_weights(weights: Any, count: int) -> np.ndarray | None:
    """Returns a weight for each row as float32 `[rows]`, or None.

    Raises:
      ValueError: another number of weights than rows, or a weight that is negative or no finite number.
    """
    if weights is None:
        return None
    if isinstance(weights, Iterator):
        weights = list(weights)
    try:
        weights = np.asarray(weights, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"sample_weight should be numbers ({error}); the texts of a pair stand in a tuple of their own, "
            "((text, other), target)"
        ) from None
    weights = weights[:, 0] if weights.ndim == 2 and weights.shape[1] == 1 else weights
    if weights.shape != (count,):
        raise ValueError(f"each text needs one weight: got {count} texts and weights of shape {weights.shape}")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(f"sample_weight[{wrong[0]}] is {weights[wrong[0]]}; a weight is a finite number, 0 or more")
    return weights


def class_weights(labels: list[str], class_weight: dict) -> np.ndarray:
    """Returns a dictionary of weights by label or index as float32 `[labels]`; a label left out weighs 1."""
    if not isinstance(class_weight, dict):
        raise TypeError(f"class_weight should be a dictionary from a label to its weight, got {class_weight!r}")
    weights: np.ndarray = np.ones(len(labels), np.float32)
    for label, weight in class_weight.items():
        weights[label_index(labels, label, "class_weight")] = weight
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"class_weight should hold finite numbers, 0 or more, got {class_weight}")
    return weights


def balanced_weights(targets: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Returns the weight of each label with which all labels weigh the same in sum: `rows / (labels * rows of the label)`.

    >>> balanced_weights(np.array([0, 0, 0, 1]), ["ham", "spam"])
    {'ham': 0.6666666666666666, 'spam': 2.0}

    The formula is scikit-learn's for `class_weight="balanced"`. A label without a row is left out.

    Args:
      targets: the index of each row's label, `[B]`, -100 for none; or rows of shares `[B, labels]`.
      labels: the names of the labels.
    """
    indices = targets if targets.ndim == 1 else targets.argmax(-1)
    rows = np.bincount(indices[indices >= 0], minlength=len(labels))
    return {name: float(rows.sum() / (len(labels) * of_label)) for name, of_label in zip(labels, rows.tolist()) if of_label}


def weights_of_rows(sample_weight: np.ndarray | None, of_label: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the weight of each row: that of its label, times its own.

    Args:
      sample_weight: float32 `[B]`, or None.
      of_label: the weight of each label, float32 `[labels]`.
      targets: the index of each row's label, int32 `[B]`, -100 for none; or rows of shares `[B, labels]`.
    """
    # A text without a label gets the weight of label 0. The loss does not count the text.
    of_row = of_label[np.maximum(targets, 0) if targets.ndim == 1 else targets.argmax(-1)]
    return of_row if sample_weight is None else sample_weight * of_row
