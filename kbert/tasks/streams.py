"""Streams of rows: what one element of a generator, a `PyDataset` or a `tf.data.Dataset` is, and chunks of many."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from kbert.tasks.columns import Chunk, Columns, are_words, is_container, is_strings, joined_chunks, plain_chunk
from kbert.tasks.named_columns import columns_by_name
from kbert.tasks.targets import plain_value

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
    return lambda: iter(x), None


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


class Element(NamedTuple):
    """The parts of one element of a stream, which is a row or a batch of rows."""

    inputs: Any
    targets: Any = None
    weights: Any = None
    has_targets: bool = False  # whether the element has targets; they may be None, as for a question without an answer


def parts_of(forms: tuple[Columns, ...], element: Any, targets: Targets) -> Element:
    """Returns the inputs, the targets and the weights of a stream's element.

    Keras's order decides: `(inputs, targets, weights)`, where the inputs of a pair are a tuple or a dictionary. Without
    targets a flat tuple of texts is the columns of a pair.

    Args:
      forms: the sets of columns that the task reads.
      element: the stream's element.
      targets: whether the element holds targets, see `Targets`.
    """
    sizes = {len(form.names) for form in forms}
    if isinstance(element, list) and len(element) in (2, 3) and _holds_text(element[0]) and not _holds_text(element[1]):
        raise ValueError(
            f"an element of the stream is a list of texts and targets: give a tuple, (inputs, targets), got {element!r:.80}"
        )
    if not isinstance(element, tuple):
        return Element(element)
    if not element or _is_number(element[0]):
        raise TypeError(
            "an element of a stream is inputs, (inputs, targets) or (inputs, targets, weights), and inputs are texts; "
            f"got {element!r:.120}"
        )
    if not isinstance(element[0], (tuple, dict)):
        texts = all(isinstance(part, (str, bytes)) for part in element)
        if targets != "required" and texts and len(element) > 1 and any(form.words for form in forms):
            raise ValueError(f"{len(element)} strings in a tuple could be words, or a text and its label: give words as lists")
        if targets != "required" and len(element) in sizes - {1} and all(map(_holds_text, element)):
            return Element(element)
        if 1 not in sizes and len(element) > 1 and isinstance(element[0], (str, bytes)):
            names = " or ".join(f"({', '.join(form.names)})" for form in forms)
            raise ValueError(f"the texts of a row are a tuple of their own, ({names}, target); got {element!r:.120}")
        if targets == "none" and len(element) > 1:
            raise ValueError(
                f"this task learns from texts alone, got a stream of {len(element)} values a row: give the texts alone"
            )
    if len(element) > 3:
        raise ValueError(f"a row of a stream is (inputs, targets) or (inputs, targets, weights), got {len(element)} values")
    given = len(element) > 1 and not (element[1] is None and targets != "required")
    inputs, y, weights = (*element, None, None)[:3]
    return Element(inputs, y, weights, given)


def first_column(x: Any) -> Any:
    """Returns the first column of a batch, or the first text of a row."""
    named = None if isinstance(x, (list, tuple)) else columns_by_name(x, "x")
    if named is not None:
        return next(iter(named.values()), [])
    return x[0] if isinstance(x, tuple) else x


def _first_item(value: Any) -> Any:
    """Returns a scalar, the first scalar that a container holds, or an empty string for an empty container."""
    while True:
        value = value.numpy() if is_strings(value) else value
        if hasattr(value, "columns"):  # a table
            value = value[value.columns[0]] if len(value.columns) else []
        if not is_container(value):
            return value.item() if hasattr(value, "item") else value
        if not len(value):
            return ""
        value = value[0] if not hasattr(value, "iloc") else value.iloc[0]


def _holds_text(value: Any) -> bool:
    """Returns whether a value is a text, or a container whose first item is one."""
    return isinstance(_first_item(value), (str, bytes))


def _is_number(value: Any) -> bool:
    """Returns whether a value is a number, or a container whose first item is one. NaN, a missing text, is no number."""
    item = None if isinstance(value, (tuple, dict)) else _first_item(value)
    return isinstance(item, (int, float)) and item == item


def is_row(forms: tuple[Columns, ...], element: Element, of_rows: bool, structured: bool = False) -> bool:
    """Returns whether a stream's element is one row, rather than a batch of rows.

    A list of strings is a batch of texts, or one sentence of words. It is a sentence if it has a label for each word. Without
    labels, `of_rows` decides.

    Args:
      forms: the sets of columns that the task reads.
      element: the first element.
      of_rows: whether an element that could be either is a row. That is so for iterators, and for datasets of ragged rows.
      structured: whether the stream is a dataset. There a tuple is never a batch.
    """
    x, y = element.inputs, element.targets
    column = first_column(x)
    sizes = {len(form.names) for form in forms}
    if of_rows and isinstance(x, list) and len(x) in sizes - {1} and all(isinstance(text, (str, bytes)) for text in x):
        raise ValueError(f"a list of {len(x)} texts could be a batch or a pair: give pairs as tuples, and batches as arrays")
    if not is_container(column):
        sizes_match = isinstance(x, tuple) and not structured and is_container(y) and len(y) == len(x) > 1
        if sizes_match and not any(form.words for form in forms) and not isinstance(y, dict):
            raise ValueError(
                f"a tuple of {len(x)} texts with {len(y)} targets could be a batch or a pair: give batches as lists or arrays, "
                "and the target of a pair as a name or a number"
            )
        return True
    if element.has_targets and not is_container(y) and y is not None:
        return True  # one target
    if not any(form.words for form in forms) or not hasattr(column, "__len__") or are_words(column):
        return False
    if element.has_targets:
        return is_container(y) and len(y) == len(column) and not are_words(y)
    return of_rows


def chunks_of_stream(
    forms: tuple[Columns, ...], elements: Callable[[], Iterator], targets: Targets, batched: bool, kind: str, size: int
) -> Iterator[Chunk]:
    """Yields a stream in chunks of `size` rows; the last one may have fewer.

    Args:
      forms: the sets of columns that the task reads.
      elements: opens the stream at its start.
      targets: whether the elements hold targets; see `parts_of`.
      batched: whether an element is a batch of rows, rather than one row.
      kind: what the stream is, for errors.
      size: rows of a chunk.
    """
    waiting: list[Chunk] = []
    source, first = elements(), 0
    while True:
        try:
            if batched:
                batch = [parts_of(forms, element, targets) for element in itertools.islice(source, 1)]
                chunk = plain_chunk(forms, *batch[0][:3]) if batch else None
            else:
                rows = [parts_of(forms, element, targets) for element in itertools.islice(source, size)]
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


def _chunk_of_rows(forms: tuple[Columns, ...], rows: list[Element]) -> Chunk:
    """Returns the chunk of single rows."""
    for place, row in enumerate(rows):
        if row.has_targets != rows[0].has_targets or (row.weights is None) != (rows[0].weights is None):
            raise ValueError(
                f"row {place} has {_described(row)}, but the first row has {_described(rows[0])}: give all rows the same parts"
            )
        if isinstance(row.inputs, tuple) != isinstance(rows[0].inputs, tuple):
            raise ValueError(
                f"row {place} is {row.inputs!r:.80}, but the first row is {rows[0].inputs!r:.80}: give all in one form"
            )
    x: Any = [row.inputs for row in rows]
    if isinstance(x[0], tuple):
        if len({len(row) for row in x}) > 1:
            raise ValueError(f"rows have {' and '.join(map(str, sorted({len(row) for row in x})))} texts: give all as many")
        x = tuple(list(column) for column in zip(*x))
    targets = [row.targets for row in rows] if rows[0].has_targets else None
    weights = None if rows[0].weights is None else [plain_value(row.weights) for row in rows]
    return plain_chunk(forms, x, targets, weights)


def _described(row: Element) -> str:
    """Returns what a row has beside its inputs, for an error."""
    parts = ["a target"] * row.has_targets + ["a weight"] * (row.weights is not None)
    return " and ".join(parts) or "neither target nor weight"
