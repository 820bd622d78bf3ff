"""Reads fields of protobuf messages by their numbers, without the messages' classes, and copies no field.

ONNX files and SavedModels are such messages. Their classes come with packages that take seconds to import.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yields the number and the value of each field of a message, in the order of the file.

    Args:
      message: the bytes. A value of a variable length, such as a text or another message, is a view of them.

    Raises:
      ValueError: the bytes are no message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf message")
        if number == 0 or at + size > len(message):
            raise ValueError("not a protobuf message, or cut")
        yield number, message[at : at + size]
        at += size


def messages(message: memoryview, *path: int) -> list[memoryview]:
    """Returns the messages, texts or byte strings at a path of field numbers; a repeated field gives several.

    Args:
      message: the bytes of the outermost message.
      *path: the numbers of the fields, from the outermost message inward.
    """
    level = [message]
    for number in path:
        level = [value for part in level for found, value in fields(part) if found == number and isinstance(value, memoryview)]
    return level


def text(message: memoryview, *path: int) -> str:
    """Returns the first text at a path of field numbers, or an empty one.

    Args:
      message: the bytes of the outermost message.
      *path: the numbers of the fields.
    """
    found = messages(message, *path)
    return str(found[0], "utf-8", "replace") if found else ""


def numbers(message: memoryview, number: int) -> list[int]:
    """Returns the whole numbers of a field, which may be repeated, packed or not.

    Args:
      message: the bytes.
      number: the number of the field.
    """
    values: list[int] = []
    for found, value in fields(message):
        if found != number:
            continue
        if isinstance(value, int):
            values.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            values.append(one)
    return [value - (1 << 64) if value >> 63 else value for value in values]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns a number of a variable length, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("not a protobuf message, or cut")
