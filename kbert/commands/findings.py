"""Notes on a data file and on the result of a training, as sentences for the terminal and the report."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping

from kbert.commands.jobs import Job
from kbert.commands.shares import Part, labels_of
from kbert.messages import MOST_NAMED, listed
from kbert.scoring.figures import Figures

MOST_COMPARED = 100  # with more labels, spellings are not compared: nobody typed so many names
ALIKE = 0.75  # the ratio of `difflib` for a word of four letters with two of them swapped


def of_data(job: Job, part: Part) -> list[str]:
    """Returns notes on the examples of a file: empty texts, labels with one example, labels that look mistyped.

    Args:
      job: the job of the command.
      part: the examples.
    """
    return [*_empty_texts(part), *(_odd_labels(part) if job.has_named_labels else [])]


def of_result(job: Job, figures: Figures, test: Part) -> list[str]:
    """Returns a note if the task is right no more often than a task that always gives the most frequent label.

    Args:
      job: the job of the command.
      figures: the figures of the trained task.
      test: the examples that the figures were measured on.
    """
    if not job.has_named_labels or "accuracy" not in figures.scores:
        return []
    (label, count), accuracy = Counter(test.y).most_common(1)[0], figures.scores["accuracy"]
    if accuracy > count / len(test):
        return []
    return [
        f"the task is right for {accuracy:.1%} of what it is measured by; always answering {label!r} would be for "
        f"{count / len(test):.1%}. Train for more --epochs, with another --learning-rate, or on more examples"
    ]


def _empty_texts(part: Part) -> list[str]:
    """Returns a note on the empty texts, if there are any."""
    columns = part.x if isinstance(part.x, tuple) else (part.x,)
    empty = [place for place in range(len(part)) if any(not _has_text(column[place]) for column in columns)]
    if not empty:
        return []
    numbers = ", ".join(str(part.rows[place] + 1) for place in empty[:MOST_NAMED])
    more = f" and {len(empty) - MOST_NAMED:,} more" if len(empty) > MOST_NAMED else ""
    return [f"{len(empty):,} of {len(part):,} examples of {part.path} have an empty text: number {numbers}{more}"]


def _has_text(value: object) -> bool:
    """Returns whether a text holds more than white space, or a list of words holds a word."""
    return bool(value.strip() if isinstance(value, str) else value)


def _odd_labels(part: Part) -> list[str]:
    """Returns notes on labels with one example, and on labels that are written almost like another label."""
    first: dict[str, int] = {}
    for place, target in enumerate(part.y):
        for label in labels_of(target):
            first.setdefault(label, place)
    counts = Counter(label for target in part.y for label in labels_of(target))
    said = []
    single = sorted(label for label, count in counts.items() if count == 1)
    if single:
        said.append(f"one example only of {listed(single)}: it is one to train on, so that such labels are not measured")
    most_frequent_first = sorted(counts, key=lambda label: (-counts[label], label))
    written: dict[str, str] = {}  # by the plain form of a label, the most frequent label that has it
    for label in most_frequent_first:
        other: str | None = written.setdefault(_plain(label), label)
        if other == label:
            others = written if counts[label] == 1 and len(counts) <= MOST_COMPARED else {}
            other = _mistyped(label, others)
        if other is not None:
            said.append(
                f"the label {label!r} ({part.where(first[label])}, {counts[label]} in all) is written almost like {other!r} "
                f"({counts[other]} in all): is it the same?"
            )
    return said[: MOST_NAMED + 1]


def _plain(label: str) -> str:
    """Returns a label in lower case with single spaces."""
    return " ".join(label.casefold().split())


def _mistyped(label: str, others: Mapping[str, str]) -> str | None:
    """Returns the label that somebody probably meant to type in place of a label, or None.

    Numbers in names, as in `class_1` and `class_2`, tell labels apart.

    Args:
      label: the label.
      others: labels by their plain forms.
    """
    digits = re.findall(r"\d+", label)
    near = [form for form in others if form != _plain(label) and re.findall(r"\d+", form) == digits]
    matches = difflib.get_close_matches(_plain(label), near, n=1, cutoff=ALIKE)
    return others[matches[0]] if matches else None
