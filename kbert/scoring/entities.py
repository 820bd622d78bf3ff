"""Entities in sequences of tags, and their precision, recall and F1 as seqeval counts them."""

from __future__ import annotations

import collections
import itertools
import numbers
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from kbert.scoring.tag_schemes import Tag, has_prefixes, read_tags


def entities(
    tags: Sequence[str], strict: bool = False, bioes: bool | None = None, scheme: Mapping[str, Tag] | None = None
) -> list[tuple[str, int, int]]:
    """Returns the entities of a sequence of tags as `(type, first, beyond)`.

    `first` is the index of an entity's first word, `beyond` that of the word after its last one.

    >>> entities(["B-city", "I-city", "O", "I-food"])
    [('city', 0, 2), ('food', 3, 4)]
    >>> entities(["B-city", "I-city", "O", "I-food"], strict=True)
    [('city', 0, 2)]

    Args:
      tags: `O`, `B-x` and `I-x`, in the BIOES scheme also `E-x` and `S-x`, or tags of the other schemes of `read_tags`.
      strict: take an entity only if it is written as its scheme says: it begins with B or S, and in BIOES it ends with E or S.
        By default an I that continues no entity of its type begins one, as in conlleval. Tags that are types
        alone are read alike with and without `strict`.
      bioes: whether the scheme is BIOES. By default it is if one of the tags is an E or an S.
      scheme: the meaning of each tag, from `read_tags`. By default it is read from the tags of this sequence.
    """
    scheme = scheme or read_tags(tags)
    if bioes is None:
        bioes = any(scheme[tag].prefix in "ES" for tag in tags)
    strict = strict and has_prefixes(scheme)
    complete: list[tuple[str, int, int]] = []
    start: int | None = None
    before = ("O", "")
    for place, (prefix, kind) in enumerate([*(scheme[tag] for tag in tags), Tag("O", "")]):
        continues = prefix in "IE" and before[0] in ("B", "I") and before[1] == kind and start is not None
        if not continues:
            if start is not None and (not (strict and bioes) or before[0] in ("E", "S")):
                complete.append((before[1], start, place))
            start = place if prefix in "BS" or (prefix in "IE" and not strict) else None
        before = (prefix, kind)
    return complete


def has_ends(sequences: Iterable[Sequence[str]]) -> bool:
    """Returns whether sequences of tags are BIOES, BILOU or BMES rather than BIO: whether a tag marks an end or a single word.

    Args:
      sequences: sequences of tags, whose tags are read together.
    """
    return any(tag.prefix in "ES" for tag in read_tags(tag for tags in sequences for tag in tags).values())


def entity_scores(
    true: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    strict: bool = False,
    weights: Iterable[float] | None = None,
) -> dict[str, Any]:
    """Computes precision, recall and F1 of entities, over all types and for each.

    >>> entity_scores([["B-city", "O"]], [["B-city", "B-city"]])["f1"]
    0.6666666666666666

    Args:
      true: for each text its sequence of tags.
      predicted: for each text the sequence of tags that was predicted, as long as the true one.
      strict: whether an entity must be written as its scheme says; see `entities`.
      weights: how often each text counts; by default once.

    Returns:
      A dictionary with `precision`, `recall`, `f1` and `by_type`. The first three are micro averages, 0 if there is no entity.
      `by_type` is a dictionary from a type to its own three and its `support`, the number of its true entities.

    Raises:
      ValueError: a true and a predicted sequence differ in length.
    """
    for tags, answers in zip(true, predicted):
        check_lengths(tags, answers)
    scheme = read_tags(tag for tags in (*true, *predicted) for tag in tags)
    bioes = any(tag.prefix in "ES" for tag in scheme.values())
    expected, answered = ([set(entities(tags, strict, bioes, scheme)) for tags in sequences] for sequences in (true, predicted))
    return scores_of_entities(expected, answered, weights)


def check_lengths(tags: Sequence[str | None], answers: Sequence[str]) -> None:
    """Raises a ValueError if a text has more or fewer predicted tags than tags.

    Args:
      tags: the tags of the text.
      answers: the predicted tags.
    """
    if len(tags) != len(answers):
        raise ValueError(f"a sequence of {len(tags)} tags has {len(answers)} predicted ones")


def scores_of_entities(
    expected: Iterable[Collection[tuple[Hashable, ...]]],
    answered: Iterable[Collection[tuple[Hashable, ...]]],
    weights: Iterable[float] | None = None,
) -> dict[str, Any]:
    """Computes the scores of `entity_scores` from the entities themselves.

    >>> scores_of_entities([{("city", 0, 8)}], [{("city", 0, 8), ("city", 12, 17)}])["precision"]
    0.5

    Args:
      expected: for each text the set of its entities. An entity is a tuple whose first value is its type.
      answered: for each text the set of the entities that were predicted.
      weights: how often each text counts; by default once.
    """
    counts: dict[Any, list[float]] = collections.defaultdict(lambda: [0, 0, 0])  # right, predicted, true
    of_text = itertools.repeat(1) if weights is None else map(float, weights)
    for true, predicted, weight in zip(expected, answered, of_text):
        for position, group in enumerate((set(true) & set(predicted), predicted, true)):
            for kind, *_ in group:
                counts[kind][position] += weight
    total = [sum(column) for column in zip(*counts.values())] or [0, 0, 0]
    by_type = {kind: {**_scores(*counts[kind]), "support": counts[kind][2]} for kind in sorted(counts)}
    return {**_scores(*total), "by_type": by_type}


def _scores(right: float, predicted: float, true: float) -> dict[str, float]:
    """Returns precision, recall and F1 from the numbers of right, of predicted and of true entities."""
    precision, recall = right / predicted if predicted else 0.0, right / true if true else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
    }


def is_place(value: Any) -> bool:
    """Returns whether a value can be a position in a text: a whole number, also as a float, but no bool.

    Args:
      value: any value.
    """
    whole = isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


def read_spans(given: Iterable[Any], text: str, where: str) -> list[tuple[str, int, int]]:
    """Returns the entities of one text as `(type, start, end)` in characters, without white space at their ends.

    >>> read_spans([{"start": 8, "end": 14, "label": "city"}], "It is in Paris.", "y[0]")
    [('city', 9, 14)]

    Args:
      given: dictionaries `{"start", "end", "label"}`, or tuples and lists `(start, end, label)`.
      text: the text.
      where: what an error calls `given`.

    Raises:
      TypeError: an entity has another form, its label is not a string, or its places are not whole numbers.
      ValueError: an entity is not within the text, or holds nothing but white space.
    """
    spans = []
    for place, entity in enumerate(given):
        if isinstance(entity, (tuple, list)) and len(entity) == 3:
            entity = dict(zip(("start", "end", "label"), entity))
        if not isinstance(entity, dict) or not {"start", "end", "label"} <= set(entity):
            raise TypeError(
                f"{where}[{place}] should be a dictionary with start, end and label, or (start, end, label), got {entity!r}"
            )
        start, end = entity["start"], entity["end"]
        if not isinstance(entity["label"], str):
            raise TypeError(f"{where}[{place}] is {entity!r}: its label should be the name of a type")
        if not all(is_place(n) for n in (start, end)):
            raise TypeError(f"{where}[{place}] is {entity!r}: start and end should be whole numbers of characters")
        start, end = int(start), int(end)
        if not 0 <= start < end <= len(text):
            raise ValueError(f"{where}[{place}] is {entity!r}, but the text has {len(text)} characters")
        inside = text[start:end]
        if not inside.strip():
            raise ValueError(f"{where}[{place}] is {entity!r}, which is white space in the text")
        spans.append((entity["label"], end - len(inside.lstrip()), start + len(inside.rstrip())))
    return spans
