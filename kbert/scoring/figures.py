"""The figures of a task on labelled data, as plain data: no task, no HTML and no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from kbert.scoring.classes import Confusion


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A text that a task answered wrongly.

    Args:
      text: the text, or the texts of a pair.
      true: the target as it was given, or a list of several.
      answer: what the task answered, or a list of several answers.
      score: the task's confidence in the answer; for a regression the distance from the target. The worst mistake has the largest.
    """

    text: str | tuple[str, ...]
    true: str | float | Sequence[str]
    answer: str | float | Sequence[str]
    score: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a task is worth on labelled data; `task.figures(x, y)` returns one.

    Args:
      scores: a number by its name, the most important first.
      head: the names of the columns of `rows`.
      rows: a table with a row for each label or kind of entity; its first column is the name.
      mistakes: the wrong answers, in the order of the texts.
      confusion: the counts of true labels and answers, for classes.
      points: the true numbers and the answers, both `[B]`, for a regression.
    """

    scores: dict[str, float]
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str | float | int, ...]] = ()
    mistakes: Sequence[Mistake] = ()
    confusion: Confusion | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None
