"""The options that several commands share, each said once."""

from __future__ import annotations

import argparse


def model(parser: argparse.ArgumentParser, name: str = "model", **kwargs: object) -> None:
    """Adds the trained task that a command opens.

    Args:
      parser: the command's parser.
      name: the argument's name; one that begins with `--` is an option.
      **kwargs: other arguments of `add_argument`.
    """
    parser.add_argument(name, help="a .keras file, or the folder that finetune wrote", **kwargs)  # type: ignore[arg-type]


def columns(parser: argparse.ArgumentParser, labels: bool = True) -> None:
    """Adds the options that name a table's columns; without `labels` those of texts alone."""
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
    """Adds the options that say how text files are read; without `separator` that of encodings alone."""
    parser.add_argument("--encoding", help="of text files, e.g. windows-1252 (default: UTF-8, or what a byte order mark says)")
    if separator:
        parser.add_argument("--separator", help="between the cells of csv and tsv files, e.g. ';' (default: a comma or a tab)")


def held_out(parser: argparse.ArgumentParser) -> None:
    """Adds what a trained task is measured by: a file, or a share of the data."""
    parser.add_argument("--test", help="a file to measure by, in place of --held-out")
    parser.add_argument("--held-out", type=float, default=0.2, help="the share of the data to measure by (default: 0.2)")


def training(parser: argparse.ArgumentParser, learning_rate: float, epochs: str | None = None) -> None:
    """Adds the numbers of a training.

    Args:
      parser: the command's parser.
      learning_rate: the default learning rate.
      epochs: the help of `--epochs`.
    """
    parser.add_argument("--epochs", type=int, default=3, help=epochs)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)


def one_a_line(parser: argparse.ArgumentParser) -> None:
    """Adds the option for text files without blank lines between documents."""
    parser.add_argument("--one-a-line", action="store_true", help="a line is a document")


def cased(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Adds the option for a tokenizer that keeps case; `condition` ends its help."""
    parser.add_argument("--cased", action="store_true", help=f"keep upper case and accents{condition}")


def masking(parser: argparse.ArgumentParser, objectives: tuple[str, ...]) -> None:
    """Adds what pretraining examples ask: the objective, one of `objectives`, and which tokens are hidden together."""
    parser.add_argument("--objective", default="nsp", choices=objectives)
    parser.add_argument("--whole-words", action="store_true", help="hide words with all of their pieces")


def seed(parser: argparse.ArgumentParser) -> None:
    """Adds the seed of all random draws."""
    parser.add_argument("--seed", type=int, default=0)


def overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds the option to replace an output that exists."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
