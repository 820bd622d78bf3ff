"""The one door for a task's inputs: whatever container holds them, they leave it as chunks of plain columns.

A list, an array, a table or a tuple of columns is one chunk. A generator, a `PyDataset` or a `tf.data.Dataset` is many, of some
thousand rows each, whatever its own batches are. Behind the door there is one path.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kbert.tasks.columns import PAIR, TEXT, Chunk, Columns, plain_chunk
from kbert.tasks.streams import (
    Targets,
    chunks_of_stream,
    elements_of,
    first_column,
    has_even_batches,
    is_row,
    parts_of,
)
from kbert.text.texts import is_tensor

CHUNK = 16384  # rows of a stream that are held, and sorted by length, together


class Texts:
    """Texts that came through the door, as chunks of rows. Iterating reads them from the start.

    Args:
      read: a function of the rows of a chunk that gives an iterator of `Chunk`s.
      kind: the container's name, for messages.
      rows: the number of rows, or None if the container does not say.
      batch_size: the rows of the container's own batches, or None if it has none.
      own_batches: the number of the container's own batches, or None.
      even: whether all of its batches but one have as many rows.
      has_targets: whether the rows have targets.
      once: whether the rows can be read only once, as those of a generator.
      in_memory: whether all rows are one chunk.
    """

    def __init__(
        self,
        read: Callable[[int], Iterator[Chunk]],
        kind: str,
        rows: int | None = None,
        batch_size: int | None = None,
        own_batches: int | None = None,
        even: bool = False,
        has_targets: bool = False,
        once: bool = False,
        in_memory: bool = False,
    ) -> None:
        self.read, self.kind, self.rows, self.batch_size, self.own_batches = read, kind, rows, batch_size, own_batches
        self.even, self.has_targets, self.once, self.in_memory = even, has_targets, once, in_memory

    def __iter__(self) -> Iterator[Chunk]:
        return self.read(CHUNK)

    @property
    def chunk(self) -> Chunk:
        """The one chunk of texts in memory."""
        (chunk,) = self.read(CHUNK)
        return chunk

    def batches(self, batch_size: int) -> int | None:
        """Returns how many batches of `batch_size` rows there are, or None if the container does not say.

        A container that says the number of its own batches is read once for it, if they may differ in size.
        """
        if self.even and self.batch_size == batch_size:
            return self.own_batches
        if self.rows is None and self.own_batches is not None:
            self.rows = sum(chunk.rows for chunk in self)
        return None if self.rows is None else -(-self.rows // batch_size)


def open_input(
    forms: tuple[Columns, ...], x: Any, y: Any = None, sample_weight: Any = None, *, targets: Targets = "ignored"
) -> Texts:
    """Decides what a container of texts is, checks it, and returns it as `Texts`.

    >>> open_input((TEXT,), ["good", "bad"], [1, 0]).chunk
    Chunk(columns=([b'good', b'bad'],), targets=[1, 0], weights=None)

    Args:
      forms: the forms that the task takes.
      x: the container. The columns of a pair are a tuple, or a dictionary or a table by the names of the columns.
      y: the targets of texts in memory.
      sample_weight: a weight for each text in memory.
      targets: whether the rows of a stream are `(inputs, targets)` or `(inputs, targets, weights)` (`"required"`, `"optional"`,
        `"ignored"`), or the inputs alone (`"none"`).

    Raises:
      TypeError: something is not a text, or no container of texts.
      ValueError: columns of different sizes; targets or weights beside a stream, whose rows hold them.
    """
    if not is_stream(x):
        chunk = plain_chunk(forms, x, y, sample_weight)
        return Texts(lambda size: iter([chunk]), type(x).__name__, rows=chunk.rows, has_targets=y is not None, in_memory=True)
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"{name} is given beside a {type(x).__name__}, whose rows are to hold it: (inputs, targets) or "
                "(inputs, targets, weights)"
            )
    return _open_stream(forms, x, targets)


def is_stream(x: Any) -> bool:
    """Returns whether rows come one after the other, rather than all at once."""
    if isinstance(x, tf.distribute.DistributedDataset):
        raise TypeError("a dataset that is distributed already cannot be read row by row: give the dataset itself")
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)) or hasattr(x, "__next__"):
        return True
    return hasattr(x, "__iter__") and not hasattr(x, "__len__") and not is_tensor(x)


def is_packed(x: Any, has_preprocessor: bool = True) -> bool:
    """Returns whether `x` is packed dictionaries rather than texts. A task with `has_preprocessor=False` reads nothing else."""
    if x is None:
        return True
    if isinstance(x, tf.data.Dataset):
        first = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
        return not has_preprocessor or (isinstance(first, dict) and "token_ids" in first)
    if isinstance(x, dict):
        return not has_preprocessor or "token_ids" in x
    return isinstance(x, keras.utils.PyDataset) and not has_preprocessor


def texts_in_list(x: Any) -> list:
    """Returns single texts as a list of strings, whatever container holds them.

    A stream is read to its end.
    """
    if isinstance(x, (list, tuple)) and all(isinstance(text, str) for text in x):
        return list(x)
    return [text.decode("utf-8") for chunk in open_input((TEXT,), x) for text in chunk.columns[0]]


def text_chunks(x: Any, forms: tuple[Columns, ...] = (TEXT, PAIR)) -> Iterator[tuple[list, ...]]:
    """Yields the columns of an input without targets, at most `CHUNK` rows at a time where it is a stream.

    `x` is one of the forms of `open_input`, and `forms` are the sets of columns that it may have.

    >>> [columns for columns in text_chunks(text for text in ["a", "b"])]
    [([b'a', b'b'],)]
    """
    for chunk in open_input(forms, x):
        yield chunk.columns


def _has_ragged_rows(x: Any) -> bool:
    """Returns whether a dataset's elements are rows of a ragged tensor, and not a batch of them."""
    if not isinstance(x, tf.data.Dataset):
        return False
    spec = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
    return isinstance(spec, tf.RaggedTensorSpec) and spec.ragged_rank == 0


def _has_batches_of_batches(x: tf.data.Dataset) -> bool:
    """Returns whether an element holds texts with a second axis of unknown size. Such texts are batches, and no pairs."""
    spec = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
    shapes = [part.shape for part in tf.nest.flatten(spec) if isinstance(part, tf.TensorSpec) and part.dtype == tf.string]
    return any(shape.rank is not None and shape.rank > 1 and shape[-1] is None for shape in shapes)


def _open_stream(forms: tuple[Columns, ...], x: Any, targets: Targets) -> Texts:
    """Returns a stream as `Texts`; its first element is read to learn whether elements are rows or batches."""
    elements, count = elements_of(x)
    once, kind = hasattr(x, "__next__"), type(x).__name__
    is_dataset, ragged = isinstance(x, tf.data.Dataset), _has_ragged_rows(x)
    of_rows = ragged or not (is_dataset or isinstance(x, keras.utils.PyDataset))  # see `is_row`
    if once:
        began = list(itertools.islice(x, 1))
        x = itertools.chain(began, x)
        elements = functools.partial(iter, x)
    else:
        began = list(itertools.islice(elements(), 1))
    if not began:
        return Texts(lambda size: iter([]), kind, rows=0, once=once)
    try:
        row = parts_of(forms, began[0], targets)
        if is_dataset and not any(form.words for form in forms) and _has_batches_of_batches(x):
            raise ValueError("an element holds batches of texts, as if the dataset was batched twice: call unbatch() on it")
        if ragged and not any(form.words for form in forms):
            raise ValueError(f"the rows are lists of texts, {began[0]!r:.80}: join each to one text")
        size = None if is_row(forms, row, of_rows, is_dataset) else len(first_column(row.inputs))
    except (TypeError, ValueError) as error:
        kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
        raise kind_of_error(f"{error} (the first element of the {kind})") from None
    read = functools.partial(chunks_of_stream, forms, elements, targets, size is not None, kind)
    return Texts(
        read,
        kind,
        rows=count if size is None else None,
        batch_size=size or None,
        own_batches=None if size is None else count,
        even=has_even_batches(x),
        has_targets=row.has_targets,
        once=once,
    )
