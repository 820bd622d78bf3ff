"""Checks and looks up the names of labels that files give as numbers."""

from __future__ import annotations

from collections.abc import Sequence


def check_names(names: Sequence[str]) -> None:
    """Raises a ValueError for names by which a value in a file could mean two labels.

    >>> check_names(["1", "2"])
    Traceback (most recent call last):
    ...
    ValueError: the name '1' of --names (names=) is the number of another label, since numbers count from 0; give names that \
are not numbers, such as 'label 1'

    Args:
      names: the names, in the order of their numbers, which count from 0.
    """
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"the name {name!r} stands twice in --names (names=); each label needs a name of its own")
        if name.isdecimal() and int(name) != place:
            raise ValueError(
                f"the name {name!r} of --names (names=) is the number of another label, since numbers count from 0; give names "
                f"that are not numbers, such as {f'label {name}'!r}"
            )


def label_of(value: str, names: Sequence[str]) -> str | None:
    """Returns the label that a value means, by its name or by its number; None if it is neither.

    >>> label_of("1", ["bad", "good"]), label_of("good", ["bad", "good"]), label_of("2", ["bad", "good"])
    ('good', 'good', None)

    Args:
      value: a value of a file.
      names: the names of the labels, in the order of their numbers, which count from 0.
    """
    if value in names:
        return value
    return names[int(value)] if value.isdecimal() and int(value) < len(names) else None
