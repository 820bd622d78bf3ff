"""`kbert push`: a preset folder with its card to a repository of a hub."""

from __future__ import annotations

import argparse
import fnmatch
import pathlib

from kbert.checkpoints.described import describe
from kbert.checkpoints.hub_upload import read_target
from kbert.checkpoints.opened import FORMATS, find_folder, open_preset
from kbert.checkpoints.own_settings import CARD
from kbert.checkpoints.preset_folder import WRITTEN
from kbert.checkpoints.source_card import read_header
from kbert.files.targets import files_in, some_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", help="a folder that save_to_preset or kbert convert wrote, with its README.md")
    parser.add_argument("place", help="hf://owner/name, which is made if it is not there")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="the branch to upload to, which is made if it is not there (default: main)")
    parser.add_argument(
        "--include", nargs="+", default=[], metavar="FILE", help="other files of the folder to upload, by their names in it"
    )


def check(options: argparse.Namespace) -> None:
    """Raises an error for a wrong place, and for a folder that is not whole or has no card."""
    read_target(options.place, options.revision)
    if not pathlib.Path(options.folder).is_dir():
        raise FileNotFoundError(f"there is no folder {options.folder}")
    chosen_files(options)


def chosen_files(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Returns the names of the files to upload, and of those that stay.

    Args:
      options: the command's options.

    Raises:
      FileNotFoundError: there is no card, no weights, no vocabulary, or no file of a name in `--include`.
      ValueError: the folder holds another model's files, or a card without a header.
    """
    folder = find_folder(options.folder)
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"{folder} has no {CARD}, the card that a repository shows; a task's save_to_preset writes one")
    if not read_header(folder / CARD):
        raise ValueError(
            f"{folder / CARD} has no header of YAML between two lines of ---, from which a hub reads what the model is"
        )
    with open_preset(folder) as opened:
        said = describe(opened)
        layout = next((name for name, module in FORMATS.items() if module is opened.format), "huggingface")
    if said.missing:
        raise FileNotFoundError(said.missing[0])
    names = files_in(folder)
    absent = [name for name in options.include if name not in names]
    if absent:
        raise FileNotFoundError(f"--include: {folder} has no file {absent[0]}")
    written = (*WRITTEN[layout], CARD)
    chosen = [
        name
        for name in names
        if name in options.include or any(fnmatch.fnmatchcase(name.split("/")[0], pattern) for pattern in written)
    ]
    if not any(name.startswith(said.weights) for name in chosen):
        raise ValueError(
            f"{folder} has its weights in {said.weights}, which kbert did not write; kbert convert writes a folder to push"
        )
    links = [name for name in chosen if (folder / name).is_symlink()]
    if links:
        raise ValueError(f"{folder / links[0]} is a link to another file; copy the file there to upload it")
    return chosen, [name for name in names if name not in chosen]


def run(options: argparse.Namespace) -> None:
    """Uploads the files of a preset and says which files stay."""
    from kbert.checkpoints.hub_upload import upload

    chosen, others = chosen_files(options)
    address = upload(find_folder(options.folder), chosen, options.place, options.private, options.revision)
    print(f"{options.place}: {len(chosen)} files uploaded, {address}")
    if others:
        print(f"left here, because they are no part of the model (--include uploads them): {some_of(others)}")
