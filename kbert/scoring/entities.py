"""Entities in sequences of BIO and BIOES tags, and their precision, recall and F1 as seqeval counts them."""

from __future__ import annotations

import collections
import os
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
    return all(map(_is_tag, labels))


def check_tags(labels: Iterable[str]) -> None:
    """Raises a ValueError for labels that are not BIO or BIOES tags."""
    wrong = [label for label in labels if not _is_tag(label)]
    if wrong:
        raise ValueError(
            f"entities are read from BIO or BIOES tags such as B-city, I-city and O; {wrong[0]!r} is none. predict() gives the "
            "labels of words whatever they are called"
        )


def _is_tag(text: str) -> bool:
    """Returns whether a text is a BIO or BIOES tag."""
    return text == "O" or (text[:2] in BEGINNINGS and len(text) > 2)


def read_bio(path: str | os.PathLike[str], encoding: str = "utf-8") -> tuple[list[list[str]], list[list[str]]]:
    """Reads a file of words with tags, one word a line, and a blank line between sentences.

    >>> sentences, tags = read_bio("train.bio")  # doctest: +SKIP

    Args:
      path: a text file. A line has a word and its tag, with a tab or spaces between them, in either order; `tag TAB word` is
        recognised by its tags. If lines have more columns, as in CoNLL 2003, the first is the word and the last the tag.
      encoding: the file's encoding.

    Returns:
      A list of lists of words, and a list of lists of tags.

    Raises:
      ValueError: a line has one column, or a tag that is not BIO or BIOES; the message names the file and the line.
    """
    sentences, numbers = _read_columns(path, encoding)
    # The tags are in the column whose values are all tags; if both are such columns, in the last.
    is_tags = [all(_is_tag(pair[place]) for sentence in sentences for pair in sentence) for place in (0, 1)]
    tag = 1 if is_tags[1] or not is_tags[0] else 0
    for sentence, lines in zip(sentences, numbers):
        for pair, number in zip(sentence, lines):
            if not _is_tag(pair[tag]):
                raise ValueError(f"{path}, line {number}: {pair[tag]!r} is not a BIO or BIOES tag")
    words = [[pair[1 - tag] for pair in sentence] for sentence in sentences]
    return words, [[pair[tag] for pair in sentence] for sentence in sentences]


def _read_columns(path: str | os.PathLike[str], encoding: str) -> tuple[list[list[tuple[str, str]]], list[list[int]]]:
    """Reads the first and the last column of each sentence's lines.

    Returns:
      For each sentence the pairs of columns, and for each sentence the numbers of its lines, counted from 1.
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    numbers: list[list[int]] = [[]]
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if sentences[-1]:
                    sentences.append([])
                    numbers.append([])
                continue
            if line.startswith("-DOCSTART-"):
                continue
            columns = line.split("\t") if "\t" in line else line.split()
            if len(columns) < 2:
                raise ValueError(f"{path}, line {number}: a word and its tag are expected, got {line!r}")
            sentences[-1].append((columns[0], columns[-1]))
            numbers[-1].append(number)
    if not sentences[-1]:
        sentences.pop(), numbers.pop()
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    return sentences, numbers
