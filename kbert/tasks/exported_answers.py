"""Values in which a task tells exports how it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class ComparableAnswer(NamedTuple):
    """The answer to one text, in a form in which a file's answer can be compared with the task's."""

    exact: tuple  # what has to be equal: labels, texts, places
    near: np.ndarray  # what may differ by rounding: probabilities, coordinates


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


def slices_by_text(outputs: Mapping[str, np.ndarray]) -> list[slice]:
    """Returns where each text's values stand in outputs that have any number of values for a text.

    Args:
      outputs: arrays by name. A SavedModel has the values of all texts one after the other, and `row_splits`. A LiteRT file has
        those of one text, and `count`; zeros follow them.
    """
    splits = outputs["row_splits"] if "row_splits" in outputs else [0, int(outputs["count"][0])]
    return [slice(first, beyond) for first, beyond in zip(splits, splits[1:])]
