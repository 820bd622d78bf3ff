"""Where the fields of a text proto stand in its text, so that one field can be changed and the rest stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

TOKEN = re.compile(r"""\#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.+-]+|\S""")


class Field(NamedTuple):
    """A field of a text proto.

    Args:
      name: the name of the field.
      start: where the field begins in the text.
      end: where it ends, behind a comma or semicolon.
      inside: where the closing brace of a message stands; None for a field of another kind.
      fields: the fields of a message.
    """

    name: str
    start: int
    end: int
    inside: int | None
    fields: Sequence[Field]


def fields_of(text: str) -> list[Field]:
    """Returns the fields of a text proto.

    >>> [(field.name, [inner.name for inner in field.fields]) for field in fields_of('a { b: 1 c: "}" } # d\\n e: 2')]
    [('a', ['b', 'c']), ('e', [])]

    Args:
      text: a text proto that its parser accepts.
    """
    tokens = [(match.start(), match.group()) for match in TOKEN.finditer(text) if not match.group().startswith("#")]
    return _fields(tokens, 0)[0]


def _fields(tokens: Sequence[tuple[int, str]], place: int) -> tuple[list[Field], int]:
    """Returns the fields of a message, and the place of the token that closes it.

    Args:
      tokens: the places and texts of all tokens.
      place: the place of the message's first token in `tokens`.
    """

    def token(number: int) -> str:
        return tokens[number][1] if number < len(tokens) else ""

    fields: list[Field] = []
    while token(place) not in ("", "}", ">"):
        start, name = tokens[place]
        if name == "[":  # the name of an extension
            place = _closing(tokens, place)
        place += 1
        if token(place) == ":":
            place += 1
        inside: int | None = None
        inner: list[Field] = []
        if token(place) in ("{", "<"):
            inner, place = _fields(tokens, place + 1)
            inside = tokens[place][0]
        elif token(place) == "[":
            place = _closing(tokens, place)
        else:
            while token(place)[:1] in ("'", '"') and token(place + 1)[:1] in ("'", '"'):
                place += 1  # neighbouring strings are one value
        place += token(place + 1) in (",", ";")
        place = min(place, len(tokens) - 1)
        fields.append(Field(name, start, tokens[place][0] + len(tokens[place][1]), inside, inner))
        place += 1
    return fields, min(place, len(tokens) - 1)


def _closing(tokens: Sequence[tuple[int, str]], place: int) -> int:
    """Returns the place of the bracket that closes the one at `place`."""
    depth = 0
    while place < len(tokens) - 1:
        depth += {"[": 1, "]": -1}.get(tokens[place][1], 0)
        if depth == 0:
            break
        place += 1
    return place


def has_comment(text: str) -> bool:
    """Returns whether a part of a text proto holds a comment."""
    return any(match.group().startswith("#") for match in TOKEN.finditer(text))


def line_of(text: str, place: int) -> int:
    """Returns the number of the line, from 1, of a place in a text."""
    return text.count("\n", 0, place) + 1


def with_lines(text: str, place: int, lines: str) -> str:
    """Returns a text with lines before the closing brace at a place.

    Args:
      text: the text.
      place: where the brace stands.
      lines: lines, each with its end.
    """
    line = text.rfind("\n", 0, place) + 1
    if text[line:place].strip():
        return f"{text[:place]}\n{lines}{text[place:]}"
    return f"{text[:line]}{lines}{text[line:]}"


def without(text: str, start: int, end: int) -> str:
    """Returns a text without a part, and without its lines if nothing else stands in them.

    Args:
      text: the text.
      start: where the part begins.
      end: where it ends.
    """
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    if last >= 0 and not text[first:start].strip() and not text[end:last].strip():
        start, end = first, last + 1
    return text[:start] + text[end:]
