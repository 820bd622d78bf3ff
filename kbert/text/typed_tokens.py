"""Special tokens that someone typed into a text, such as `[MASK]`: how the graph recognizes them.

The reference splits a text at its special tokens before it cleans the text up. Here one character, the *mark*, takes the place
of a typed token until its id is known. A mark comes from Unicode's private-use areas. The reference deletes private-use
characters, so a text's own ones can be deleted without changing any id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import tensorflow as tf

FILLER = "\x01"  # the clean-up deletes this byte


class TypedTokens:
    """The special tokens that are recognized where they are typed, with the mark of each one.

    Args:
      special_tokens: the tokens to recognize. A token that is named twice counts once.
      tokens: the `V` tokens of the vocabulary, in the order of their ids.

    Raises:
      ValueError: if a special token has fewer than three bytes of UTF-8, which is the size of the smallest mark.
    """

    def __init__(self, special_tokens: Sequence[str], tokens: Sequence[str]) -> None:
        self.marks = marks_of(special_tokens)
        self._vocabulary_size = len(tokens)
        self._ids = [tokens.index(token) for token in self.marks]

    @property
    def characters(self) -> list[str]:
        """The marks without their fillers. They are the words `V`, `V + 1`, ... of the WordPiece op."""
        return [mark.rstrip(FILLER) for mark in self.marks.values()]

    def mark(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns the texts `[B]` with each typed special token replaced by its mark, which has as many bytes as the token.

        Equal lengths keep all offsets right. A text's own private-use characters are overwritten by fillers first.
        """
        for character in self.characters:
            texts = tf.strings.regex_replace(texts, character, FILLER * len(character.encode("utf-8")))
        for token, mark in sorted(self.marks.items(), key=lambda item: -len(item[0])):
            texts = tf.strings.regex_replace(texts, re.escape(token), mark)
        return texts

    def restore(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Replaces the ids of marks by those of their tokens.

        Args:
          ids: the ids of pieces, int32 `[P]`, where `V` and above stand for marks.

        Returns:
          The ids of the vocabulary, int32 `[P]`, and the bytes of each typed token, int32 `[P]`, with 1 for any other piece.
        """
        is_typed = ids >= self._vocabulary_size
        number = tf.where(is_typed, ids - self._vocabulary_size, 0)
        restored = tf.where(is_typed, tf.gather(self._ids, number), ids)
        sizes = [len(mark.encode("utf-8")) for mark in self.marks.values()]
        return restored, tf.where(is_typed, tf.gather(sizes, number), 1)


def marks_of(special_tokens: Sequence[str]) -> dict[str, str]:
    """Returns a mark for each special token: a private-use character, filled up with `FILLER` to the token's own bytes."""
    marks = {}
    for number, token in enumerate(dict.fromkeys(special_tokens)):
        size = len(token.encode("utf-8"))
        if size < 3:
            raise ValueError(f"recognize_special_tokens needs special tokens of three bytes or more, got {token!r}")
        mark = chr(0xE000 + number) if size == 3 else chr(0xF0000 + number)  # three bytes, or four
        marks[token] = mark + FILLER * (size - len(mark.encode("utf-8")))
    return marks
