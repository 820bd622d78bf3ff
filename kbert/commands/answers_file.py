"""Writes answers beside their inputs, as rows of a jsonl, csv or tsv file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np

from kbert.commands.asked import Asked
from kbert.files.table_file import csv_lines
from kbert.files.text_file import Path, suffix_of

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": ",", ".tsv": "\t"}


def kind_of(path: Path) -> str:
    """Returns the kind of file that a name says: `jsonl`, or the separator of a csv or tsv file.

    Args:
      path: the file to write.

    Raises:
      ValueError: the name says another kind, or a compressed file.
    """
    kind = KINDS.get(suffix_of(path))
    if kind is None or str(path).lower().endswith(".gz"):
        raise ValueError(f"{path}: answers are written to files whose names end in {', '.join(KINDS)}")
    return kind


def json_lines(asked: Asked, answers: Sequence[Any]) -> list[str]:
    """Returns a JSON object for each row: its number, counted from 1, its columns as `input`, and its `answer`.

    Args:
      asked: the rows that were asked.
      answers: an answer for each row.
    """
    rows = zip(asked.inputs, map(_plain, answers), strict=True)
    return [_json({"row": row, "input": given, "answer": answer}) for row, (given, answer) in enumerate(rows, 1)]


def write_answers(file: IO[str], kind: str, asked: Asked, answers: Sequence[Any]) -> None:
    """Writes answers beside their inputs.

    A row of a csv or tsv file has its number, counted from 1, the input's columns, and the answer. If answers are dictionaries,
    each key has a column, whose name is `answer_` and the key; otherwise there is one column `answer`. Lists and dictionaries
    in cells are JSON.

    Args:
      file: the file, opened without a translation of line ends.
      kind: the kind of file, from `kind_of`.
      asked: the rows that were asked.
      answers: an answer for each row.
    """
    if kind == "jsonl":
        file.writelines(line + "\n" for line in json_lines(asked, answers))
        return
    plain = [_plain(answer) for answer in answers]
    of_input = list(dict.fromkeys(name for given in asked.inputs for name in given))
    keys = list(dict.fromkeys(key for answer in plain if isinstance(answer, dict) for key in answer))
    rows = [
        [
            str(row),
            *(_cell(given.get(name)) for name in of_input),
            *([_cell(answer.get(key)) for key in keys] if keys else [_cell(answer)]),
        ]
        for row, (given, answer) in enumerate(zip(asked.inputs, plain, strict=True), 1)
    ]
    head = [_free("row", of_input), *map(_writable, of_input), *(_free(f"answer_{key}", of_input) for key in keys)]
    head += [] if keys else [_free("answer", of_input)]
    file.writelines(line + "\n" for line in csv_lines([head, *rows], kind))


def _free(name: str, taken: Iterable[str]) -> str:
    """Returns a name for a column that no column of the input has."""
    while name in taken:
        name += "_"
    return name


def _plain(answer: Any) -> Any:
    return answer.tolist() if isinstance(answer, (np.ndarray, np.generic)) else answer


def _cell(value: Any) -> str:
    """Returns a value as the text of a cell: a text as it is, None as nothing, and anything else as JSON."""
    if value is None or isinstance(value, str):
        return _writable(value or "")
    return _json(value)


def _json(value: Any) -> str:
    """Returns a value as JSON. NaN and infinity, which JSON lacks, become null. Dates and other objects become texts."""
    return _writable(json.dumps(_finite(value), ensure_ascii=False, default=str))


def _writable(text: str) -> str:
    """Returns a text in which lone surrogates, which JSON may hold and UTF-8 cannot, are escaped like `\\ud83d`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
