"""`kbert convert`: a checkpoint from one layout into another."""

from __future__ import annotations

import argparse
import os
import pathlib
from typing import Any

from kbert.checkpoints import catalogue, hub
from kbert.checkpoints.described import Described, describe
from kbert.checkpoints.names import POOLED
from kbert.checkpoints.opened import FORMATS, Opened, find_folder, open_preset
from kbert.checkpoints.preset_folder import check_preset_folder
from kbert.commands import options as shared
from kbert.files.targets import KERAS, kind_by_name
from kbert.tasks.choosing import choose


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "old", help="anything that from_preset opens: a folder, hf://owner/name, a built-in name; or a .keras file"
    )
    parser.add_argument("new", help="the folder to write")
    parser.add_argument(
        "--layout", choices=tuple(FORMATS), default="huggingface", help="of the new folder (default: huggingface)"
    )
    parser.add_argument("--labels", nargs="+", help="the names of the labels, in order, where the old files do not say them")
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for files that cannot be read or written, and for a head that the new layout has no place for."""
    old, new = options.old, pathlib.Path(options.new)
    is_keras = kind_by_name(old) == KERAS
    if is_keras:
        shared.check_files(old)
        if options.labels:
            raise ValueError("--labels is for files that do not say their labels, and a .keras file says them")
    elif not old.startswith(hub.SCHEME) and catalogue.find_built_in(old) is None:
        find_folder(old)
    if new.exists() and os.path.exists(old) and os.path.samefile(old, new):
        raise ValueError(f"{new} is what the command reads, and would be lost: give another folder")
    check_preset_folder(new, options.layout)
    if new.is_dir() and any(new.iterdir()) and not options.overwrite:
        raise FileExistsError(f"{new} exists; give another path, or pass --overwrite to replace it")
    if not is_keras and pathlib.Path(old).is_dir():
        with open_preset(old) as opened:
            check_layout(opened, options.layout)


def check_layout(opened: Opened, layout: str) -> None:
    """Raises an error if a layout has no place for a checkpoint's encoder, or for its head.

    Args:
      opened: the checkpoint.
      layout: a key of `FORMATS`.

    Raises:
      ValueError: the layout has no such architecture, head or pooling; or kbert has no task for the checkpoint.
    """
    task = choose(opened).task  # refuses a class that is not known
    if task == "TextEmbedder" and not is_encoder_alone(opened):
        if layout != "huggingface":
            raise ValueError(
                f"{opened} is an embedder, whose pooling only --layout huggingface has a place for; got --layout {layout}"
            )
        return
    try:
        FORMATS[layout].check_place(opened.config, opened.head or "", opened.head in ("", *POOLED))
    except ValueError as error:
        raise ValueError(f"{opened} has no place in --layout {layout}: {error}") from None


def is_encoder_alone(opened: Opened) -> bool:
    """Returns whether a checkpoint has neither a head nor a pooling of its own.

    Args:
      opened: the checkpoint.
    """
    said = choose(opened)
    return said.task == "TextEmbedder" and bool(said.notice)


def run(options: argparse.Namespace) -> None:
    """Converts a checkpoint, and says what was written and what was left out."""
    from kbert.tasks.any_task import from_preset

    if kind_by_name(options.old) == KERAS:
        task = from_preset(options.old, compile=False)
        task.save_to_preset(options.new, layout=options.layout)
        print(f"{options.new}: a {type(task).__name__} in the layout {options.layout}")
        return
    with open_preset(options.old) as opened:
        check_layout(opened, options.layout)
        said = describe(opened)
        if is_encoder_alone(opened):
            name = _convert_encoder(opened, said, options)
        else:
            given: dict[str, Any] = {} if options.labels is None else {"labels": options.labels}
            task = from_preset(opened, **given)
            task.save_to_preset(options.new, layout=options.layout)
            name = f"a {type(task).__name__}"
    print(f"{options.new}: {name} in the layout {options.layout}")
    left_out = [] if is_encoder_alone_of(said) else said.left_out
    if left_out:
        print(f"left out, because the task does not read it: {len(left_out)} weights, such as {left_out[0]}")


def is_encoder_alone_of(said: Described) -> bool:
    """Returns whether a record is of an encoder without a head, whose pooler is kept."""
    return said.head == "" and not said.embedding


def _convert_encoder(opened: Opened, said: Described, options: argparse.Namespace) -> str:
    """Writes the encoder alone, with its pooler and its tokenizer, and returns what it is called."""
    from kbert.encoders.bert import BertEncoder
    from kbert.tasks.from_preset import read_preprocessor

    if options.labels:
        raise ValueError(f"--labels is for a head, and {opened} is an encoder without one")
    has_vocabulary = said.vocabulary_size is not None
    preprocessor = read_preprocessor(opened, None, opened.own_settings["preprocessor"]) if has_vocabulary else None
    encoder = BertEncoder.from_preset(opened)
    encoder.save_to_preset(options.new, preprocessor, layout=options.layout)
    return "an encoder with its tokenizer" if has_vocabulary else "an encoder without a vocabulary, which the old files lack,"
