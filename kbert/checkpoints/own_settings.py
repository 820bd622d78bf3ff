"""kbert.json: the settings of a tokenizer, a preprocessor and a task. Other files have no key for some of them.

Other libraries ignore the file. A setting that the other files of the folder state too is read from those files. So a folder
that another library has changed is read as it is now.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any

from kbert.files.atomic import written_aside
from kbert.files.json import read_json, write_json

FILE = "kbert.json"
CARD = "README.md"


def read_own_settings(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns the settings of `tokenizer`, `preprocessor` and `task` in a folder's kbert.json; empty ones if there is no file.

    Args:
      folder: a preset's folder, of any layout.
    """
    stated = read_json(folder / FILE) if (folder / FILE).is_file() else {}
    return {part: stated.get(part) or {} for part in ("tokenizer", "preprocessor", "task")}


def is_own_card(folder: pathlib.Path) -> bool:
    """Returns whether a folder's README.md is the one that kbert wrote there, to the byte, or there is none.

    Args:
      folder: a preset's folder, of any layout.
    """
    card = folder / CARD
    if not card.is_file():
        return not card.exists()
    stated = read_json(folder / FILE).get("card") if (folder / FILE).is_file() else None
    return stated == _digest(card.read_bytes())


def write_own_settings(
    folder: str | os.PathLike[str], preprocessor: Any = None, task: dict[str, Any] | None = None, card: str | None = None
) -> None:
    """Writes kbert.json into a folder.

    Args:
      folder: a preset's folder, of any layout.
      preprocessor: a `TextPreprocessor`, or None.
      task: the settings of a task, by name, or None for an encoder alone.
      card: the content of README.md, which is written too, and whose digest tells it from a user's own; or None.
    """
    settings: dict[str, Any] = {}
    if preprocessor is not None:
        layer, vocabulary = ("name", "trainable", "dtype"), ("vocabulary",)
        settings["tokenizer"] = _without(preprocessor.tokenizer.get_config(), (*layer, *vocabulary))
        settings["preprocessor"] = _without(preprocessor.get_config(), (*layer, "tokenizer"))
    if task is not None:
        settings["task"] = task
    if card is not None:
        content = card.encode("utf-8")
        settings["card"] = _digest(content)
        with written_aside(pathlib.Path(folder) / CARD) as aside:
            aside.write_bytes(content)
    write_json(pathlib.Path(folder) / FILE, settings)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without(settings: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
