"""Names of classes, and targets given by name or index."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_labels(labels, fewest=2):
    """The names of the classes as a list, `fewest` or more and all different."""
    if labels is None or isinstance(labels, (str, bytes, int)):
        raise TypeError(f'labels should be a list of names such as ["ham", "spam"], got {labels!r}')
    labels = list(labels)
    if all(isinstance(label, (int, np.integer)) for label in labels) and labels == list(range(len(labels))):
        labels = [str(label) for label in labels]
    wrong = [label for label in labels if not isinstance(label, str) or not label]
    if wrong:
        raise TypeError(f"labels should be names, got {wrong[0]!r}")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"labels should differ, got {twice!r} twice")
    if len(labels) < fewest:
        raise ValueError(f"at least {('one label is', 'two labels are')[fewest - 1]} needed, got {labels}")
    return labels


def label_index(labels, label, where):
    """The index of a label that is given by its name or its index; `where` is for the error."""
    if isinstance(label, bytes):
        label = label.decode("utf-8")
    if isinstance(label, str):
        if label not in labels:
            raise ValueError(f"{where} is {label!r}, which is not one of the labels {labels}")
        return labels.index(label)
    if isinstance(label, (bool, np.bool_, int, np.integer)) or (hasattr(label, "dtype") and label.dtype.is_integer):
        if not 0 <= int(label) < len(labels):
            raise ValueError(f"{where} is {int(label)}, but the {len(labels)} labels have indices 0 to {len(labels) - 1}")
        return int(label)
    raise TypeError(f"{where} is {label!r} ({type(label).__name__}); a label is its name or its index")


def label_keys(labels):
    """The keys of config.json that name the classes."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def check_same_labels(teacher: Any, student: Any) -> None:
    """Raises ValueError if two tasks with `labels` have different ones."""
    if teacher.labels != student.labels:
        raise ValueError(f"teacher and student have different labels: {teacher.labels} and {student.labels}")
