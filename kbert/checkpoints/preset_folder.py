"""Writes a preset folder as a whole, checks whether an old folder may be replaced, and keeps its other files."""

from __future__ import annotations

import fnmatch
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from kbert.checkpoints.own_settings import CARD, FILE, is_own_card, write_own_settings
from kbert.files.atomic import check_replaceable, recover, written_aside
from kbert.files.json import read_json
from kbert.files.targets import check_writable, kind_by_name, some_of

# By layout, the patterns of the entries that kbert writes into a folder.
WRITTEN = {
    "huggingface": (
        *(
            "config.json",
            "model.safetensors",
            "vocab.txt",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling", "[0-9]*_Dense", FILE),
    ),
    "google": ("bert_config.json", "bert_model.ckpt.*", "vocab.txt", FILE),
    "keras_hub": (
        *("config.json", "metadata.json", "model.weights.h5", "task.json", "task.weights.h5"),
        *("tokenizer.json", "preprocessor.json", "assets", FILE),
    ),
}
# Files that a library would open as the model, or in place of a file that kbert writes: an old one must not stay beside it.
OF_OTHERS = (
    *("saved_model.pb", "*.keras", "*.ckpt", "*.ckpt.*", "*.ckpt-*", "checkpoint", "bert_config.json", "*.h5", "*.safetensors"),
    *("*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.msgpack", "*.gguf", "config.json"),
    *("tokenizer.json", "added_tokens.json", "vocab.txt", "modules.json", "metadata.json", "task.json", "preprocessor.json"),
)


def write_preset(
    layout: str,
    save_folder: Callable[..., None],
    folder: str | os.PathLike[str],
    encoder: Any,
    preprocessor: Any = None,
    task: Any = None,
    settings: dict[str, Any] | None = None,
    beside: Callable[[pathlib.Path], None] | None = None,
    card: str | None = None,
) -> None:
    """Writes a preset folder, or replaces one of the same layout.

    After a crash, either the old or the new folder is there, and it is whole. Files that belong to no
    model, and a README.md that kbert did not write, stay in the folder.

    Args:
      layout: the layout's name, a key of `WRITTEN`.
      save_folder: the writer of the layout. It takes the path of a folder that does not exist yet, the encoder, the
        preprocessor and the task.
      folder: the folder. Its parents are made.
      encoder: the owner of the encoder's weights.
      preprocessor: the preprocessor whose vocabulary is written, or None.
      task: the owner of the head's weights, or None.
      settings: the task's settings for kbert.json; None for an encoder alone.
      beside: a function that takes the path of the folder and writes more files into it; or None.
      card: the content of README.md, or None for none. A README.md that somebody else wrote or changed stays, with a warning.

    Raises:
      ValueError: the folder has the name of a file, or holds a model in another layout; or the layout has no place for the
        encoder or the head.
      FileExistsError: there is a file of that name.
    """
    folder = check_preset_folder(folder, layout)
    replaces_card = is_own_card(folder)
    if card is not None and not replaces_card:
        warnings.warn(f"{folder / CARD} is kept, because kbert did not write it; remove it to get a new card", stacklevel=4)
    old = (*WRITTEN[layout], CARD) if replaces_card else WRITTEN[layout]
    with written_aside(folder, keep=lambda name: not _is_of(name, old)) as aside:
        save_folder(aside, encoder, preprocessor, task)
        write_own_settings(aside, preprocessor, settings, card if replaces_card else None)
        if beside is not None:
            beside(aside)


def check_preset_folder(folder: str | os.PathLike[str], layout: str) -> pathlib.Path:
    """Checks that a preset may be written to a path.

    Args:
      folder: the path.
      layout: the layout's name, a key of `WRITTEN`.

    Returns:
      The path as a `pathlib.Path`.

    Raises:
      ValueError: the path has the suffix of a file, or holds a model in another layout.
      FileExistsError: there is a file of that name.
      OSError: nothing can be written there.
    """
    path = pathlib.Path(folder)
    named = kind_by_name(path)
    if named is not None:
        cure = f" ({named.cure})" if named.cure else ""
        raise ValueError(f"{path} is the name of {named.name}{cure}; a preset is a folder: give another name")
    recover(path)
    check_writable(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise FileExistsError(f"{path} is a file, and a preset is a folder: give another path")
    check_replaceable(pathlib.Path(os.path.realpath(path)))
    names = sorted(entry.name for entry in path.iterdir())
    stale = [name for name in names if _is_of(name, OF_OTHERS) and not _is_of(name, WRITTEN[layout])]
    if "config.json" in names and "config.json" not in stale and _layout_of_config(path) != layout:
        stale.append("config.json")
    if stale:
        raise ValueError(
            f"{path} holds a model that kbert did not write there in the layout {layout!r}: {some_of(stale)}. Beside a new "
            "model these files would be taken for it; give another folder, or remove them"
        )
    return path


def _layout_of_config(folder: pathlib.Path) -> str:
    return "keras_hub" if "class_name" in read_json(folder / "config.json") else "huggingface"


def _is_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
