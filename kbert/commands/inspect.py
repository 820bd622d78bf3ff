"""`kbert inspect`: what a file or folder holds, on one screen. No weights are loaded."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from kbert.checkpoints import catalogue, hub
from kbert.checkpoints.described import describe
from kbert.checkpoints.opened import Opened, find_folder
from kbert.commands.exported_facts import facts_of_file
from kbert.commands.options import MODEL
from kbert.files.targets import SAFETENSORS, TORCH, WEIGHTS, kind_by_name
from kbert.tasks.choosing import choose

MOST = 8  # entries of a list in a row


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "path",
        help="a folder of any layout, a .keras, .tflite or .onnx file, a SavedModel, a built-in name, or hf://owner/name, of "
        "which no weights are fetched",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")


def check(options: argparse.Namespace) -> None:
    """Raises an error for a path that does not exist and is no name of a preset."""
    if options.path.startswith(hub.SCHEME) or catalogue.find_built_in(options.path) is not None:
        return
    if not pathlib.Path(options.path).exists():
        raise FileNotFoundError(f"there is no file or folder {options.path}, and no built-in preset of that name")


def run(options: argparse.Namespace) -> None:
    """Prints what a file or folder holds."""
    facts = facts_of(options.path)
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(options.path), title_justify="left", show_header=False)
    for name, value in rows(facts).items():
        table.add_row(name, Text(value))
    Console().print(table)


def facts_of(path: str) -> dict[str, Any]:
    """Returns what a file or folder holds, by name. Names without a value are left out.

    Args:
      path: a file, a folder, a built-in name or `hf://owner/name`.

    Raises:
      FileNotFoundError: the folder holds no model.
      ValueError: kbert does not read such a file, or it is broken.
    """
    place = pathlib.Path(path)
    if path.startswith(hub.SCHEME):
        opened = Opened(hub.download(path, weights=False), repr(path))
        return _named(_of_folder(opened, "the weights are not in the cache, and were not fetched"))
    preset = catalogue.find_built_in(path)
    if preset is not None and not place.exists():
        if not preset.module:
            return _named(_of_preset(preset))
        return _named({**_of_folder(Opened(find_folder(path), repr(path))), "licence": preset.licence, "source": preset.source})
    if (place / MODEL).is_file():  # finetune's folder
        place = place / MODEL
    if place.is_file() and kind_by_name(place) in (WEIGHTS, SAFETENSORS, TORCH) or place.suffix in (".bin", ".hdf5", ".index"):
        place = place.parent
    try:
        folder = find_folder(place) if place.is_dir() else None
        refused: Exception | None = None
        if folder is not None:
            return _named(_of_folder(Opened(folder, repr(path))))
    except (FileNotFoundError, ValueError) as error:
        refused = error
    facts = facts_of_file(place)
    if facts is None:
        raise refused or ValueError(f"{path} is no file of a model that kbert knows: a folder, .keras, .tflite or .onnx is")
    return _named(facts)


def _of_preset(preset: catalogue.Preset) -> dict[str, Any]:
    """Returns the facts of a built-in name that is fetched from a hub when it is opened."""
    return {
        "kind": "a built-in name, which is fetched when it is opened",
        "architecture": preset.description,
        "parameters": preset.parameters,
        "bytes": 4 * preset.parameters,
        "licence": preset.licence,
        "source": preset.source,
        "notes": [f"kbert inspect {preset.source} reads its files"],
    }


def _of_folder(opened: Opened, without_weights: str = "") -> dict[str, Any]:
    """Returns the facts of a checkpoint's folder.

    Args:
      opened: the checkpoint.
      without_weights: the note where there are no weights; by default what the reader says they lack.
    """
    try:
        said = describe(opened)
        notes, task = list(said.missing), None
        if without_weights and not said.weights:
            notes[0] = without_weights
        if said.weights or opened.architecture:
            try:
                choice = choose(opened)
                task = choice.task
                notes += [choice.notice] if choice.notice else []
            except ValueError as error:
                notes.append(str(error))
    finally:
        opened.close()
    source = said.source
    of_source = {
        "licence": source.licence_name or source.licence,
        "languages": list(source.languages),
        "base_model": list(source.base_model),
    }
    facts = {name: value for name, value in dataclasses.asdict(said).items() if name not in ("path", "source", "missing")}
    if not said.weights:
        facts = {**facts, "parameters": None, "bytes": None}
    return {**facts, "task": task, **of_source, "notes": notes}


def _named(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts that have a value."""
    return {name: value for name, value in facts.items() if value not in (None, "", [], {}, ())}


def rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns the rows of the table: names and values in words.

    >>> rows({"kind": "a LiteRT file", "parameters": 1000, "bytes": 4000, "dtypes": {"float32": 1000}})
    {'kind': 'a LiteRT file', 'weights': '1,000 parameters, 0.0 MB, float32'}

    Args:
      facts: what `facts_of` returned.
    """
    words: dict[str, str] = {}
    for name in ("kind", "architecture", "task", "head", "problem_type"):
        if facts.get(name):
            words[name.replace("_", " ")] = str(facts[name])
    if "sizes" in facts:
        words["sizes"] = _pairs({name: facts["sizes"][name] for name in SHOWN_SIZES if name in facts["sizes"]})
    if "bytes" in facts:
        parts = [f"{facts['parameters']:,} parameters"] if "parameters" in facts else []
        parts += [f"{facts['bytes'] / 1e6:.1f} MB", *facts.get("dtypes", {})]
        words["weights"] = (f"{facts['weights']}: " if "weights" in facts else "") + ", ".join(parts)
    if "labels" in facts:
        words["labels"] = f"{len(facts['labels'])}: {_list(facts['labels'])}"
    if "vocabulary_size" in facts:
        case = {True: ", lower-cased", False: ", cased"}.get(facts.get("lowercase"), "")  # type: ignore[arg-type]
        words["vocabulary"] = f"{facts['vocabulary_size']:,} tokens{case}"
    if "max_length" in facts:
        words["text limit"] = f"{facts['max_length']} positions"
    for name in ("embedding", "inputs", "outputs", "properties"):
        if name in facts:
            words[name] = _pairs(facts[name])
    for name in ("signatures", "licence", "languages", "base_model", "source", "written_with", "training_state"):
        if name in facts:
            words[name.replace("_", " ")] = _list(facts[name]) if isinstance(facts[name], list) else str(facts[name])
    if "left_out" in facts:
        words["left out"] = f"{len(facts['left_out'])}: {_list(facts['left_out'][:3])}"
    if "notes" in facts:
        words["notes"] = "\n".join(facts["notes"])
    return words


SHOWN_SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "wide",
    "num_attention_heads": "heads",
    "intermediate_size": "in the feed-forward",
    "max_position_embeddings": "positions",
    "type_vocab_size": "segments",
    "vocab_size": "rows of the table",
}


def _pairs(values: Mapping[str, Any]) -> str:
    """Returns named values as a text, the sizes of an encoder in words."""
    parts = [f"{value} {SHOWN_SIZES[name]}" if name in SHOWN_SIZES else f"{name}: {value}" for name, value in values.items()]
    more = [f"and {len(parts) - MOST} more"] if len(parts) > MOST else []
    return ", ".join([*parts[:MOST], *more])


def _list(values: list[Any]) -> str:
    """Returns a list as a text; a long one is cut."""
    more = [f"and {len(values) - MOST:,} more"] if len(values) > MOST else []
    return ", ".join([*(str(value)[:60] for value in values[:MOST]), *more])
