"""Names of classes, and targets given by name or index."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kbert.messages import listed, shown
from kbert.tasks.targets import in_order_of, plain_value
from kbert.training.losses import NO_LABEL


def check_labels(labels: Iterable[str] | None, fewest: int = 2) -> list[str]:
    """Returns the names of the classes as a list.

    >>> check_labels(("ham", "spam"))
    ['ham', 'spam']

    Args:
      labels: the names in the order of their indices. Or a dictionary from indices to names, or from names to indices. Or
        `range(n)`; its numbers become names.
      fewest: the least number of classes.

    Raises:
      TypeError: `labels` is no list, or something in it is no name.
      ValueError: there are too few names, a name stands twice, or a dictionary does not number the names from 0.
    """
    if isinstance(labels, (set, frozenset)):
        raise TypeError(
            f"labels is a {type(labels).__name__}, which has another order in each process: give a list, sorted(labels)"
        )
    if isinstance(labels, Mapping):
        labels = _names_by_index(labels)
    if labels is None or isinstance(labels, (str, bytes)) or not hasattr(labels, "__iter__") or getattr(labels, "ndim", 1) != 1:
        raise TypeError(f'labels should be a list of names such as ["ham", "spam"], got {labels!r}')
    names: list[Any] = [plain_value(label) for label in labels]
    if all(isinstance(label, (int, np.integer)) for label in names) and names == list(range(len(names))):
        names = [str(label) for label in names]
    wrong = [label for label in names if not isinstance(label, str) or not label]
    if wrong:
        raise TypeError(f"labels should be names, got {shown(wrong[0])}")
    if len(set(names)) != len(names):
        twice = next(label for label in names if names.count(label) > 1)
        raise ValueError(f"labels should differ, got {shown(twice)} twice")
    if len(names) < fewest:
        raise ValueError(f"at least {('one label is', 'two labels are')[fewest - 1]} needed, got {listed(names)}")
    return names


def _names_by_index(labels: Mapping) -> list[Any]:
    """Returns the names of a dictionary from indices to names (`id2label`) or from names to indices (`label2id`), in order."""

    def index(value: Any) -> int | None:
        value = plain_value(value)
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        return None if isinstance(value, bool) or not isinstance(value, int) else value

    for by_index in (dict(labels), {index: name for name, index in labels.items()}):
        places = {index(key): name for key, name in by_index.items()}
        names = [places[place] for place in range(len(places)) if place in places]
        if len(names) == len(labels) and all(isinstance(name, str) for name in names):
            return names
    raise ValueError(f"labels should number the names from 0 to {len(labels) - 1}, by index or by name, got {labels!r:.200}")


def label_index(labels: list[str], label: Any, where: str) -> int:
    """Returns the index of a label that is given by its name or its index.

    >>> label_index(["ham", "spam"], "spam", "y[0]"), label_index(["ham", "spam"], 1.0, "y[0]")
    (1, 1)
    >>> label_index(["1", "2", "3", "4", "5"], 5, "y[0]")
    4

    If all names are numerals, for example stars from "1" to "5", a number is a name. Names that are the indices in another
    order, or that are numerals in part, could be read in both ways. A number that has two readings is refused then.

    Args:
      labels: the names of the classes.
      label: a name, or a whole number.
      where: what to call the label in an error.
    """
    if isinstance(label, str):
        if label not in labels:
            raise ValueError(f"{where} is {shown(label)}, which is not one of the labels {listed(labels)}")
        return labels.index(label)
    if isinstance(label, (bool, int, np.bool_, np.integer)) or (isinstance(label, float) and label.is_integer()):
        number = int(label)
        if str(number) in labels and labels.index(str(number)) != number:
            if not are_numerals(labels) and 0 <= number < len(labels):
                raise ValueError(
                    f"{where} is {number}, which may be the label {str(number)!r} or the label at index {number}, "
                    f"{labels[number]!r}: give labels as strings, by name"
                )
            return labels.index(str(number))
        if are_numerals(labels) and str(number) not in labels:
            raise ValueError(f"{where} is {number}, which is not one of the labels {listed(labels)}; a number is a name here")
        if not 0 <= number < len(labels):
            raise ValueError(f"{where} is {number}, but the {len(labels)} labels have indices 0 to {len(labels) - 1}")
        return number
    raise TypeError(f"{where} is {shown(label)} ({type(label).__name__}); a label is its name or its index")


def are_numerals(labels: Sequence[str]) -> bool:
    """Returns whether a number given for a label is its name: all names are numerals, and not the indices themselves.

    >>> are_numerals(["1", "2", "3"]), are_numerals(["0", "1"]), are_numerals(["1", "0"]), are_numerals(["1", "ham"])
    (True, False, False, False)

    Args:
      labels: the names of the classes.
    """
    return _are_numerals(tuple(labels))


@functools.lru_cache(maxsize=8)
def _are_numerals(labels: tuple[str, ...]) -> bool:
    indices = {str(index) for index in range(len(labels))}
    return set(labels) != indices and all(re.fullmatch(r"-?(0|[1-9]\d*)", label, re.ASCII) for label in labels)


def is_no_label(label: Any) -> bool:
    """Returns whether a target is -100, which stands for no label, as in torch and transformers."""
    return isinstance(label, (int, float)) and label == NO_LABEL


def names_of(labels: list[str], given: list, where: str) -> list[str]:
    """Returns the names of labels that are given by their names or indices.

    Args:
      labels: the names of the classes.
      given: names or indices.
      where: what to call them in an error.
    """
    return [labels[label_index(labels, label, f"{where}[{n}]")] for n, label in enumerate(given)]


def class_of(labels: list[str], label: Any, where: str) -> int:
    """Returns the index of a text's label: a name, an index, one of them in a list, or a one-hot row; -100 for no label.

    >>> [class_of(["ham", "spam"], label, "y[0]") for label in ("spam", 1, [1], [0.0, 1.0], {"spam": 1, "ham": 0}, -100)]
    [1, 1, 1, 1, 1, -100]

    Args:
      labels: the names of the classes.
      label: the label of one text.
      where: what to call the label in an error.
    """
    label = in_order_of(labels, label, where)
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if is_no_label(label):
        return NO_LABEL
    if isinstance(label, list) and len(label) == len(labels) and sorted(label) == [0] * (len(labels) - 1) + [1]:
        return label.index(1)
    return label_index(labels, label, where)


def label_keys(labels: list[str]) -> dict[str, dict]:
    """Returns the keys of config.json that name the classes."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def check_same_labels(teacher: Any, student: Any) -> None:
    """Raises a ValueError if `teacher` and `student` both have `labels`, and not the same ones."""
    of_teacher, of_student = teacher.labels, student.labels
    if of_teacher != of_student:
        only = [
            [label for label in one if label not in other]
            for one, other in ((of_teacher, of_student), (of_student, of_teacher))
        ]
        difference = (
            f"only the teacher has {listed(only[0])}, only the student {listed(only[1])}"
            if any(only)
            else f"the same labels in another order: {listed(of_teacher)} and {listed(of_student)}"
        )
        raise ValueError(f"teacher and student have different labels: {difference}")
