"""Reads, checks and writes a vocabulary: a text file with one token a line. The line's number, from 0, is the token's id."""

from __future__ import annotations

import codecs
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence

from kbert.files.atomic import written_aside

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """Reads a `vocab.txt`.

    >>> tokens = read_vocabulary("vocab.txt")  # doctest: +SKIP
    >>> tokens[101]  # doctest: +SKIP
    '[CLS]'

    Args:
      path: a UTF-8 text file with one token a line. A line may end in a line feed or a carriage return and a line feed. A byte
        order mark at the beginning is not part of the first token.

    Returns:
      A list of `V` strings. Only the line end is cut off, since some published vocabularies hold odd spaces. A line without a
      token, and the earlier ones of several equal lines, hold a name that no text can have, because the numbers of the lines
      below are ids. A warning names the first of them. Empty lines at the end count for nothing.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not UTF-8, or is empty.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no vocabulary at {path}: a text file with one token a line is expected")
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    while lines and lines[-1].strip(b"\r") == b"":
        lines.pop()
    tokens: list[str | None] = []
    odd: list[str] = []
    last: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            token = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path}, line {number}: {line!r} is not UTF-8 text; save the file as UTF-8") from None
        if token == "":
            odd.append(f"line {number} is empty")
        elif token in last:
            odd.append(f"line {number}: {token!r} stands on line {last[token]} already, and the later line counts")
            tokens[last[token] - 1] = None
        tokens.append(token or None)
        last[token] = number
    filled = fill_gaps(tokens)
    check_vocabulary(filled, source=str(path))
    if odd:
        warnings.warn(f"{path}, {odd[0]}; {len(odd)} such lines keep their ids, which no text has", stacklevel=2)
    return filled


def fill_gaps(tokens: Sequence[str | None]) -> list[str]:
    """Returns a vocabulary in which the ids without a token have names that no text can have.

    >>> fill_gaps(["[PAD]", None, "a"])
    ['[PAD]', '[unused1]', 'a']

    Brackets are words of their own, so that no word of a text is such a name.

    Args:
      tokens: the tokens in the order of their ids; None stands for an id without a token.
    """
    taken = set(tokens)

    def name(number: int) -> str:
        names = (f"[unused{number}{'_' * more}]" for more in range(len(tokens) + 1))
        return next(free for free in names if free not in taken)

    return [name(number) if token is None else token for number, token in enumerate(tokens)]


def check_vocabulary(tokens: Sequence[str], source: str = "the vocabulary", special_tokens: Iterable[str] = ()) -> None:
    """Raises an error that names the line of the first token that a vocabulary cannot have.

    >>> check_vocabulary(["[UNK]", "a", "a"])
    Traceback (most recent call last):
    ...
    ValueError: the vocabulary, line 3: 'a' stands on line 2 already; each token may have one id only

    Args:
      tokens: the vocabulary, in the order of the ids.
      source: what an error calls the vocabulary, such as the path of its file.
      special_tokens: tokens that the vocabulary has to hold.

    Raises:
      TypeError: a token is no string.
      ValueError: there are no tokens, one is empty or stands there twice, or a special token is missing.
    """
    if not tokens:
        raise ValueError(f"{source} is empty: one token a line is expected")
    first_line: dict[str, int] = {}
    for number, token in enumerate(tokens, 1):
        if not isinstance(token, str):
            raise TypeError(f"{source}, line {number}: tokens are strings, got {token!r}")
        if token == "":
            raise ValueError(f"{source}, line {number}: the line is empty; remove it, but mind that ids below it move up")
        if token in first_line:
            raise ValueError(
                f"{source}, line {number}: {token!r} stands on line {first_line[token]} already; "
                "each token may have one id only"
            )
        first_line[token] = number
    for token in special_tokens:
        if token not in first_line:
            raise ValueError(
                f"{source}: none of its {len(tokens)} lines is the special token {token!r}; add it, or name the "
                "token that takes its place (unk_token=, cls_token=, sep_token=, pad_token=, mask_token=)"
            )


def save_vocabulary(tokens: Iterable[str], path: str | os.PathLike[str]) -> None:
    """Writes a vocabulary with one token a line. A crash leaves the old file.

    Args:
      tokens: the tokens in the order of their ids.
      path: the file to write or replace.
    """
    with written_aside(path) as aside:
        aside.write_bytes(("\n".join(tokens) + "\n").encode("utf-8"))
