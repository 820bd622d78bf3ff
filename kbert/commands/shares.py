"""Examples of a user's file: shares of them, drawn by label, and errors that name the file's own rows."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kbert.commands.tables import OF_LISTS
from kbert.files.text_file import suffix_of

Examples = tuple[Any, Any]  # texts, or a tuple of two columns, and their targets, None for a job without any
PLACE = re.compile(r"\b(?:x|y|texts|sample_weight)\[(\d+)\](?:\[(\d+)\])?")  # how the library names a row, and a word of it


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples of a file.

    Args:
      x: texts, or a tuple of columns.
      y: their targets, or None.
      path: the file.
      rows: the number of each example in the file, from 0.
    """

    x: Any
    y: Any
    path: str
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, place: int, word: str | None = None) -> str:
        """Returns what a message calls the example at a place, or the word at a place of it."""
        of = "" if word is None else f"word {int(word) + 1} of "
        return f"{of}{self._kind()} {self.rows[place] + 1} of {self.path}"

    def _kind(self) -> str:
        """Returns what an example of the file is called."""
        suffix = suffix_of(self.path)
        if isinstance(self.x, list) and self.x and isinstance(self.x[0], list) and suffix not in OF_LISTS:
            return "sentence"  # of a BIO file, whatever its name ends in
        if suffix == ".json" and isinstance(self.x, tuple):
            return "question"
        return "line" if suffix == ".txt" else "row"

    def at(self, places: Sequence[int]) -> Part:
        """Returns the examples at some places."""
        return Part(*rows(self.x, self.y, places), self.path, [self.rows[place] for place in places])

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Lets an error of the block that names a place among these examples name the row of the file."""
        try:
            yield
        except (ValueError, TypeError) as error:
            message = PLACE.sub(lambda found: self.where(int(found[1]), found[2]), str(error))
            if message == str(error):
                raise
            raise type(error)(message) from None


def count(x: Any) -> int:
    """Returns the number of texts, or of pairs."""
    return len(x[0] if isinstance(x, tuple) else x)


def rows(x: Any, y: Any, places: Iterable[int]) -> Examples:
    """Returns the examples at some places."""
    places = list(places)

    def chosen(column: Sequence[Any]) -> list[Any]:
        return [column[place] for place in places]

    return tuple(map(chosen, x)) if isinstance(x, tuple) else chosen(x), None if y is None else chosen(y)


def labels_of(target: Any) -> tuple[str, ...]:
    """Returns the labels that a target holds: one, several or those of words; none if it is a number, an answer or nothing."""
    values = target if isinstance(target, (list, tuple)) else (target,)
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str)))


def drawn(y: Sequence[Any] | None, size: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Draws a share of places such that each label has its part in it. A label's last row is not drawn.

    Args:
      y: the targets, or None. Of a target with several labels the rarest one counts.
      size: how many places there are.
      share: the share that is held out.
      seed: of the draw.

    Returns:
      The other places, and those that are held out, both in random order.
    """
    order = np.random.default_rng(seed).permutation(size).tolist()
    labels = [() if y is None else labels_of(y[place]) for place in range(size)]
    left = Counter(label for several in labels for label in several)  # rows that are not held out
    groups: dict[str | None, list[int]] = {}
    for place in order:
        groups.setdefault(min(labels[place], key=lambda label: (left[label], label), default=None), []).append(place)
    exact = {label: share * len(places) for label, places in groups.items()}
    counts = {label: int(part) for label, part in exact.items()}
    # What rounding down leaves goes to the labels that it takes most from.
    neediest = sorted((label for label in groups if len(groups[label]) > 1), key=lambda label: counts[label] - exact[label])
    for label in neediest[: max(0, round(share * size) - sum(counts.values()))]:
        counts[label] += 1
    held_out: set[int] = set()
    for label, places in groups.items():
        for place in places:
            if counts[label] and all(left[each] > 1 for each in labels[place]):
                held_out.add(place)
                left.subtract(labels[place])
                counts[label] -= 1
    return [place for place in order if place not in held_out], [place for place in order if place in held_out]


def shares(x: Any, y: Any, held_out: float, seed: int, flag: str = "--held-out") -> tuple[Examples, Examples]:
    """Holds a random share of the examples out, drawn by label; see `drawn`.

    Args:
      x: texts, or a tuple of columns.
      y: targets, or None.
      held_out: the share, between 0 and 1.
      seed: of the draw.
      flag: the option that states the share, for the error.

    Returns:
      The other examples, and those that are held out.

    Raises:
      ValueError: one of the two would be empty.
    """
    rest, first = split(Part(x, y, "", range(count(x))), held_out, seed, flag)
    return (rest.x, rest.y), (first.x, first.y)


def split(part: Part, share: float, seed: int, flag: str) -> tuple[Part, Part]:
    """Holds a random share of a part out, as `shares` does, and returns the two parts."""
    rest, first = drawn(part.y, len(part), share, seed)
    if not rest or not first:
        purpose = "watch" if flag == "--validation" else "measure by"
        raise ValueError(
            f"{flag} {share} of {len(part)} examples leaves {len(rest)} to train on, {len(first)} to {purpose} (a label's only "
            "example is one to train on); give a larger file, or another share"
        )
    return part.at(rest), part.at(first)
