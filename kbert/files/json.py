"""Reads and writes JSON files that hold one object, such as config.json."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
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


def write_json(path: pathlib.Path, values: Mapping[str, Any] | list[Any]) -> None:
    """Writes an indented JSON file in UTF-8. A crash leaves the old file.

    Args:
      path: the file to write or replace.
      values: an object or a list of JSON's types.
    """
    with written_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
