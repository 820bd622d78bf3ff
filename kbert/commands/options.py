"""Adds the options that several commands share, with their ranges, and checks the files that the options name.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
from collections.abc import Callable, Sequence

from kbert.checkpoints import catalogue, hub
from kbert.files.atomic import recover
from kbert.files.table_file import check_separator
from kbert.files.targets import ANY_FILE, Kind, check_target
from kbert.files.targets import check_writable as check_writable  # commands name it with the other checks
from kbert.files.text_file import check_encoding

MODEL, PRESET = "task.keras", "preset"  # in the folder that finetune writes
HELD_OUT = 0.2
OBJECTIVE = "nsp"

# Ranges


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns the type of an option that is a whole number.

    Args:
      least: the smallest number that makes sense.
      most: the largest one, if there is one.
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a whole number is expected, got {text!r}") from None
        if value < least or (most is not None and value > most):
            top = "" if most is None else f", {most} at most"
            raise argparse.ArgumentTypeError(f"a whole number of at least {least}{top} is expected, got {value}")
        return value

    return read


def number(what: str, is_right: Callable[[float], bool]) -> Callable[[str], float]:
    """Returns the type of an option that is a finite number.

    Args:
      what: says which numbers make sense, for example `"a number above 0"`.
      is_right: whether a number makes sense.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{what} is expected, got {text!r}") from None
        if not math.isfinite(value) or not is_right(value):
            raise argparse.ArgumentTypeError(f"{what} is expected, got {text}")
        return value

    return read


def checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """Returns the type of an option whose value a function checks.

    Args:
      check: a function that returns the value, or raises a ValueError for a wrong one.
    """

    def read(text: str) -> str:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


positive = number("a number above 0", lambda value: value > 0)
share = number("a share between 0 and 1", lambda value: 0 < value < 1)
part = number("a share from 0 to 1", lambda value: 0 <= value <= 1)
below_one = number("a share from 0, below 1", lambda value: 0 <= value < 1)
positions = whole(least=4)  # the least that `TextPreprocessor` takes

# Options


def model(parser: argparse.ArgumentParser, name: str = "model", **kwargs: object) -> None:
    """Adds the trained task that a command opens.

    Args:
      parser: the command's parser.
      name: the argument's name; one that begins with `--` is an option.
      **kwargs: other arguments of `add_argument`.
    """
    parser.add_argument(name, help="a .keras file, or the folder that finetune wrote", **kwargs)  # type: ignore[arg-type]


def columns(parser: argparse.ArgumentParser, labels: bool = True) -> None:
    """Adds the options that name a table's columns, and those of `text_files`.

    Args:
      parser: the command's parser.
      labels: whether there are options for the columns and names of labels too.
    """
    parser.add_argument(
        "--text",
        help="the column of texts (default: text, sentence, message or sentence1; anchor for embedding), of words or of "
        "questions; of a BIO file the number of the words' column, from 1",
    )
    parser.add_argument("--pair", help="the column of second texts, for pairs; of contexts, for qa")
    if labels:
        parser.add_argument(
            "--label",
            nargs="+",
            help="the column of labels, numbers, tags or answers (default: label, labels or target; score for embedding); for "
            "multi-label also columns of ones and zeros; of a BIO file the number of the tags' column, from 1",
        )
        parser.add_argument("--names", nargs="+", help="the names of labels or tags that are numbers, in order from 0")
    text_files(parser)


def text_files(parser: argparse.ArgumentParser, separator: bool = True) -> None:
    """Adds the options that say how text files are read.

    Args:
      parser: the command's parser.
      separator: whether there is an option for the separator of csv and tsv files too.
    """
    parser.add_argument(
        "--encoding",
        type=checked(check_encoding),
        help="of text files, e.g. windows-1252 (default: UTF-8, or what a byte order mark says)",
    )
    if separator:
        parser.add_argument(
            "--separator",
            type=checked(check_separator),
            help="between the cells of csv and tsv files, e.g. ';' (default: a comma or a tab)",
        )


def held_out(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say on which examples a trained task is measured: those of a file, or a share of the data."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--test", help="a file to measure by, in place of --held-out")
    chosen.add_argument(
        "--held-out", type=share, help=f"the share of the data to measure by, drawn by label (default: {HELD_OUT})"
    )


def training(parser: argparse.ArgumentParser, learning_rate: float, epochs: str | None = None) -> None:
    """Adds the numbers of a training.

    Args:
      parser: the command's parser.
      learning_rate: the default learning rate.
      epochs: the help of `--epochs`.
    """
    parser.add_argument("--epochs", type=whole(1), default=3, help=epochs)
    parser.add_argument("--batch-size", type=whole(1), default=32)
    parser.add_argument("--learning-rate", type=positive, default=learning_rate)


def one_a_line(parser: argparse.ArgumentParser) -> None:
    """Adds the option for text files without blank lines between documents."""
    parser.add_argument("--one-a-line", action="store_true", help="a line is a document")


def cased(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Adds the option for a tokenizer that keeps case; `condition` ends its help."""
    parser.add_argument("--cased", action="store_true", help=f"keep upper case and accents{condition}")


def masking(parser: argparse.ArgumentParser, objectives: tuple[str, ...]) -> None:
    """Adds the options for pretraining examples: the objective, and whether words are hidden as a whole.

    Args:
      parser: the command's parser.
      objectives: the objectives to choose from.
    """
    parser.add_argument("--objective", choices=objectives, help=f"(default: {OBJECTIVE})")
    parser.add_argument("--whole-words", action="store_true", help="hide words with all of their pieces")


def seed(parser: argparse.ArgumentParser) -> None:
    """Adds the seed of all random draws."""
    parser.add_argument("--seed", type=whole(0, 2**32 - 2), default=0)  # NumPy's range, with room for a second seed


def overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds the option to replace an output that exists."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


# Files


def check_files(*paths: str | None, folders: bool = False) -> None:
    """Raises a FileNotFoundError for a path that does not exist.

    Args:
      *paths: the paths. None stands for an option that was not given, and is passed over.
      folders: whether a path may be a folder.
    """
    for path in paths:
        if path is not None and not (os.path.exists(path) if folders else os.path.isfile(path)):
            raise FileNotFoundError(f"there is no file {path}" + (" and no such folder" if folders else ""))


def model_file(path: str | pathlib.Path) -> pathlib.Path:
    """Returns the `.keras` file of a trained task, given by itself or by the folder that finetune wrote.

    Args:
      path: the file, or the folder.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is of another kind.
    """
    path = pathlib.Path(path)
    recover(path)
    if path.is_dir():
        if (path / MODEL).is_file():
            return path / MODEL
        raise FileNotFoundError(
            f"the folder {path} holds no {MODEL}; name a folder that kbert finetune wrote, or a .keras file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix != ".keras":
        raise ValueError(f"{path} is no .keras file; name one, or a folder that kbert finetune wrote")
    return path


def check_out(path: str, overwrite: bool, kind: Kind = ANY_FILE, read: Sequence[str] = ()) -> None:
    """Raises an error if a command cannot write its result.

    Args:
      path: the file or folder to write.
      overwrite: whether an existing file or folder may be replaced.
      kind: the kind of the result.
      read: files and folders that the command reads, which the result may not replace.

    Raises:
      ValueError: the command reads this path.
      FileExistsError: the path exists and may not be replaced.
      OSError: nothing can be written there.
    """
    for given in read:
        if os.path.exists(path) and os.path.samefile(path, given):
            raise ValueError(f"{path} is what the command reads, and would be lost: give another path to write to")
    check_target(path, overwrite, kind)


def check_preset(name: str) -> None:
    """Raises an error for a preset that cannot be opened. A name of the hub is not looked up.

    Args:
      name: the preset.

    Raises:
      FileNotFoundError: the preset is neither a folder nor a name that kbert knows.
      ImportError: the preset's package is not installed.
    """
    if name.startswith(hub.SCHEME) or pathlib.Path(name).is_dir():
        return
    preset = catalogue.find_built_in(name)
    if preset is None:
        raise FileNotFoundError(catalogue.unknown(name))
    catalogue.check_installed(preset)
