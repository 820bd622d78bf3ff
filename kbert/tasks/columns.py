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

from kbert.arguments import share
from kbert.tasks.named_columns import columns_by_name
from kbert.tasks.row_weights import check_weights
from kbert.tasks.targets import plain_targets
from kbert.text.texts import is_symbolic, is_tensor, text_list


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

    @property
    def inputs(self) -> Any:
        """The columns as `evaluate` takes them: a list of strings or of lists of words, or a tuple of such lists."""
        columns = [[text.decode("utf-8") if isinstance(text, bytes) else text for text in column] for column in self.columns]
        return columns[0] if len(columns) == 1 else tuple(columns)

    def part(self, rows: slice) -> Chunk:
        """Returns the chunk of some of the rows."""
        return Chunk(
            tuple(column[rows] for column in self.columns),
            None if self.targets is None else self.targets[rows],
            None if self.weights is None else self.weights[rows],
        )

    def split(self, held_out: float) -> tuple[Chunk, Chunk]:
        """Holds out a share of the rows at the end, as Keras does.

        Args:
          held_out: the share, from 0 to less than 1.

        Returns:
          The rows to train on and the rows that are held out.
        """
        first = rows_kept(self.rows, held_out)
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
    x, names = x.numpy() if is_strings(x) else x, None
    if isinstance(x, tuple) and not words and len(x) > 1 and len(x) in sizes and _are_texts(x):
        if 1 in sizes:
            raise ValueError(f"{name} is a tuple of {len(x)} strings: give texts as a list, or a pair as ([text], [other])")
        x = tuple([text] for text in x)  # one row
    named = columns_by_name(x, name)
    if named is not None:
        names = _names_among(forms, named, name, type(x).__name__)
        given: tuple = tuple(named[column] for column in names)
    elif isinstance(x, tuple) and not words and x and not _are_texts(x) and (most > 1 or all(map(is_container, x))):
        given = x
    elif not words and _are_rows(x, sizes):
        given = _columns_of_rows(x, name)
    else:
        given = (x,)
    if not any(len(form.names) == len(given) for form in forms):
        expected = " or ".join(f"({', '.join(form.names)})" if len(form.names) > 1 else form.names[0] for form in forms)
        raise WrongColumns(f"{name} should be {expected}, got {'a tuple of ' if len(given) > 1 else ''}{len(given)} columns")
    columns = tuple(_column(column, column_name, words) for column, column_name in zip(given, names or [name] * len(given)))
    if len({len(column) for column in columns}) > 1:
        lengths = " and ".join(str(len(column)) for column in columns)
        raise ValueError(f"both texts of a pair are needed: got columns of {lengths}")
    return columns


def is_strings(x: Any) -> bool:
    """Returns whether `x` is a tensor of strings whose values are in memory."""
    return is_tensor(x) and not isinstance(x, tf.RaggedTensor) and x.dtype == tf.string and not is_symbolic(x)


def _names_among(forms: tuple[Columns, ...], named: dict[str, Any], name: str, kind: str) -> tuple[str, ...]:
    """Returns the names of the form that `named` columns have. Raises a ValueError for a column that the task does not read."""
    for form in sorted(forms, key=lambda form: -len(form.names)):
        if set(form.names) <= set(named):
            others = [str(column) for column in named if column not in form.names]
            if others:
                raise ValueError(
                    f"{name}, a {kind}, has {', '.join(others)} beside {', '.join(form.names)}, which the task does not read: "
                    "give it the columns that it reads alone, and targets and weights by themselves"
                )
            return form.names
    expected, got = " or ".join(", ".join(form.names) for form in forms), ", ".join(map(str, named)) or "no columns"
    raise ValueError(
        f"{name}, a {kind}, should have {expected} (or token_ids, if it is packed), got {got}; "
        f"one column alone is {name}[{next(iter(named), 'name')!r}]"
    )


def is_container(value: Any) -> bool:
    """Returns whether a value holds others, rather than being a text, a number or an array without an axis."""
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def _are_texts(values: Iterable) -> bool:
    """Returns whether all values are texts, so that a tuple of them is a column rather than columns."""
    return all(isinstance(value, (str, bytes)) for value in values)


def _are_rows(x: Any, sizes: set[int]) -> bool:
    """Returns whether a list or an array holds rows, each a tuple, list or array of as many texts as a form has columns."""
    if isinstance(x, np.ndarray) and x.ndim != 1:
        return x.ndim == 2 and x.shape[1] in sizes
    if not isinstance(x, (list, np.ndarray)) or not len(x) or not isinstance(x[0], (tuple, list, np.ndarray)):
        return False
    return getattr(x[0], "ndim", 1) == 1 and len(x[0]) in sizes and _are_texts(x[0])


def _columns_of_rows(x: Any, name: str) -> tuple:
    """Returns the columns of rows. Raises a ValueError if a row has another number of texts than the first."""
    for place, row in enumerate(x):
        if not isinstance(row, (tuple, list, np.ndarray)) or len(row) != len(x[0]):
            raise ValueError(f"{name}[{place}] is {row!r:.80}, but {name}[0] has {len(x[0])} texts; each row needs as many")
    return tuple(zip(*x))


def _column(column: Any, name: str, words: bool) -> list:
    """Returns one column as a list of texts, or of lists of words where the task takes them."""
    if isinstance(column, tf.RaggedTensor):
        column = column.to_list() if words else column
    elif is_strings(column):
        column = column.numpy()
    elif hasattr(column, "to_pylist"):  # of pyarrow
        column = column.to_pylist()
    if isinstance(column, np.ndarray) and column.ndim == 2 and (column.shape[1] == 1 or not words):
        if column.shape[1] != 1:
            raise ValueError(f"{name} should be a column of texts, got an array of shape {column.shape}")
        column = column[:, 0]
    if words and are_words(column):
        for place, row in enumerate(column):
            if isinstance(row, (str, bytes)):
                raise TypeError(f"{name}[0] is a list of words and {name}[{place}] a text, {row!r:.80}: give all in one form")
        return [text_list(row, f"{name}[{place}]") for place, row in enumerate(column)]
    return text_list(column, name)


def are_words(x: Any) -> bool:
    """Returns whether the rows are lists of words rather than texts."""
    if isinstance(x, (str, bytes, dict)) or not hasattr(x, "__len__") or getattr(x, "ndim", 1) == 0:
        return False
    first = next(iter(x), None)
    return isinstance(first, (list, tuple, np.ndarray)) and getattr(first, "ndim", 1) > 0


def rows_kept(count: int, held_out: float) -> int:
    """Returns how many of `count` rows are trained on when a share at their end is held out."""
    first = math.floor(count * (1 - share("validation_split", held_out)))
    if first == 0:
        raise ValueError(f"validation_split={held_out} of {count} texts leaves nothing to train on")
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
