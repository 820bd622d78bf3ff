"""What `predict` does beside computing: any kind of input in chunks, answers in the order given, progress when it takes long."""

import itertools
import sys
import time

import keras
import numpy as np
import tensorflow as tf

CHUNK = 16384  # texts of a stream that are sorted by length together; what is held of it at a time
PATIENCE = 3.0  # seconds before progress is shown


def text_chunks(x):
    """Columns of texts, a tuple of one or two, at most `CHUNK` texts long where the input is a stream.

    >>> [columns for columns in text_chunks(text for text in ["a", "b"])]
    [(['a', 'b'],)]

    Args:
      x: a column of texts, or a tuple of two; an iterator of texts or of pairs; a `tf.data.Dataset` of them, batched or not.
    """
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        x = x if spec_rank(spec) == 0 else x.unbatch()
        x = x.as_numpy_iterator()
    if not hasattr(x, "__next__"):
        yield x if isinstance(x, tuple) else (x,)
        return
    while chunk := list(itertools.islice(x, CHUNK)):
        yield tuple(map(list, zip(*chunk))) if isinstance(chunk[0], tuple) else (chunk,)


def spec_rank(spec):
    """The rank of a dataset's texts."""
    return (spec[0] if isinstance(spec, tuple) else spec).shape.rank


def in_order(groups, outputs, positional):
    """The rows of groups, put where they belong; shorter texts have zeros at the positions that they lack.

    Args:
      groups: arrays of row numbers.
      outputs: an array `[rows of the group, ...]` for each.
      positional: whether the second axis is that of positions, as long as the longest text of the group.
    """
    shape = list(outputs[0].shape[1:])
    if positional:
        shape[0] = max(output.shape[1] for output in outputs)
    result = np.zeros((sum(map(len, groups)), *shape), outputs[0].dtype)
    for rows, output in zip(groups, outputs):
        if positional:
            result[rows, : output.shape[1]] = output
        else:
            result[rows] = output
    return result


def joined(parts, positional):
    """The answers of chunks, one after the other: a structure of arrays."""
    if len(parts) == 1:
        return parts[0]

    def join(*arrays):
        ends = np.cumsum([len(array) for array in arrays])
        return in_order([np.arange(end - len(a), end) for a, end in zip(arrays, ends)], arrays, positional)

    return tf.nest.map_structure(join, *parts)


def softmax(logits):
    """Logits to probabilities along the last axis, in NumPy."""
    powers = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(-1, keepdims=True)


class Progress:
    """Keras's progress bar, by number of texts; by default only on a terminal, and once it has taken some seconds."""

    def __init__(self, verbose):
        self.shown = verbose == 1 or (verbose == "auto" and sys.stdout.isatty())
        self.patience = 0 if verbose == 1 else PATIENCE
        self.started, self.bar, self.done = time.monotonic(), None, 0

    def advance(self, count, of):
        self.done += count
        if not self.shown or time.monotonic() - self.started < self.patience:
            return
        if self.bar is None:
            self.bar = keras.utils.Progbar(of)
        self.bar.update(min(self.done, of))
