"""Reads tags of entities in several schemes as one: BIO, IOB1, BIOES, BILOU, BMES, letters alone, or types alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Other schemes' letters: M is inside, L (last) ends, U (unit) and W (whole) are single words.
LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
ONE_TYPE = "entity"  # the type of the entities of tags that name none: B, I and O
OUTSIDE = ("O", "[PAD]", "[CLS]", "[SEP]")  # the special tokens have labels of their own in some old checkpoints
CONTINUED = "X"  # the label of a word's later pieces in such checkpoints, beside tags with letters
_LOWER = re.compile(f"([{''.join(LETTERS).lower()}])[-_](.+)", re.DOTALL)
_BEFORE, _BEHIND = (
    re.compile(f"([{''.join(LETTERS)}])[-_](.+)", re.DOTALL),
    re.compile(f"(.+)-([{''.join(LETTERS)}])", re.DOTALL),
)


class NotATag(ValueError):
    """A label that is no tag of the scheme of the others.

    Args:
      label: the label.
      reason: the rest of the message behind the label, for example `is not a tag`.
      place: where the label stands, for the message.
      cure: what to do about it, for the message.
    """

    def __init__(self, label: str, reason: str, place: str = "", cure: str = "") -> None:
        super().__init__(f"{place}{label!r} {reason}{'. ' if cure else ''}{cure}")
        self.label, self.reason = label, reason


class Tag(NamedTuple):
    """The meaning of a tag. `prefix` is O, B, I, E or S. `kind` is the type of the entity, or "" outside entities."""

    prefix: str
    kind: str


def read_tags(labels: Iterable[str]) -> dict[str, Tag]:
    """Returns the meaning of labels as tags. The labels are read together, because a single one may have two meanings.

    >>> read_tags(["O", "B-city", "L-city"])["L-city"]
    Tag(prefix='E', kind='city')
    >>> read_tags(["O", "B", "I"])["B"]
    Tag(prefix='B', kind='entity')
    >>> read_tags(["O", "PER"])["PER"]
    Tag(prefix='I', kind='PER')

    The labels are of one of these schemes:

    - a letter and a type, `B-city`, `b-city` or `city-B`. BIO has the letters B, I and O. BIOES also has E and S, BILOU has L
      and U, and BMES has M, E and S; W is read as S. In IOB1 and IO an entity can begin with I.
    - a letter without a type, `B`, `I` and `O`. The type is `entity`.
    - a type without a letter, `city`. Neighbouring words of one type are one entity.

    Args:
      labels: the labels of a task, or all tags of a file.

    Returns:
      A dictionary with the `Tag` of each label.

    Raises:
      NotATag: some labels begin with B- or I- and others have no letter.
    """
    names = list(dict.fromkeys(labels))
    outside = {name: Tag("O", "") for name in (*OUTSIDE, CONTINUED) if name in names}
    inside = [name for name in names if name not in outside]
    before = {name: Tag(LETTERS[match[1]], match[2]) for name in names if (match := _BEFORE.fullmatch(name))}
    behind = {name: Tag(LETTERS[match[2]], match[1]) for name in names if (match := _BEHIND.fullmatch(name))}
    lower = {name: Tag(LETTERS[match[1].upper()], match[2]) for name in names if (match := _LOWER.fullmatch(name))}
    if any(tag.prefix == "B" for tag in lower.values()) and all(name in lower for name in inside if name != "o"):
        return {**outside, **{name: lower.get(name, Tag("O", "")) for name in inside}}
    bare = {name: Tag(LETTERS[name], ONE_TYPE) for name in names if name in LETTERS}
    for tags in (before, behind, bare if {"B", "I"} & set(bare) else {}):
        if inside and all(name in tags for name in inside):
            return {**outside, **tags}
    if any(tag.prefix in "BI" for tag in before.values()):
        wrong = next(name for name in inside if name not in before)
        raise NotATag(wrong, f"is not a tag of the scheme of {next(iter(before))!r}, a letter and a type")
    return {name: Tag("O", "") if name in OUTSIDE else Tag("I", name) for name in names}


def has_prefixes(scheme: Mapping[str, Tag]) -> bool:
    """Returns whether the tags of a scheme have letters like B and I, rather than types alone.

    Args:
      scheme: the meaning of each label, from `read_tags`.
    """
    return any(tag.prefix != "O" and tag.kind != label for label, tag in scheme.items())


def are_tags(labels: Iterable[str]) -> bool:
    """Returns whether entities can be read from labels.

    >>> are_tags(["O", "B-city"]), are_tags(["O", "city"]), are_tags(["NOUN", "VERB"])
    (True, True, False)

    Args:
      labels: the labels of a task, or all tags of a file.
    """
    try:
        check_tags(labels)
    except ValueError:
        return False
    return True


def check_tags(labels: Iterable[str]) -> None:
    """Raises a `NotATag` error, which is a ValueError, for labels from which no entities can be read.

    Args:
      labels: the labels of a task, or all tags of a file.
    """
    labels = list(labels)
    scheme = read_tags(labels)
    if labels and "O" not in scheme and not has_prefixes(scheme):
        raise NotATag(
            labels[0],
            "is not a BIO, BIOES or BILOU tag such as B-city, I-city and O, nor a type beside O. Entities are read from these; "
            "predict() gives the labels of words whatever they are called",
        )


def tags_of_entity(scheme: Mapping[str, Tag], kind: str, words: int) -> list[str]:
    """Returns the tags of the words of an entity.

    >>> tags_of_entity(read_tags(["O", "B-city", "I-city", "L-city", "U-city"]), "city", 3)
    ['B-city', 'I-city', 'L-city']

    Args:
      scheme: the meaning of each label, from `read_tags`.
      kind: the type of the entity.
      words: the number of its words.
    """
    labels = {tag: label for label, tag in reversed(list(scheme.items()))}

    def label(*prefixes: str) -> str:
        there = (labels[Tag(prefix, kind)] for prefix in prefixes if Tag(prefix, kind) in labels)
        return next(there, f"{'B' if 'B' in prefixes else 'I'}-{kind}")  # no list of labels has this one, and an error names it

    if words == 1:
        return [label("S", "B", "I")]
    return [label("B", "I"), *[label("I")] * (words - 2), label("E", "I")][:words]


def later_labels(labels: Iterable[str]) -> list[int]:
    """Returns a list that gives, at the index of a word's label, the index of the label for the later pieces of the word.

    Only the first piece of a word can begin an entity: B-x and S-x become I-x for the later ones, as in transformers since
    4.12. All other labels stay, and labels that are no tags stay too.

    >>> later_labels(["O", "B-city", "I-city", "B-food"])
    [0, 2, 2, 3]

    Args:
      labels: the labels of a task, in order.
    """
    names = list(labels)
    if not are_tags(names):
        return list(range(len(names)))
    tags = [read_tags(names)[name] for name in names]
    inside = {tag.kind: place for place, tag in reversed(list(enumerate(tags))) if tag.prefix == "I"}
    return [inside.get(tag.kind, place) if tag.prefix in "BS" else place for place, tag in enumerate(tags)]
