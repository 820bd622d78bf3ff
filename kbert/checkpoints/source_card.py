"""Reads what the card of a checkpoint, its README.md, states of its origin."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

from kbert.checkpoints.own_settings import CARD


class Source(NamedTuple):
    """What a card's header states. Each field is empty if the card does not state it."""

    licence: str = ""  # the hub's identifier, such as "apache-2.0"; "other" has a name beside it
    licence_name: str = ""
    languages: tuple[str, ...] = ()
    base_model: tuple[str, ...] = ()


def read_source(folder: pathlib.Path) -> Source:
    """Returns what the header of a folder's README.md states; an empty `Source` without a card or a readable header.

    Args:
      folder: a preset's folder, of any layout.
    """
    path = folder / CARD
    if not path.is_file():
        return Source()
    header = read_header(path)
    licence, name = ("/".join(_texts(header.get(key))) for key in ("license", "license_name"))
    return Source(licence, name, _texts(header.get("language")), _texts(header.get("base_model")))


def read_header(path: pathlib.Path) -> dict[str, Any]:
    """Returns the values in the YAML header of a card; an empty dictionary if there is none that can be read.

    A card is a note for people, so that a broken one does not keep its checkpoint from opening.

    Args:
      path: the card.
    """
    import yaml  # type: ignore[import-untyped]
    from huggingface_hub import metadata_load

    try:
        header = metadata_load(path)
    except (ValueError, OSError, yaml.YAMLError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    """Returns a value of the header, which may be one text or a list, as texts."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for text in values if isinstance(text, str) and text)
