"""Products in int8 with ranges that were found beforehand, on texts: `quantize="int8-static"` of LiteRT files.

With plain ranges a fine-tuned MiniLM gives another label for 5 % of the texts. Some columns of a feed-forward layer's vectors
are a hundred times as large as the others, so that one scale for all columns rounds the others to nothing. Therefore each
column is divided by its range before the product, and the range is multiplied into the weights (Xiao et al. 2022, SmoothQuant,
equation 4, with alpha 0.8; 0 to 1 in steps of 0.1 were tried). The columns of the weights are brought to one range in the same
way, which is multiplied into the result. With both, the model gives the same labels as before.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.training import keras_internals

if TYPE_CHECKING:
    from kbert.tasks.task import Task

ALPHA = 0.8
TEXTS_AT_ONCE = 32
SMALLEST = 1e-5  # of a range, so that a column of zeros can be divided by it

Range = tuple[np.ndarray, np.ndarray]  # the least and the greatest value in each column


class Ranges(NamedTuple):
    """The ranges of a layer's inputs and outputs."""

    inputs: Range | None
    outputs: Range | None

    def with_more(self, inputs: np.ndarray, outputs: np.ndarray) -> Ranges:
        """Returns the ranges, widened by further rows of inputs and outputs."""
        return Ranges(widened(self.inputs, inputs), widened(self.outputs, outputs))


def widened(range_: Range | None, values: np.ndarray) -> Range:
    """Returns a range, or None for the first one, widened by rows of values `[R, columns]`."""
    low, high = values.min(0), values.max(0)
    return (low, high) if range_ is None else (np.minimum(range_[0], low), np.maximum(range_[1], high))


def check_calibration(task: Task, texts: Any) -> None:
    """Raises a ValueError, before any work, if there are no texts or the task's products can have no ranges from them."""
    if texts is None or not len(texts):
        raise ValueError(
            'quantize="int8-static" finds its ranges on texts like those that the file will read: '
            "give some hundred as texts=[...]"
        )
    task.check_static_ranges()
    if task.preprocessor is None:
        raise ValueError('quantize="int8-static" reads texts: build the task with a TextPreprocessor')


def copy_of(task: Task) -> Task:
    """Returns a copy of a task. Its layers may compute in int8 for a while, which those of a task in use may not."""
    copy = type(task).from_config(task.get_config())
    copy.set_weights(task.get_weights())
    return copy


def ranges_of(task: Task, texts: Any, max_length: int | None = None) -> dict[int, Ranges]:
    """Runs texts through a task to find the ranges of its products.

    Args:
      task: the task.
      texts: a list of texts, or a tuple of two columns.
      max_length: the most positions of a text; the task's own by default.

    Returns:
      The ranges of each `Projection`, by the `id` of the layer.
    """
    columns = task.text_columns(texts)
    preprocessor = task.preprocessor.with_length(max_length)
    ranges: dict[int, Ranges] = {}

    def record(layer: Projection, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        products = Projection.product(rows, kernel, bias)
        ranges[id(layer)] = ranges.get(id(layer), Ranges(None, None)).with_more(rows.numpy(), products.numpy())
        return products

    with _replaced({layer: {"product": functools.partial(record, layer)} for layer in projections_of(task)}):
        for start in range(0, len(columns[0]), TEXTS_AT_ONCE):
            task(preprocessor(tuple(column[start : start + TEXTS_AT_ONCE] for column in columns)), training=False)
    return ranges


def projections_of(task: Task) -> list[Projection]:
    """Returns the layers of a task that multiply by weights."""
    return [layer for layer in keras_internals.all_layers(task) if isinstance(layer, Projection)]


@contextlib.contextmanager
def in_int8(task: Task, ranges: dict[int, Ranges]) -> Iterator[None]:
    """Gives the task fake-quantized products while the context lasts. The converter makes int8 products of them.

    Args:
      task: the task, whose layers are traced inside the context.
      ranges: what `ranges_of` found.
    """
    replaced: dict[Any, dict[str, Callable[..., Any]]] = {
        layer: {"product": functools.partial(_product, ranges[id(layer)])}
        for layer in projections_of(task)
        if id(layer) in ranges
    }
    replaced[task.encoder.embeddings] = {"look_up": _look_up, "segment_rows": _segment_rows}
    with _replaced(replaced):
        yield


@contextlib.contextmanager
def _replaced(attributes: dict[Any, dict[str, Callable[..., Any]]]) -> Iterator[None]:
    """Gives layers other functions as attributes while the context lasts: a dictionary from a layer to functions by name."""
    for layer, functions in attributes.items():
        for name, function in functions.items():
            keras_internals.hide(layer, name, function)
    try:
        yield
    finally:
        for layer, functions in attributes.items():
            for name in functions:
                delattr(layer, name)


def _product(ranges: Ranges, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `x W + b` as `((x / s) (s W / t) + b / t) t` with the product in int8.

    `s` has a number for each column of `x`, `t` one for each column of the weights.

    Args:
      ranges: the ranges of `x` and of `x W + b`.
      rows: `x`, `[R, in]`.
      kernel: `W`, `[in, out]`.
      bias: `b`, `[out]`.
    """
    with tf.init_scope():
        kernel, bias = np.asarray(kernel), np.asarray(bias)
    in_range = np.maximum(np.abs(ranges.inputs).max(0), SMALLEST)
    s = in_range**ALPHA / np.maximum(np.abs(kernel).max(1), SMALLEST) ** (1 - ALPHA)
    kernel = kernel * s[:, None]
    t = np.maximum(np.abs(kernel).max(0), SMALLEST)
    rows = _fake(rows * _constant(1 / s), np.array(ranges.inputs) / s)
    kernel = _symmetric(kernel / t)
    products = tf.nn.bias_add(tf.matmul(rows, kernel), _constant(bias / t))
    return _fake(products, np.array(ranges.outputs) / t) * _constant(t)


def _look_up(table: tf.Tensor, ids: tf.Tensor, config: Any) -> tf.Tensor:
    """Returns the rows of an embedding table in int8; it stands in the place of the embeddings' function of this name."""
    return tf.gather(_symmetric(table), ids)


def _segment_rows(table: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
    """Returns the rows of the segments' table by choices: a product with a one-hot becomes a look-up without an int8 kernel."""
    table = tf.convert_to_tensor(table)
    rows = table[0]
    for kind in range(1, table.shape[0]):
        rows = tf.where((segment_ids == kind)[:, None], table[kind], rows)
    return rows


def _constant(values: np.ndarray) -> tf.Tensor:
    """Returns values as a float32 constant."""
    return tf.constant(np.asarray(values, np.float32))


def _fake(values: tf.Tensor, ranges: np.ndarray) -> tf.Tensor:
    """Returns values rounded to the 256 steps of their range, which includes 0."""
    return tf.quantization.fake_quant_with_min_max_args(
        values, min=min(0.0, float(ranges.min())), max=max(SMALLEST, float(ranges.max())), num_bits=8
    )


def _symmetric(values: tf.Tensor) -> tf.Tensor:
    """Returns weights rounded to -127 ... 127 steps of their scale."""
    with tf.init_scope():
        values = np.asarray(values, np.float32)
    most = float(np.abs(values).max())
    return tf.quantization.fake_quant_with_min_max_args(_constant(values), min=-most, max=most, num_bits=8, narrow_range=True)
