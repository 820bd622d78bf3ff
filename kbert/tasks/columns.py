"""Plain columns: what any container of rows in memory becomes, and the only form that a task sees.

After this no task meets pandas, NumPy scalars or tensors: a text is UTF-8 bytes, a sentence of given words is a list of them,
a target is a Python value, a weight is a float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.tasks.row_weights import check_weights
from kbert.text.texts import is_tensor, text_list


class Columns(NamedTuple):
    """One form that a task's inputs can have."""

    names: tuple[str, ...]
    words: bool = False  # whether a row may be a list of words


TEXT = Columns(("text",))
PAIR = Columns(("text", "text_pair"))


class WrongColumns(ValueError):
    """Another number of columns than a task takes."""


class Chunk(NamedTuple):
    """Rows in plain columns; each list has as many items as there are rows."""

    columns: tuple[list, ...]  # texts as UTF-8 bytes, or lists of words
    targets: list | None = None  # Python values
    weights: np.ndarray | None = None  # float32 [rows]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.columns[0])

    @property
    def has_words(self) -> bool:
        """Whether the rows are lists of words rather than texts."""
        return any(isinstance(row, list) for row in self.columns[0])

    def part(self, rows: slice) -> Chunk:
        """Returns the chunk of some of the rows."""
        return Chunk(
            tuple(column[rows] for column in self.columns),
            None if self.targets is None else self.targets[rows],
            None if self.weights is None else self.weights[rows],
        )

    def split(self, share: float) -> tuple[Chunk, Chunk]:
        """Holds out a share of the rows at the end, as Keras does.

        Returns:
          The rows to train on and the rows that are held out.
        """
        first = rows_kept(self.rows, share)
        return self.part(slice(0, first)), self.part(slice(first, None))


def plain_chunk(forms: tuple[Columns, ...], x: Any, y: Any = None, sample_weight: Any = None) -> Chunk:
    """Returns rows in memory as one `Chunk`; see `open_input` for the errors.

    Args:
      forms: the sets of columns that the task reads.
      x: the rows, in one of the forms of `open_input`.
      y: their targets, or None.
      sample_weight: a weight for each row, or None.
    """
    columns = plain_columns(forms, x)
    weights = check_weights(sample_weight, len(columns[0]))
    return Chunk(columns, None if y is None else plain_targets(y), weights)


def plain_columns(forms: tuple[Columns, ...], x: Any, name: str = "x") -> tuple[list, ...]:
    """Returns the columns of rows in memory, each a list of UTF-8 bytes or of lists of words.

    Args:
      forms: the sets of columns that the task reads; the input should fit one of them.
      x: the rows, in one of the forms of `open_input`.
      name: what the caller calls the argument, for errors.
    """
    words = any(form.words for form in forms)
    most = max(len(form.names) for form in forms)
    sizes = {len(form.names) for form in forms}
    if isinstance(x, tuple) and not words and len(x) > 1 and len(x) in sizes and _are_texts(x):
        if 1 in sizes:
            raise ValueError(f"{name} is a tuple of {len(x)} strings: give texts as a list, or a pair as ([text], [other])")
        x = tuple([text] for text in x)  # one row
    if isinstance(x, dict):
        given = _columns_by_name(forms, x, "a dictionary")
    elif hasattr(x, "columns") and any(len(form.names) > 1 and set(form.names) <= set(x.columns) for form in forms):
        given = _columns_by_name(forms, {column: x[column] for column in x.columns}, "a table")
    elif isinstance(x, tuple) and not words and x and not _are_texts(x) and (most > 1 or all(map(_is_container, x))):
        given = x
    elif most > 1 and not words and _are_rows(x, sizes):
        given = tuple(zip(*x))
    else:
        given = (x,)
    if not any(len(form.names) == len(given) for form in forms):
        expected = " or ".join(f"({', '.join(form.names)})" if len(form.names) > 1 else form.names[0] for form in forms)
        raise WrongColumns(f"{name} should be {expected}, got {'a tuple of ' if len(given) > 1 else ''}{len(given)} columns")
    names = list(x) if isinstance(x, dict) else [name] * len(given)
    columns = tuple(_column(column, column_name, words) for column, column_name in zip(given, names))
    if len({len(column) for column in columns}) > 1:
        lengths = " and ".join(str(len(column)) for column in columns)
        raise ValueError(f"both texts of a pair are needed: got columns of {lengths}")
    return columns


def _columns_by_name(forms: tuple[Columns, ...], x: dict, kind: str) -> tuple:
    for form in sorted(forms, key=lambda form: -len(form.names)):
        if set(form.names) <= set(x):
            return tuple(x[name] for name in form.names)
    expected = " or ".join(", ".join(form.names) for form in forms)
    raise ValueError(f"{kind} of inputs should have {expected} (or token_ids, if it is packed), got {', '.join(map(str, x))}")


def _is_container(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))


def _are_texts(values: Iterable) -> bool:
    """Returns whether all values are texts, so that a tuple of them is a column rather than columns."""
    return all(isinstance(value, (str, bytes)) for value in values)


def _are_rows(x: Any, sizes: set[int]) -> bool:
    """Returns whether a list or an array holds rows of several texts: pairs, as tuples or as a line of an array."""
    if isinstance(x, np.ndarray):
        return x.ndim == 2 and x.shape[1] > 1 and x.shape[1] in sizes
    if not isinstance(x, list) or not x or not isinstance(x[0], (tuple, list)):
        return False
    return len(x[0]) > 1 and len(x[0]) in sizes and _are_texts(x[0])


def _column(column: Any, name: str, words: bool) -> list:
    """Returns one column as a list of texts, or of lists of words where the task takes them."""
    if isinstance(column, tf.RaggedTensor):
        column = column.to_list() if words else column
    elif is_tensor(column) and column.dtype == tf.string:
        column = column.numpy()
    if isinstance(column, (np.ndarray, np.generic)) and getattr(column, "ndim", 0) == 0:
        column = [column.item()] if isinstance(column.item(), (str, bytes)) else column
    if isinstance(column, np.ndarray) and column.ndim == 2 and (column.shape[1] == 1 or not words):
        if column.shape[1] != 1:
            raise ValueError(f"{name} should be a column of texts, got an array of shape {column.shape}")
        column = column[:, 0]
    if words and are_words(column):
        return [text_list(row, f"{name}[{place}]") for place, row in enumerate(column)]
    return text_list(column, name)


def are_words(x: Any) -> bool:
    """Returns whether the rows are lists of words rather than texts."""
    if isinstance(x, (str, bytes, dict)) or not hasattr(x, "__len__"):
        return False
    return isinstance(next(iter(x), None), (list, tuple, np.ndarray))


def plain_targets(y: Any) -> list:
    """Returns the targets of rows in memory as a list of Python values.

    >>> plain_targets(np.array([[1], [0]]))
    [[1], [0]]

    Raises:
      TypeError: `y` is no container with a target for each row.
    """
    if isinstance(y, tf.RaggedTensor):
        y = y.to_list()
    elif is_tensor(y):
        y = y.numpy()
    if isinstance(y, (str, bytes)) or not hasattr(y, "__len__") or getattr(y, "ndim", 1) == 0:
        raise TypeError(f"y should be a list, array or column with a target for each text, got {type(y).__name__}")
    if isinstance(y, dict):  # the columns of targets that have several parts
        return [dict(zip(y, values)) for values in zip(*map(plain_targets, y.values()))]
    if hasattr(y, "columns"):  # a table: a row of numbers for each text
        y = y.to_numpy()
    return [plain_value(value) for value in (y.tolist() if hasattr(y, "tolist") else y)]


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


def rows_kept(count: int, share: float) -> int:
    """Returns how many of `count` rows are trained on when a share at their end is held out."""
    if not 0 <= share < 1:
        raise ValueError(f"validation_split should be a share in [0, 1), got {share}")
    first = math.floor(count * (1 - share))
    if first == 0:
        raise ValueError(f"validation_split={share} of {count} texts leaves nothing to train on")
    return first


def first_rows(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Yields the chunks of the first `rows` rows, the last one cut, and reads no further; `rows` is at least 1."""
    for chunk in chunks:
        yield chunk.part(slice(0, rows))
        rows -= chunk.rows
        if rows <= 0:
            return


def joined_chunks(chunks: list[Chunk]) -> Chunk:
    """Returns the rows of several chunks as one."""
    if len(chunks) == 1:
        return chunks[0]
    columns = tuple(list(itertools.chain.from_iterable(parts)) for parts in zip(*(chunk.columns for chunk in chunks)))
    targets = None if chunks[0].targets is None else [target for chunk in chunks for target in chunk.targets or []]
    weights = None if chunks[0].weights is None else np.concatenate([chunk.weights for chunk in chunks])
    return Chunk(columns, targets, weights)
