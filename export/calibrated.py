"""Products in int8 with ranges that were found beforehand, on texts: `quantize="int8-static"` of LiteRT files.

Ranges as they stand lose a fine-tuned MiniLM 5 % of its labels: some columns of a feed-forward layer's vectors are a hundred times as large as the
others, and one scale for all leaves those nothing. So each column is divided by its range before the product, and multiplied into the
weights (Xiao et al. 2022, SmoothQuant, equation 4, with alpha 0.8: 0 to 1 in steps of a tenth were tried), and the columns of the weights
are brought to one range, which comes out of the product again; then all labels are kept.
"""

import contextlib
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.tasks.masked_lm import MaskedLM
from kbert.text.texts import text_list

ALPHA = 0.8
TEXTS_AT_ONCE = 32
SMALLEST = 1e-5  # of a range, so that a column of zeros can be divided by it


class Ranges(NamedTuple):
    """Of a layer's inputs and outputs, the least and the greatest in each column."""

    inputs: tuple
    outputs: tuple

    def with_more(self, inputs, outputs):
        return Ranges(*(widened(old, new) for old, new in zip(self, (inputs, outputs))))


def widened(range_, values):
    low, high = values.min(0), values.max(0)
    return (low, high) if range_ is None else (np.minimum(range_[0], low), np.maximum(range_[1], high))


def check_calibration(task, texts):
    """Says what keeps a task from being calibrated, before any work."""
    if texts is None or not len(texts):
        raise ValueError(
            'quantize="int8-static" finds its ranges on texts like those that the file will read: give some hundred as texts=[...]'
        )
    if isinstance(task, MaskedLM):
        raise ValueError('a MaskedLM multiplies by its whole vocabulary, which has no fixed ranges: use quantize="int8"')
    if task.preprocessor is None:
        raise ValueError('quantize="int8-static" reads texts: build the task with a TextPreprocessor')


def ranges_of(task, texts, max_length=None):
    """Runs texts through a task: the `Ranges` of each `Projection` in it, by its `id`.

    Args:
      texts: a list of texts, or a tuple of two columns.
    """
    columns = [text_list(column, "texts") for column in (texts if isinstance(texts, tuple) else (texts,))]
    task._check_pairs(columns)
    preprocessor = task.preprocessor.with_length(max_length)
    found = {}

    def record(layer, rows, kernel, bias):
        products = Projection.product(rows, kernel, bias)
        found[id(layer)] = found.get(id(layer), Ranges(None, None)).with_more(rows.numpy(), products.numpy())
        return products

    with _replaced({layer: {"product": functools.partial(record, layer)} for layer in projections_of(task)}):
        for start in range(0, len(columns[0]), TEXTS_AT_ONCE):
            task(preprocessor(tuple(column[start : start + TEXTS_AT_ONCE] for column in columns)), training=False)
    return found


def projections_of(task):
    return [layer for layer in task._flatten_layers() if isinstance(layer, Projection)]


@contextlib.contextmanager
def in_int8(task, ranges):
    """Inside, what is traced of the task has fake-quantized products, which the converter makes int8 ones of."""
    replaced = {
        layer: {"product": functools.partial(_product, ranges[id(layer)])}
        for layer in projections_of(task)
        if id(layer) in ranges
    }
    replaced[task.encoder.embeddings] = {"look_up": _look_up, "segment_rows": _segment_rows}
    with _replaced(replaced):
        yield


@contextlib.contextmanager
def _replaced(attributes):
    """Inside, layers have other functions as attributes."""
    for layer, functions in attributes.items():
        for name, function in functions.items():
            layer.__dict__[name] = function
    try:
        yield
    finally:
        for layer, functions in attributes.items():
            for name in functions:
                del layer.__dict__[name]


def _product(ranges, rows, kernel, bias):
    """`x W + b` as `((x / s) (s W / t) + b / t) t`, the product in int8; `s` of each column of `x`, `t` of each column of the weights."""
    with tf.init_scope():
        kernel, bias = np.asarray(kernel), np.asarray(bias)
    in_range = np.maximum(np.abs(ranges.inputs).max(0), SMALLEST)
    s = in_range**ALPHA / np.maximum(np.abs(kernel).max(1), SMALLEST) ** (1 - ALPHA)
    kernel = kernel * s[:, None]
    t = np.maximum(np.abs(kernel).max(0), SMALLEST)
    rows = _fake(rows * constant(1 / s), np.array(ranges.inputs) / s)
    kernel = _symmetric(kernel / t)
    products = tf.nn.bias_add(tf.matmul(rows, kernel), constant(bias / t))
    return _fake(products, np.array(ranges.outputs) / t) * constant(t)


def _look_up(table, ids, config):
    return tf.gather(_symmetric(table), ids)


def _segment_rows(table, segment_ids):
    """By choosing, for a product with a one-hot becomes a look-up that has no int8 kernel."""
    table = tf.convert_to_tensor(table)
    rows = table[0]
    for kind in range(1, table.shape[0]):
        rows = tf.where((segment_ids == kind)[:, None], table[kind], rows)
    return rows


def constant(values):
    return tf.constant(np.asarray(values, np.float32))


def _fake(values, ranges):
    return tf.quantization.fake_quant_with_min_max_args(
        values, min=min(0.0, float(ranges.min())), max=max(SMALLEST, float(ranges.max())), num_bits=8
    )


def _symmetric(values):
    """Weights, rounded to -127 ... 127 of their scale."""
    with tf.init_scope():
        values = np.asarray(values, np.float32)
    most = float(np.abs(values).max())
    return tf.quantization.fake_quant_with_min_max_args(constant(values), min=-most, max=most, num_bits=8, narrow_range=True)
