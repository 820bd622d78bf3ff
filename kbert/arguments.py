"""Checks arguments before any work starts. Each error says which value was given and which values are expected."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from kbert.messages import shown

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Returns `value` as an int.

    >>> whole_number("batch_size", 32)
    32

    Args:
      name: the argument's name, for the error.
      value: what was given.
      least: the smallest number that is taken.
      most: the largest number that is taken, or None for no limit.

    Raises:
      ValueError: the value is not a whole number (a bool or a float is none), or is out of the range.
    """
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        expected = "a positive whole number" if (least, most) == (1, None) else f"a whole number of at least {least}"
        if most is not None:
            expected = f"a whole number from {least} to {most}"
        raise ValueError(f"{name} should be {expected}, got {value!r}")
    return operator.index(value)


def whole_numbers(least: int = 1, **given: Any) -> None:
    """Raises a ValueError if an argument is neither None nor a whole number of at least `least`.

    Args:
      least: the smallest number that is taken.
      **given: the values of the arguments, by the arguments' names.
    """
    for name, value in given.items():
        if value is not None:
            whole_number(name, value, least)


def number(name: str, value: Any, least: float = -math.inf, above: float | None = None, below: float | None = None) -> float:
    """Returns `value` as a float.

    >>> number("temperature", 2, above=0)
    2.0

    Args:
      name: the argument's name, for the error.
      value: what was given.
      least: the smallest number that is taken.
      above: a number that the value has to exceed, or None.
      below: a number that the value must not reach, or None.

    Raises:
      ValueError: the value is not a finite number (a bool is none), or is out of the range.
    """
    if (
        not _is_number(value)
        or not math.isfinite(value)
        or value < least
        or (above is not None and not value > above)
        or (below is not None and not value < below)
    ):
        bounds = [f"at least {least:g}"] if least > -math.inf else []
        bounds += [] if above is None else [f"above {above:g}"]
        bounds += [] if below is None else [f"below {below:g}"]
        raise ValueError(f"{name} should be a finite number{' ' * bool(bounds)}{' and '.join(bounds)}, got {value!r}")
    return float(value)


def share(name: str, value: Any) -> float:
    """Returns a number from 0 to less than 1 as a float.

    Args:
      name: the argument's name, for the error.
      value: what was given.

    Raises:
      ValueError: the value is not such a number.
    """
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} should be a share in [0, 1), got {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def yes_or_no(**given: Any) -> None:
    """Raises a ValueError if an argument is neither True nor False.

    Args:
      **given: the values of the arguments, by the arguments' names.
    """
    for name, value in given.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} should be True or False, got {value!r}")


def plain_name(name: str, value: Any) -> str:
    """Returns a name that paths, URLs and configuration files can have as it stands.

    >>> plain_name("name", "spam-2.0")
    'spam-2.0'

    Args:
      name: the name of the argument, for the error.
      value: the value of the argument.

    Raises:
      ValueError: the value is no string, or has other characters than ASCII letters, digits, '-', '_' and '.'.
    """
    if not isinstance(value, str) or not PLAIN.fullmatch(value):
        raise ValueError(
            f"{name} should be of letters from a to z, digits, '-', '_' and '.', begin with a letter or a digit, and have at "
            f"most 100 characters, got {shown(value)}"
        )
    return value


def check_verbose(value: Any) -> None:
    """Raises a ValueError if a value is not one that Keras takes as `verbose`: "auto", 0, 1, 2, True or False."""
    if not (isinstance(value, str) and value == "auto") and not (isinstance(value, (int, np.integer)) and 0 <= value <= 2):
        raise ValueError(f'verbose should be "auto", 0, 1 or 2, got {value!r}')


def known_only(call: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises a TypeError for the name of an argument that a function does not have.

    Args:
      call: the name of the function, for the error.
      given: the names of the arguments that were passed.
      known: the names of the arguments that the function has beside its named ones.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"{call} takes no argument {', '.join(unknown)}; it takes {', '.join(sorted(known))} beside its own")
