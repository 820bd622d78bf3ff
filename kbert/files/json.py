"""Reads and writes JSON files that hold one object, such as config.json."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from kbert.files.atomic import written_aside


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file that holds one object.

    Args:
      path: a UTF-8 text file, with a byte order mark or without.

    Returns:
      The object as a dictionary.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not JSON, or its value is not an object; the file is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return json_object(text, str(path))


def json_object(text: str, name: str) -> dict[str, Any]:
    """Returns a JSON object as a dictionary.

    Args:
      text: the object as JSON.
      name: the name of the text in an error, for example the path of its file.

    Raises:
      ValueError: the text is not JSON, or its value is not an object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{name} should hold a JSON object, got {type(values).__name__}")
    return values


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Makes a `with` block that reads files name them where a value in them is none that the block expects.

    The files come from outside: where a text is usual there may be a list, and Python's own error says neither file nor cure.

    Args:
      path: the path of the file, or of the folder whose files are read.

    Raises:
      ValueError: the block raised an error that does not name the path.
    """
    try:
        yield
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        if str(path) in str(error):
            raise
        said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} holds a value that cannot stand where it does ({said:.300}); correct it or fetch it again"
        ) from error


def write_json(path: pathlib.Path, values: Mapping[str, Any] | list[Any]) -> None:
    """Writes an indented JSON file in UTF-8. A crash leaves the old file.

    Args:
      path: the file to write or replace.
      values: an object or a list of JSON's types.
    """
    with written_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
