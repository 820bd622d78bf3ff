"""Measures how many of a task's labels a file with int8 weights keeps, and how well its numbers follow the task's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kbert.tasks.exported_answers import ComparableAnswer

AGREEMENT = 0.95  # the least share of labels that stay
LEAST_CORRELATION = 0.9  # between a file's numbers and the task's; int8 weights alone leave 0.97 and more
MOST_GIVEN = 200  # the most given texts that are compared, for a file answers them one by one
SMALL_CHANGE = 0.02  # the norm of the changes over that of the numbers; below it a correlation measures rounding


class Agreement(NamedTuple):
    """The result of comparing a file's answers with its task's."""

    share: float  # the share of labels, entities, spans or tokens that stay; 1 if the answers are numbers alone
    differing: list[int]  # the indices of the texts with a label that does not stay
    largest: float  # the largest change of a number
    correlation: float  # between the numbers, each less its mean over the texts; 1 if the changes are small


def agreement_of(expected: Sequence[ComparableAnswer], served: Sequence[ComparableAnswer]) -> Agreement:
    """Compares a file's answers with the task's.

    Args:
      expected: the task's answers, one for each text.
      served: the file's answers, one for each text.

    Raises:
      RuntimeError: there are not as many answers as texts, or a number of the file is NaN or infinite.
    """
    if len(expected) != len(served):
        raise RuntimeError(f"{len(expected)} texts have {len(served)} answers")
    same = in_all = 0
    differing = []
    for place, (ours, other) in enumerate(zip(expected, served)):
        if not np.isfinite(other.near).all():
            raise RuntimeError(f"the answer to text {place} holds numbers that are NaN or infinite")
        kept, most = len(set(ours.decided) & set(other.decided)), max(len(ours.decided), len(other.decided))
        same, in_all = same + kept, in_all + most
        if kept < most:
            differing.append(place)
    near = [(ours.near, other.near) for ours, other in zip(expected, served) if ours.near.shape == other.near.shape]
    largest = max((float(np.abs(a - b).max(initial=0)) for a, b in near), default=0.0)
    return Agreement(same / in_all if in_all else 1.0, differing, largest, correlation_of(near))


def correlation_of(near: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the correlation between two sides of pairs of arrays. Each number is taken less its mean over the pairs.

    Args:
      near: the task's numbers and the file's, a pair for each text. If their shapes differ from text to text, all numbers are
        taken less their one mean.

    Returns:
      Between -1 and 1; 1 if the numbers are nearly equal, 0 if they are not and one side does not vary.
    """
    if len({ours.shape for ours, _ in near}) == 1 and len(near) > 1:
        ours, other = (np.stack([pair[side].ravel() for pair in near]).astype(np.float64) for side in (0, 1))
    else:
        ours, other = (np.concatenate([np.zeros(0), *(pair[side].ravel() for pair in near)])[:, None] for side in (0, 1))
    if len(ours) < 2 or np.linalg.norm(ours - other) <= SMALL_CHANGE * np.linalg.norm(ours):
        return 1.0
    ours, other = ours - ours.mean(0), other - other.mean(0)
    norms = np.linalg.norm(ours) * np.linalg.norm(other)
    return float((ours * other).sum() / norms) if norms else 0.0


def check_agreement(agreement: float | None, quantize: str | None) -> float:
    """Returns the least share of labels that a file has to keep.

    Args:
      agreement: the share that the user gave; None for the default, 95 %.
      quantize: the quantization of the file; only int8 changes labels.

    Raises:
      ValueError: `agreement` is no number from 0 to 1, or the file is not quantized to int8.
    """
    if agreement is None:
        return AGREEMENT
    if quantize not in ("int8", "int8-static"):
        raise ValueError(f"agreement is for int8 files, whose labels may change; with quantize={quantize!r} leave it out")
    if isinstance(agreement, bool) or not isinstance(agreement, (int, float)) or not 0 <= agreement <= 1:
        raise ValueError(f"agreement should be a share between 0 and 1, such as 0.95, got {agreement!r}")
    return float(agreement)


def with_given(probes: tuple[list[str], ...], given: tuple[list, ...]) -> tuple[list[str], ...]:
    """Returns columns of probes, each followed by the first 200 texts of a given column.

    Args:
      probes: the columns of built-in texts.
      given: columns of texts as UTF-8 bytes.

    Raises:
      ValueError: the given texts have another number of columns.
    """
    if len(probes) != len(given):
        raise ValueError(f"texts should be {len(probes)} columns, as the file takes them, got {len(given)}")
    decoded = [[text.decode("utf-8", "replace") for text in column[:MOST_GIVEN]] for column in given]
    return tuple([*column, *more] for column, more in zip(probes, decoded, strict=True))


def refusal(agreement: Agreement, least: float, texts: int) -> str | None:
    """Returns why a file is refused; None if it keeps enough of the task's answers.

    Args:
      agreement: the result of the comparison.
      least: the least share of labels that has to stay; with 0 nothing is refused.
      texts: the number of texts that were compared.
    """
    changes = f"the largest change of a number is {agreement.largest:.2g}"
    # One of 17 texts is more than 5 %, and one may change. Of less than 10 texts none may.
    bound = np.floor(least * texts) / texts if texts >= 10 else least
    if least and agreement.share < bound:
        return f"keeps {agreement.share:.1%} of the task's labels on {texts} texts, less than {least:.1%}; {changes}"
    if least and agreement.correlation < LEAST_CORRELATION:
        return (
            f"does not follow the task's numbers: their correlation on {texts} texts is {agreement.correlation:.2f}, less than "
            f"{LEAST_CORRELATION}; {changes}; was it made from other weights?"
        )
    return None
