"""Values in which a task tells exports how it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class ComparableAnswer(NamedTuple):
    """The answer to one text, in a form in which a file's answer can be compared with the task's."""

    exact: tuple  # what has to be equal: labels, texts, places
    near: np.ndarray  # what may differ by rounding: probabilities, coordinates
    decided: tuple = ()  # the labels, entities, spans or tokens of the answer, which int8 weights seldom change


class OnnxAnswer(NamedTuple):
    """How the logits in an ONNX file that takes text become an answer."""

    operator: str  # the ONNX operator that turns logits `[1, N]` into the output
    output: str  # the name of the output
    size: int  # N
    labels: Sequence[str] | None  # with names, a further output `label` is that of the largest logit


class MediaPipeOutput(NamedTuple):
    """What MediaPipe's metadata say about a task."""

    kind: str  # the name of MediaPipe's task
    output: str  # the one output of `serve_tokens` that MediaPipe reads
    name: str  # the name that MediaPipe has for the output
    labels: Sequence[str] | None  # the names along the output's last axis


def rows_with_count(row: tf.Tensor, rows: tf.Tensor, columns: Mapping[str, tuple[tf.Tensor, Any]]) -> dict[str, tf.Tensor]:
    """Returns outputs whose first axis is the texts, for values of which a text has any number, in ops of a graph.

    Servers join requests at the first axis and split the answers there, so every output needs that axis.

    Args:
      row: the text of each value, int32 `[E]`, ascending.
      rows: the number of texts `B`, a scalar.
      columns: for each output its values `[E, ...]`, and the value that fills a row up behind a text's last value.

    Returns:
      `count` int32 `[B]`, and each output `[B, most values of a text, ...]`.
    """
    count = tf.math.bincount(row, minlength=rows, maxlength=rows)
    splits = tf.concat([[0], tf.cumsum(count)], 0)
    outputs = {"count": count}
    for name, (values, filler) in columns.items():
        ragged = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
        outputs[name] = ragged.to_tensor(tf.constant(filler, values.dtype))
    return outputs


def values_by_text(outputs: Mapping[str, np.ndarray], name: str, axes: int = 1) -> list[np.ndarray]:
    """Returns the values of each text, from an output in which a text has any number of values.

    Args:
      outputs: arrays by name. `count` says how many values each text has; fillers stand behind them. A LiteRT file answers
        one text, and its outputs have no axis for the texts.
      name: the name of the output.
      axes: the number of axes of one text's values.
    """
    values = outputs[name] if outputs[name].ndim > axes else outputs[name][None]
    return [row[:count] for row, count in zip(values, outputs["count"].tolist())]
