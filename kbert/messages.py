"""What messages have in common: long lists are cut, and kbert's own texts are not reported as a user's."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import Any

MOST_NAMED = 10  # entries of a list in a message
LONGEST = 100  # characters of an entry

_reads_own_texts: contextvars.ContextVar[bool] = contextvars.ContextVar("reads_own_texts", default=False)


def listed(values: Iterable[Any]) -> str:
    """Returns the first of some values as a message names them, and how many more there are.

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
    """
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


@contextlib.contextmanager
def own_texts() -> Iterator[None]:
    """Marks texts that are read in its block, in this thread, as kbert's own: a user is not told what is odd about them."""
    token = _reads_own_texts.set(True)
    try:
        yield
    finally:
        _reads_own_texts.reset(token)


def reads_own_texts() -> bool:
    """Returns whether the texts that are read now are kbert's own."""
    return _reads_own_texts.get()
