"""Reads fields of flatbuffer tables by their numbers: a LiteRT file is such a table, and its classes come with TensorFlow.

Source: https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct
from typing import Any


class Table:
    """A table in the bytes of a flatbuffer.

    Args:
      content: the bytes of the file.
      at: where the table begins; by default the root table, behind the first four bytes.

    Raises:
      ValueError: the bytes are cut, or no flatbuffer.
    """

    def __init__(self, content: Any, at: int | None = None) -> None:
        self._content = content
        self._at = self._number("<I", 0) if at is None else at
        self._fields = self._at - self._number("<i", self._at)

    def number(self, field: int, kind: str = "i", default: int = 0) -> int:
        """Returns a number.

        Args:
          field: the number of the field.
          kind: its type, as in `struct`.
          default: what stands for a field that is not stored.
        """
        at = self._place(field)
        return default if at is None else self._number(f"<{kind}", at)

    def text(self, field: int) -> str:
        """Returns a text; empty if it is not stored."""
        at = self._reference(field)
        if at is None:
            return ""
        length = self._number("<I", at)
        return bytes(self._content[at + 4 : at + 4 + length]).decode("utf-8", "replace")

    def numbers(self, field: int) -> list[int]:
        """Returns a list of int32."""
        at = self._reference(field)
        return [] if at is None else [self._number("<i", at + 4 + 4 * n) for n in range(self._length(at))]

    def tables(self, field: int) -> list[Table]:
        """Returns a list of tables."""
        at = self._reference(field)
        if at is None:
            return []
        places = range(at + 4, at + 4 + 4 * self._length(at), 4)
        return [Table(self._content, place + self._number("<I", place)) for place in places]

    def length(self, field: int) -> int:
        """Returns how many items a list has, or how many bytes a text."""
        at = self._reference(field)
        return 0 if at is None else self._number("<I", at)

    def _place(self, field: int) -> int | None:
        """Returns where a field's value is, or None if it is not stored."""
        size = self._number("<H", self._fields)
        slot = 4 + 2 * field
        offset = self._number("<H", self._fields + slot) if slot < size else 0
        return self._at + offset if offset else None

    def _reference(self, field: int) -> int | None:
        """Returns where the text or the list is that a field refers to."""
        at = self._place(field)
        return None if at is None else at + self._number("<I", at)

    def _length(self, at: int) -> int:
        """Returns how many items of four bytes a list has, which the file must have room for."""
        length = self._number("<I", at)
        if at + 4 + 4 * length > len(self._content):
            raise ValueError("the file is cut, or no flatbuffer")
        return length

    def _number(self, kind: str, at: int) -> int:
        try:
            if at < 0:
                raise ValueError
            return int(struct.unpack_from(kind, self._content, at)[0])
        except (struct.error, ValueError):
            raise ValueError("the file is cut, or no flatbuffer") from None
