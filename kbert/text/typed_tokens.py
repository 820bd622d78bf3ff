"""Tokens that someone typed into a text, such as `[MASK]`: how the graph recognizes them.

The reference splits a text at such tokens before it cleans the text up. Here one character, the *mark*, takes the place
of a typed token until its id is known. A mark comes from Unicode's private-use areas. The reference deletes private-use
characters, so a text's own ones can be deleted without changing any id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

FILLER = "\x01"  # the clean-up deletes this byte, and these two
OPEN, CLOSE = "\x02", "\x03"


class TypedTokens:
    """The tokens that are recognized where they are typed, with the mark of each one.

    Where several tokens could be recognized, the one that begins first is, and of those the longest, as in the reference.

    Args:
      spellings: the id of each token by its spelling in the texts that `mark` gets.
      first: the number of the first mark, so that the marks of several objects differ.

    Raises:
      ValueError: if a token has fewer than three bytes of UTF-8, which is the size of the smallest mark.
    """

    def __init__(self, spellings: Mapping[str, int], first: int = 0) -> None:
        self.marks = marks_of(list(spellings), first)
        self.ids = list(spellings.values())
        self.sizes = [len(mark.encode("utf-8")) for mark in self.marks.values()]
        longest_first = sorted(self.marks, key=lambda token: (-len(token), token))
        self._any = "|".join(re.escape(token) for token in longest_first)

    @property
    def characters(self) -> list[str]:
        """The marks without their fillers. They are words of the WordPiece op, with ids behind the vocabulary's."""
        return [mark.rstrip(FILLER) for mark in self.marks.values()]

    def mark(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns the texts `[B]` with each typed token replaced by its mark, which has as many bytes as the token.

        Equal lengths keep all offsets right. A text's own private-use characters are overwritten by fillers first.
        """
        texts = tf.strings.regex_replace(texts, f"[{OPEN}{CLOSE}]", FILLER)
        for size in (3, 4):  # bytes
            own = "".join(mark for mark in self.characters if len(mark.encode("utf-8")) == size)
            texts = tf.strings.regex_replace(texts, f"[{own}]", FILLER * size) if own else texts
        texts = tf.strings.regex_replace(texts, f"({self._any})", f"{OPEN}\\1{CLOSE}")
        for token, mark in self.marks.items():
            texts = tf.strings.regex_replace(texts, f"{OPEN}{re.escape(token)}{CLOSE}", mark)
        return texts


def marks_of(tokens: Sequence[str], first: int = 0) -> dict[str, str]:
    """Returns a mark for each token: a private-use character, filled up with `FILLER` to the token's own bytes.

    Args:
      tokens: the spellings. One that is named twice counts once.
      first: the number of the first mark.
    """
    marks = {}
    for number, token in enumerate(dict.fromkeys(tokens), first):
        size = len(token.encode("utf-8"))
        if size < 3:
            raise ValueError(f"recognize_special_tokens and added_tokens need tokens of three bytes or more, got {token!r}")
        mark = chr(0xE000 + number) if size == 3 else chr(0xF0000 + number)  # three bytes, or four
        marks[token] = mark + FILLER * (size - len(mark.encode("utf-8")))
    return marks
