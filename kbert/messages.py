"""Shortens long lists and values in messages, and marks texts of kbert's own, which are not reported to a user."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import Any

MOST_NAMED = 10  # entries of a list in a message
LONGEST = 100  # characters of an entry

_reads_own_texts: contextvars.ContextVar[bool] = contextvars.ContextVar("reads_own_texts", default=False)


def listed(values: Iterable[Any]) -> str:
    """Returns a list of values for a message: the first ten, and how many more there are.

    >>> listed(["ham", "spam"])
    "['ham', 'spam']"
    >>> listed(range(100))
    '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 90 more]'

    Args:
      values: for example the names of all labels.
    """
    values = list(values)
    more = [f"and {len(values) - MOST_NAMED:,} more"] if len(values) > MOST_NAMED else []
    return f"[{', '.join([*map(shown, values[:MOST_NAMED]), *more])}]"


def shown(value: Any) -> str:
    """Returns a value as a message quotes it: one that is too long to read is cut.

    >>> shown("ham")
    "'ham'"
    >>> len(shown("ham" * 1000))
    104

    Args:
      value: any value; its `repr` is quoted.
    """
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


@contextlib.contextmanager
def own_texts() -> Iterator[None]:
    """Marks the texts that this thread reads in the block as kbert's own. No warning is given about such texts."""
    token = _reads_own_texts.set(True)
    try:
        yield
    finally:
        _reads_own_texts.reset(token)


def reads_own_texts() -> bool:
    """Returns whether the texts that are read now are kbert's own."""
    return _reads_own_texts.get()
