"""The data files of the command line: csv, tsv, jsonl and parquet, read with pandas, BIO and SQuAD files, lines of text."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kbert.files.bio_file import read_bio
from kbert.files.squad_file import read_squad

if TYPE_CHECKING:
    import pandas as pd

Path = str | pathlib.Path
SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
# The usual names of columns.
TEXT, PAIR, LABEL = ("text", "sentence", "message", "sentence1"), ("pair", "sentence2", "other"), ("label", "labels", "target")
SEPARATOR = ";"  # between the labels of a text, where it can have several


def read_table(path: Path) -> pd.DataFrame:
    """Reads a file as a pandas table; the cells of csv and tsv are strings, also those that say NA or 1.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: pandas is missing.
      ValueError: the file is not what its name says.
    """
    path = check_file(path)
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError('data files are read with pandas: pip install "kbert[data]"') from error
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: a name that ends in {', '.join(SUFFIXES)} is expected for this task")
    try:
        if kind == "jsonl":
            return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
        if kind == "parquet":
            return pd.read_parquet(path)
        # In tab-separated files a quotation mark is a character like any other.
        how: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
        return pd.read_csv(path, dtype=str, keep_default_na=False, **how)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"{path} could not be read as {kind}: {error}") from error


def check_file(path: Path) -> pathlib.Path:
    """Returns the path of a file, or raises a FileNotFoundError if there is none."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def column(table: pd.DataFrame, name: str | None, path: Path, guesses: Sequence[str] = ()) -> list[Any]:
    """Returns a column as a list.

    Args:
      table: the table.
      name: the column's name; None for the first of `guesses` that the table has.
      path: the table's file, for the error.
      guesses: usual names of the column.

    Raises:
      ValueError: there is no such column; the message names those that there are.
    """
    names = [name] if name in table.columns else [] if name else [guess for guess in guesses if guess in table.columns]
    if not names:
        wanted = f"column {name!r}" if name else f"column named {' or '.join(guesses)}"
        there = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(f"{path} has no {wanted}; its columns are: {there}. Name yours with --text, --pair or --label")
    return table[names[0]].tolist()


def read_texts(path: Path, text: str | None = None, pair: str | None = None) -> Any:
    """Reads the texts of a file, a list, or pairs of them, a tuple of two lists.

    Args:
      path: a table, or a .txt file with a text in each line; empty lines are left out.
      text: the name of the column of texts; by default the first usual one.
      pair: the name of the column of second texts.
    """
    if pathlib.Path(path).suffix.lower() == ".txt":
        return [line for line in check_file(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts_of(read_table(path), path, text, pair)


def texts_of(table: pd.DataFrame, path: Path, text: str | None, pair: str | None) -> Any:
    """Returns the texts of a table, a list, or with `pair` a tuple of two lists; `path` is for the error."""
    texts = column(table, text, path, TEXT)
    return (texts, column(table, pair, path)) if pair else texts


def read_labelled(
    path: Path,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    numbers: bool = False,
    several: bool = False,
) -> tuple[Any, list[Any]]:
    """Reads texts, or pairs of them, and their labels.

    Args:
      path: a table.
      text: the name of the column of texts; by default the first usual one.
      pair: the name of the column of second texts.
      label: the name of the column of labels; by default the first usual one.
      numbers: whether the labels are numbers.
      several: whether a text can have several labels. They are lists, or strings with `;` between the labels.

    Raises:
      ValueError: a row has no label, or a label that is no number; the message names the file and the row.
    """
    table = read_table(path)
    texts, labels = texts_of(table, path, text, pair), column(table, label, path, LABEL)
    if numbers:
        labels = [number(value, path, row) for row, value in enumerate(labels)]
    elif several:
        labels = [
            [name.strip() for name in value.split(SEPARATOR) if name.strip()] if isinstance(value, str) else list(value)
            for value in labels
        ]
    else:
        labels = [value if isinstance(value, str) else str(value) for value in labels]
        empty = next((row for row, value in enumerate(labels) if not value.strip() or value in ("nan", "None")), None)
        if empty is not None:
            raise ValueError(f"{path}: row {empty + 1} has no label; drop it, or give it one")
    return texts, labels


def number(value: Any, path: Path, row: int) -> float:
    """Returns a cell as a number; `path` and `row`, counted from 0, are for the error."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: row {row + 1} has {value!r} where a number is expected") from None


def read_words(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Reads words and their tags, from a table whose columns words and tags hold lists, or from a BIO file."""
    if pathlib.Path(path).suffix.lower() in (".jsonl", ".parquet"):
        table = read_table(path)
        words = [list(row) for row in column(table, None, path, ("words", "tokens"))]
        return words, [list(row) for row in column(table, None, path, ("tags", "ner_tags", "labels"))]
    return read_bio(check_file(path))


def read_questions(path: Path) -> tuple[tuple[list[str], list[str]], list[list[dict[str, Any]]]]:
    """Reads `(questions, contexts)` and answers.

    Args:
      path: a SQuAD file, or a table with the columns question, context, answer and start. An empty answer is none.
    """
    if pathlib.Path(path).suffix.lower() == ".json":
        data = read_squad(check_file(path))
        return (data["question"], data["context"]), data["answers"]
    table = read_table(path)
    columns = {name: column(table, None, path, (name,)) for name in ("question", "context", "answer", "start")}
    answers = [
        [{"text": answer, "start": int(number(start, path, row))}] if answer else []
        for row, (answer, start) in enumerate(zip(columns["answer"], columns["start"]))
    ]
    return (columns["question"], columns["context"]), answers


def read_asked_questions(path: Path) -> tuple[list[str], list[str]]:
    """Reads questions and contexts without answers, from a table with the columns question and context."""
    table = read_table(path)
    return column(table, None, path, ("question",)), column(table, None, path, ("context",))


def read_pairs(
    path: Path, text: str | None = None, pair: str | None = None, label: str | None = None
) -> tuple[tuple[list[str], list[str]], list[float] | None]:
    """Reads pairs of texts that belong together, and their scores if the table has a column of them.

    Args:
      path: a table.
      text: the name of the column of first texts; by default anchor, or the first usual one.
      pair: the name of the column of second texts; by default positive, or the first usual one.
      label: the name of the column of scores; by default score, if there is one.
    """
    table = read_table(path)
    pairs = (column(table, text, path, ("anchor", *TEXT)), column(table, pair, path, ("positive", *PAIR)))
    if label is None and "score" not in table.columns:
        return pairs, None
    return pairs, [number(value, path, row) for row, value in enumerate(column(table, label, path, ("score",)))]
