"""Reads targets from any container as plain Python values, and checks that numbers are finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.tasks.named_columns import columns_by_name
from kbert.text.texts import is_tensor

LARGEST = float(np.finfo(np.float32).max)


def plain_targets(y: Any) -> list:
    """Returns the targets of rows in memory as a list of Python values.

    >>> plain_targets(np.array([[1], [0]]))
    [[1], [0]]

    Args:
      y: a list, array, column, tensor or table of targets, or a dictionary of columns.

    Raises:
      TypeError: `y` is no container with a target for each row.
      ValueError: the columns of a table or dictionary have different numbers of rows.
    """
    if isinstance(y, tf.RaggedTensor):
        y = y.to_list()
    elif is_tensor(y):
        y = y.numpy()
    if isinstance(y, (set, frozenset)):
        raise TypeError(f"y is a {type(y).__name__}, which has no order: give a list with a target for each text")
    if isinstance(y, (str, bytes, tf.data.Dataset)) or not hasattr(y, "__iter__") or getattr(y, "ndim", 1) == 0:
        raise TypeError(f"y should be a list, array or column with a target for each text, got {type(y).__name__}")
    named = None if isinstance(y, (list, tuple)) else columns_by_name(y, "y")
    if named is not None:  # targets of several parts, or one in a table
        parts = [plain_targets(column) for column in named.values()]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"the columns of y differ: {', '.join(f'{n} has {len(p)} rows' for n, p in zip(named, parts))}")
        if list(named) == list(range(len(named))):  # without names
            return [list(row) for row in zip(*parts)]
        return parts[0] if len(parts) == 1 and not isinstance(y, Mapping) else [dict(zip(named, row)) for row in zip(*parts)]
    if hasattr(y, "to_pylist"):  # of pyarrow
        y = y.to_pylist()
    return [plain_value(value) for value in (y.tolist() if hasattr(y, "tolist") else y)]


def in_order_of(labels: list[str], target: Any, where: str) -> Any:
    """Returns a dictionary with a number for each label as a list in the labels' order; other targets as they are.

    Args:
      labels: the names of the labels.
      target: the target of one text.
      where: the name of the target in an error.

    Raises:
      ValueError: the keys of the dictionary are not the labels.
    """
    if not isinstance(target, dict):
        return target
    if set(target) != set(labels):
        raise ValueError(
            f"{where} has {', '.join(map(str, target))}, but the labels are {', '.join(labels)}: name each of them"
        )
    return [target[label] for label in labels]


def plain_value(value: Any) -> Any:
    """Returns a NumPy scalar, an array or a tensor as a Python value, and UTF-8 bytes as a string."""
    if type(value) in (str, int, float):  # nearly all targets; a million of them take seconds otherwise
        return value
    if is_tensor(value):
        value = value.numpy()
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {name: plain_value(item) for name, item in value.items()}
    return value


def finite_numbers(y: list) -> np.ndarray:
    """Returns targets that are numbers, or rows of them, as float32 `[rows, ...]`.

    Raises:
      TypeError: something is no number. The row is named.
      ValueError: a number is not finite, or rows differ in size. The row is named.
    """
    try:
        numbers = np.asarray(y)
    except ValueError:  # rows of several sizes
        numbers = np.zeros(0, object)
    if numbers.dtype.kind in "biuf" and (np.abs(numbers.astype(np.float64)) <= LARGEST).all():
        return numbers.astype(np.float32)
    for place, target in enumerate(y):
        for number in target if isinstance(target, list) else [target]:
            if isinstance(number, (str, dict, list)) or not hasattr(number, "__float__"):
                raise TypeError(f"y[{place}] is {number!r:.80}, {'which is missing' if is_missing(number) else 'not a number'}")
            if not abs(float(number)) <= LARGEST:
                raise ValueError(f"y[{place}] is {target!r:.80}, which is not a finite number")
        if isinstance(target, list) != isinstance(y[0], list) or (isinstance(target, list) and len(target) != len(y[0])):
            raise ValueError(f"y[{place}] is {target!r:.80}, but y[0] is {y[0]!r:.80}: give as many numbers for each text")
    return np.asarray(y, np.float32)


def is_whole(value: Any) -> bool:
    """Returns whether a target is a whole number, which pandas may have made a float."""
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))


def is_missing(value: Any) -> bool:
    """Returns whether a target is None, NaN or pandas's NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)
