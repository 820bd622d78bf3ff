"""Reads containers whose columns have names: dictionaries, tables, structured arrays, lists of dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def columns_by_name(x: Any, name: str) -> dict[str, Any] | None:
    """Returns the columns of a dictionary, a table, a structured array or a list of dictionaries by their names.

    Args:
      x: any container.
      name: the name of the argument, for errors.

    Returns:
      The columns as they are, or None for a container whose columns have no names.

    Raises:
      ValueError: the dictionaries of a list have different keys.
    """
    if isinstance(x, Mapping):
        return dict(x)
    if isinstance(x, np.ndarray) and x.dtype.names:
        return {column: x[column] for column in x.dtype.names}
    names = getattr(x, "columns", getattr(x, "column_names", None))
    if names is not None and not callable(names):
        return {column: x[column] for column in names}
    if not isinstance(x, (list, tuple)) or not x or not isinstance(x[0], Mapping):
        return None
    for place, row in enumerate(x):
        if not isinstance(row, Mapping) or set(row) != set(x[0]):
            raise ValueError(f"{name}[0] has {', '.join(map(str, x[0]))}, and {name}[{place}] has not the same: {row!r:.80}")
    return {column: [row[column] for row in x] for column in x[0]}
