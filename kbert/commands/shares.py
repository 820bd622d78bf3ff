"""Draws shares of the examples of a file by label, and lets errors name the rows of the file."""

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
PLACE = re.compile(r"\b(?:x|y|texts|sample_weight)\[(\d+)\](?:\[(\d+)\])?")  # the name of a row, or of a word in it, in errors


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
        """Returns the name of an example, or of a word in it, for a message.

        Args:
          place: the index of the example in this part.
          word: the index of the word, as digits; None for the whole example.
        """
        of = "" if word is None else f"word {int(word) + 1} of "
        return f"{of}{self._kind()} {self.rows[place] + 1} of {self.path}"

    def _kind(self) -> str:
        """Returns the noun for an example of the file."""
        suffix = suffix_of(self.path)
        if isinstance(self.x, list) and self.x and isinstance(self.x[0], list) and suffix not in OF_LISTS:
            return "sentence"  # of a BIO file, whatever its suffix is
        if suffix == ".json" and isinstance(self.x, tuple):
            return "question"
        return "line" if suffix == ".txt" else "row"

    def at(self, places: Sequence[int]) -> Part:
        """Returns a part that holds the examples at some indices."""
        return Part(*rows(self.x, self.y, places), self.path, [self.rows[place] for place in places])

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Changes the errors of the block: the index of an example in a message becomes the row of the file."""
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
    """Returns the texts and targets at some indices.

    Args:
      x: texts, or a tuple of columns.
      y: their targets, or None.
      places: the indices.
    """
    places = list(places)

    def chosen(column: Sequence[Any]) -> list[Any]:
        return [column[place] for place in places]

    return tuple(map(chosen, x)) if isinstance(x, tuple) else chosen(x), None if y is None else chosen(y)


def labels_of(target: Any) -> tuple[str, ...]:
    """Returns the labels that a target holds. A number, an answer and None hold no label.

    Args:
      target: a label, a list of labels or of tags, a number, a list of answers, or None.
    """
    values = target if isinstance(target, (list, tuple)) else (target,)
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str)))


def drawn(y: Sequence[Any] | None, size: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Draws a share of indices in which each label has its part. The last remaining row of a label is not drawn.

    Args:
      y: the targets, or None. Of a target with several labels the rarest one counts.
      size: the number of indices.
      share: the share that is held out.
      seed: a number from which the order is drawn.

    Returns:
      The remaining indices and the held-out indices, both in random order.
    """
    order = np.random.default_rng(seed).permutation(size).tolist()
    labels = [() if y is None else labels_of(y[place]) for place in range(size)]
    left = Counter(label for several in labels for label in several)  # rows that are not held out
    groups: dict[str | None, list[int]] = {}
    for place in order:
        groups.setdefault(min(labels[place], key=lambda label: (left[label], label), default=None), []).append(place)
    exact = {label: share * len(places) for label, places in groups.items()}
    counts = {label: int(part) for label, part in exact.items()}
    # The rows that are left over from rounding down go to the labels that lost most by it.
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
      seed: a number from which the order is drawn.
      flag: the option that states the share, for the error.

    Returns:
      The remaining examples and the held-out examples.

    Raises:
      ValueError: one of the two would be empty.
    """
    rest, first = split(Part(x, y, "", range(count(x))), held_out, seed, flag)
    return (rest.x, rest.y), (first.x, first.y)


def split(part: Part, share: float, seed: int, flag: str) -> tuple[Part, Part]:
    """Holds out a random share of a part, drawn by label; see `drawn`.

    Args:
      part: the examples.
      share: the share that is held out, between 0 and 1.
      seed: a number from which the order is drawn.
      flag: the option that states the share, for the error.

    Returns:
      The part that remains, and the part that is held out.

    Raises:
      ValueError: one of the two would be empty.
    """
    rest, first = drawn(part.y, len(part), share, seed)
    if not rest or not first:
        purpose = "watch" if flag == "--validation" else "measure by"
        raise ValueError(
            f"{flag} {share} of {len(part)} examples leaves {len(rest)} to train on, {len(first)} to {purpose} (a label's only "
            "example is one to train on); give a larger file, or another share"
        )
    return part.at(rest), part.at(first)
