"""Entities in sequences of BIO and BIOES tags, and their precision, recall and F1 as seqeval counts them."""

from __future__ import annotations

import collections
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

BEGINNINGS = ("B-", "I-", "E-", "S-")  # of all tags but O


def entities(tags: Sequence[str], strict: bool = False, bioes: bool | None = None) -> list[tuple[str, int, int]]:
    """Returns the entities of a sequence of tags as `(type, first, beyond)`.

    `first` is the index of an entity's first word, `beyond` that of the word after its last one.

    >>> entities(["B-city", "I-city", "O", "I-food"])
    [('city', 0, 2), ('food', 3, 4)]
    >>> entities(["B-city", "I-city", "O", "I-food"], strict=True)
    [('city', 0, 2)]

    Args:
      tags: `O`, `B-x` and `I-x`, and in the BIOES scheme also `E-x` and `S-x`.
      strict: take an entity only if it is written as its scheme says: it begins with B or S, and in BIOES it ends with E or S.
        By default an I that continues no entity of its type begins one, as in conlleval.
      bioes: whether the scheme is BIOES. By default it is if one of the tags is an E or an S.
    """
    if bioes is None:
        bioes = has_ends([tags])
    complete: list[tuple[str, int, int]] = []
    start: int | None = None
    before = ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        continues = prefix in "IE" and before[0] in ("B", "I") and before[1] == kind and start is not None
        if not continues:
            if start is not None and (not (strict and bioes) or before[0] in ("E", "S")):
                complete.append((before[1], start, place))
            start = place if prefix in "BS" or (prefix in "IE" and not strict) else None
        before = (prefix, kind)
    return complete


def has_ends(sequences: Iterable[Sequence[str]]) -> bool:
    """Returns whether sequences of tags are BIOES rather than BIO: whether there is an E or an S."""
    return any(tag[:2] in ("E-", "S-") for tags in sequences for tag in tags)


def entity_scores(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], strict: bool = False) -> dict[str, Any]:
    """Computes precision, recall and F1 of entities, over all types and for each.

    >>> entity_scores([["B-city", "O"]], [["B-city", "B-city"]])["f1"]
    0.6666666666666666

    Args:
      true: for each text its sequence of tags.
      predicted: for each text the sequence of tags that was predicted, as long as the true one.
      strict: whether an entity must be written as its scheme says; see `entities`.

    Returns:
      A dictionary with `precision`, `recall`, `f1` and `by_type`. The first three are micro averages, 0 if there is no entity.
      `by_type` is a dictionary from a type to its own three and its `support`, the number of its true entities.

    Raises:
      ValueError: a true and a predicted sequence differ in length.
    """
    bioes = has_ends(true) or has_ends(predicted)
    for tags, answers in zip(true, predicted):
        check_lengths(tags, answers)
    expected, answered = ([set(entities(tags, strict, bioes)) for tags in sequences] for sequences in (true, predicted))
    return scores_of_entities(expected, answered)


def check_lengths(tags: Sequence[str], answers: Sequence[str]) -> None:
    """Raises a ValueError if a text has more or fewer predicted tags than tags."""
    if len(tags) != len(answers):
        raise ValueError(f"a sequence of {len(tags)} tags has {len(answers)} predicted ones")


def scores_of_entities(
    expected: Iterable[Collection[tuple[Hashable, ...]]], answered: Iterable[Collection[tuple[Hashable, ...]]]
) -> dict[str, Any]:
    """Computes the scores of `entity_scores` from the entities themselves.

    >>> scores_of_entities([{("city", 0, 8)}], [{("city", 0, 8), ("city", 12, 17)}])["precision"]
    0.5

    Args:
      expected: for each text the set of its entities. An entity is a tuple whose first value is its type.
      answered: for each text the set of the entities that were predicted.
    """
    counts: dict[Any, list[int]] = collections.defaultdict(lambda: [0, 0, 0])  # right, predicted, true
    for true, predicted in zip(expected, answered):
        for position, group in enumerate((set(true) & set(predicted), predicted, true)):
            for kind, *_ in group:
                counts[kind][position] += 1
    total = [sum(column) for column in zip(*counts.values())] or [0, 0, 0]
    by_type = {kind: {**_scores(*counts[kind]), "support": counts[kind][2]} for kind in sorted(counts)}
    return {**_scores(*total), "by_type": by_type}


def _scores(right: int, predicted: int, true: int) -> dict[str, float]:
    """Returns precision, recall and F1 from the numbers of right, of predicted and of true entities."""
    precision, recall = right / predicted if predicted else 0.0, right / true if true else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
    }


def are_tags(labels: Iterable[str]) -> bool:
    """Returns whether all labels are BIO or BIOES tags.

    >>> are_tags(["O", "B-city"]), are_tags(["NOUN"])
    (True, False)
    """
    return all(map(is_tag, labels))


def check_tags(labels: Iterable[str]) -> None:
    """Raises a ValueError for labels that are not BIO or BIOES tags."""
    wrong = [label for label in labels if not is_tag(label)]
    if wrong:
        raise ValueError(
            f"entities are read from BIO or BIOES tags such as B-city, I-city and O; {wrong[0]!r} is none. predict() gives the "
            "labels of words whatever they are called"
        )


def is_tag(text: str) -> bool:
    """Returns whether a text is a BIO or BIOES tag."""
    return text == "O" or (text[:2] in BEGINNINGS and len(text) > 2)
