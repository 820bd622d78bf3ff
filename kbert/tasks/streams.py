"""Streams of rows: what one element of a generator, a `PyDataset` or a `tf.data.Dataset` is, and chunks of many."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.tasks.columns import Chunk, Columns, are_words, joined_chunks, plain_chunk

# Whether the rows of a stream have targets beside the inputs: they do, they may, they must not, or nobody reads them.
Targets = Literal["required", "optional", "none", "ignored"]


def elements_of(x: Any) -> tuple[Callable[[], Iterator], int | None]:
    """Returns a function that begins a stream anew, and the number of its elements if it is known."""
    if isinstance(x, tf.data.Dataset):
        count = int(x.cardinality())
        return lambda: map(_off_tensors, x), count if count >= 0 else None
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches is None:
            raise ValueError("a PyDataset without a length never ends: give it __len__")

        def batches() -> Iterator:
            yield from (x[number] for number in range(x.num_batches))
            x.on_epoch_end()

        return batches, x.num_batches
    return lambda: x, None


def _off_tensors(element: Any) -> Any:
    """Returns an element of a dataset with NumPy arrays in place of tensors, and lists in place of ragged tensors."""
    return tf.nest.map_structure(
        lambda value: value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy(), element
    )


def has_even_batches(x: Any) -> bool:
    """Returns whether a dataset was made by `batch` and not changed since, so that one batch at most is smaller than others."""
    while type(x).__name__ in ("_PrefetchDataset", "_OptionsDataset", "_ShuffleDataset", "_CacheDataset"):
        (x,) = x._inputs()
    return type(x).__name__ in ("_BatchDataset", "_ParallelBatchDataset")


def inputs_and_targets(forms: tuple[Columns, ...], element: Any, targets: Targets) -> tuple[Any, Any, Any]:
    """Returns the inputs, the targets and the weights of a stream's element; None for what it does not have.

    Keras's order decides: `(inputs, targets, weights)`, where the inputs of a pair are a tuple or a dictionary. Without
    targets a flat tuple of texts is the columns of a pair.
    """
    sizes = {len(form.names) for form in forms}
    if not isinstance(element, tuple):
        return element, None, None
    if isinstance(element[0], (tuple, dict)):
        return (*element, None, None)[:3]
    if targets != "required" and len(element) in sizes - {1} and all(_holds_texts(part) for part in element):
        return element, None, None
    if targets == "none" and len(element) > 1:
        raise ValueError(
            f"this task learns from texts alone, got a stream of {len(element)} values a row: give the texts alone"
        )
    if len(element) > 3:
        raise ValueError(f"a row of a stream is (inputs, targets) or (inputs, targets, weights), got {len(element)} values")
    return (*element, None, None)[:3]


def first_column(x: Any) -> Any:
    if isinstance(x, dict):
        return next(iter(x.values()))
    return x[0] if isinstance(x, tuple) else x


def _holds_texts(value: Any) -> bool:
    """Returns whether a value is a text, or a container whose first item is one."""
    while not isinstance(value, (str, bytes)):
        if not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0 or not len(value):
            return isinstance(getattr(value, "dtype", None), np.dtype) and value.dtype.kind in "SUO"
        value = value[0] if not hasattr(value, "iloc") else value.iloc[0]
    return True


def is_row(forms: tuple[Columns, ...], element: tuple[Any, Any, Any], once: bool) -> bool:
    """Returns whether a stream's `(inputs, targets, weights)` are one row, rather than a batch of rows.

    `forms` are the sets of columns that the task reads, and `once` says whether the stream is an iterator.
    A list of strings is a batch of texts, or one sentence of words. It is a sentence if it has a label for each word; without
    labels, if it comes from an iterator, whose elements are rows.
    """
    x, y, _ = element
    column = first_column(x)
    sizes = {len(form.names) for form in forms}
    if once and isinstance(x, list) and len(x) in sizes - {1} and all(isinstance(text, (str, bytes)) for text in x):
        raise ValueError(f"a list of {len(x)} texts could be a batch or a pair: give pairs as tuples, and batches as arrays")
    if isinstance(column, (str, bytes)) or getattr(column, "ndim", 1) == 0:
        return True
    if not any(form.words for form in forms) or not hasattr(column, "__len__") or are_words(column):
        return False
    if y is not None:
        return hasattr(y, "__len__") and not isinstance(y, (str, bytes)) and len(y) == len(column) and not are_words(y)
    return once


def chunks_of_stream(
    forms: tuple[Columns, ...], elements: Callable[[], Iterator], targets: Targets, batched: bool, kind: str, size: int
) -> Iterator[Chunk]:
    """Yields a stream in chunks of `size` rows; the last one may have fewer.

    Args:
      forms: the sets of columns that the task reads.
      elements: opens the stream at its start.
      targets: whether the elements hold targets; see `inputs_and_targets`.
      batched: whether an element is a batch of rows, rather than one row.
      kind: what the stream is, for errors.
      size: rows of a chunk.
    """
    waiting: list[Chunk] = []
    source, first = elements(), 0
    while True:
        try:
            if batched:
                element = next(source, None)
                chunk = None if element is None else plain_chunk(forms, *inputs_and_targets(forms, element, targets))
            else:
                rows = [inputs_and_targets(forms, element, targets) for element in itertools.islice(source, size)]
                chunk = _chunk_of_rows(forms, rows) if rows else None
        except (TypeError, ValueError) as error:
            kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
            raise kind_of_error(f"{error} (counted from row {first} of the {kind})") from None
        if chunk is not None:
            waiting.append(chunk)
            first += chunk.rows
        held = sum(part.rows for part in waiting)
        if waiting and (held >= size or chunk is None):
            whole = joined_chunks(waiting)
            waiting = []
            while whole.rows >= size:
                yield whole.part(slice(0, size))
                whole = whole.part(slice(size, None))
            if whole.rows:
                waiting = [whole]
        if chunk is None:
            if waiting:
                yield waiting[0]
            return


def _chunk_of_rows(forms: tuple[Columns, ...], rows: list[tuple[Any, Any, Any]]) -> Chunk:
    """Returns the chunk of single rows, each `(inputs, targets, weights)`."""
    inputs, targets, weights = zip(*rows)
    x: Any = list(inputs)
    if isinstance(inputs[0], dict):
        x = {name: [row[name] for row in inputs] for name in inputs[0]}
    elif isinstance(inputs[0], tuple):
        x = tuple(list(column) for column in zip(*inputs))
    else:
        x = [value.item() if getattr(value, "ndim", 1) == 0 and hasattr(value, "item") else value for value in inputs]
    return plain_chunk(
        forms, x, None if targets[0] is None else list(targets), None if weights[0] is None else list(map(float, weights))
    )
