"""Data files of the command line, to the columns that tasks take: csv, tsv, jsonl and parquet through pandas, BIO and SQuAD files."""

import csv
import json
import pathlib

from kbert.scoring.entities import read_bio
from kbert.scoring.squad import read_squad

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
SEPARATOR = ";"  # between the labels of a text, where it can have several


def read_table(path):
    """A file as a pandas table; cells of csv and tsv are strings, also those that say NA or 1.

    Raises:
      FileNotFoundError, ImportError, ValueError: there is no such file, pandas is missing, or the file is not what its name says.
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
        how = {"sep": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
        return pd.read_csv(path, dtype=str, keep_default_na=False, **how)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"{path} could not be read as {kind}: {error}") from error


def check_file(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def column(table, name, path, guesses=()):
    """A column by its name, or the first of some usual names, as a list."""
    found = [name] if name in table.columns else [] if name else [guess for guess in guesses if guess in table.columns]
    if not found:
        wanted = f"column {name!r}" if name else f"column named {' or '.join(guesses)}"
        there = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(f"{path} has no {wanted}; its columns are: {there}. Name yours with --text, --pair or --label")
    return table[found[0]].tolist()


TEXT, PAIR, LABEL = ("text", "sentence", "message", "sentence1"), ("pair", "sentence2", "other"), ("label", "labels", "target")


def read_texts(path, text=None, pair=None):
    """The texts of a file, or pairs of them: a table's column, or the lines of a .txt file."""
    if pathlib.Path(path).suffix.lower() == ".txt":
        return [line for line in check_file(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts_of(read_table(path), path, text, pair)


def texts_of(table, path, text, pair):
    texts = column(table, text, path, TEXT)
    return (texts, column(table, pair, path)) if pair else texts


def read_labelled(path, text=None, pair=None, label=None, numbers=False, several=False):
    """Texts (or pairs) and their labels; numbers for a regression, lists where a text can have several."""
    table = read_table(path)
    texts, labels = texts_of(table, path, text, pair), column(table, label, path, LABEL)
    if numbers:
        labels = [number(value, path, row) for row, value in enumerate(labels)]
    elif several:
        labels = [
            [one.strip() for one in value.split(SEPARATOR) if one.strip()] if isinstance(value, str) else list(value)
            for value in labels
        ]
    else:
        labels = [value if isinstance(value, str) else str(value) for value in labels]
        empty = next((row for row, value in enumerate(labels) if not value.strip() or value in ("nan", "None")), None)
        if empty is not None:
            raise ValueError(f"{path}: row {empty + 1} has no label; drop it, or give it one")
    return texts, labels


def number(value, path, row):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: row {row + 1} has {value!r} where a number is expected") from None


def read_words(path):
    """Words with tags: of a table with columns words and tags, which hold lists, or of a BIO file."""
    if pathlib.Path(path).suffix.lower() in (".jsonl", ".parquet"):
        table = read_table(path)
        return [list(row) for row in column(table, None, path, ("words", "tokens"))], [
            list(row) for row in column(table, None, path, ("tags", "ner_tags", "labels"))
        ]
    return read_bio(check_file(path))


def read_questions(path):
    """`(questions, contexts)` and answers, of a SQuAD file or of a table with question, context, answer and start."""
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


def read_pairs(path, text=None, pair=None, label=None):
    """Pairs of texts that belong together, with scores where there is a column of them."""
    table = read_table(path)
    pairs = (column(table, text, path, ("anchor", *TEXT)), column(table, pair, path, ("positive", *PAIR)))
    if label is None and "score" not in table.columns:
        return pairs, None
    return pairs, [number(value, path, row) for row, value in enumerate(column(table, label, path, ("score",)))]
