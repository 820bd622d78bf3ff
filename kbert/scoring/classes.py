"""Accuracy, precision, recall and F1 of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Confusion:
    """The counts of true labels and answers.

    >>> confusion = Confusion.of([0, 0, 1], [0, 1, 1], ["ham", "spam"])
    >>> confusion.counts.tolist()
    [[1, 1], [0, 1]]
    >>> round(confusion.accuracy, 3)
    0.667

    Args:
      labels: the names of the classes.
      counts: int `[labels, labels]`; a row is a true label, a column an answer.
    """

    labels: Sequence[str]
    counts: np.ndarray

    @classmethod
    def of(cls, true: Sequence[int] | np.ndarray, answers: Sequence[int] | np.ndarray, labels: Sequence[str]) -> Confusion:
        """Counts the answers to each true label.

        Args:
          true: the index of each text's label.
          answers: the index of each text's answer.
          labels: the names of the classes, in the order of the indices.
        """
        counts: np.ndarray = np.zeros((len(labels), len(labels)), int)
        np.add.at(counts, (np.asarray(true, int), np.asarray(answers, int)), 1)
        return cls(labels, counts)

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that occur among the true labels or the answers."""
        occurs = self.counts.sum(0) + self.counts.sum(1) > 0
        return float(self.by_class()[2][occurs].mean())

    def by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns precision, recall and F1 of each class, float64 `[labels]`; 0 for a class that does not occur."""
        right, given, answered = np.diag(self.counts), self.counts.sum(1), self.counts.sum(0)
        precision, recall = right / np.maximum(answered, 1), right / np.maximum(given, 1)
        return precision, recall, 2 * right / np.maximum(given + answered, 1)


def f1_by_label(true: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Returns the F1 of each label where a text can have several; 0 for a label that does not occur.

    >>> f1_by_label(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]])).round(3).tolist()
    [0.667, 1.0]

    Args:
      true: 1 where a text has a label, otherwise 0, `[B, labels]`.
      answers: 1 or True where a text was given a label, `[B, labels]`.
    """
    return 2 * (true * answers).sum(0) / np.maximum(true.sum(0) + answers.sum(0), 1)
