"""Reads cells of a table as labels (one or several, by name or number, in lists or columns of ones and zeros) or answers."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kbert.files.numbered_labels import check_names, label_of
from kbert.files.table_file import Table

SEPARATOR = ";"  # between the labels of a text, where it can have several
OTHER_SEPARATORS = (",", "|")  # the separators of other files, for example GoEmotions'
_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d*)?|True|False"""
_LIST = re.compile(rf"\[\s*(?:(?:{_ITEM})(?:(?:\s*,\s*|\s+)(?:{_ITEM}))*\s*,?)?\s*\]", re.DOTALL)
# Lists, sets, tuples and arrays as Python writes them. Names may hold brackets too, except square ones.
_LOOKS_LIKE_A_LIST = re.compile(r"""\[.*\]|[a-z]*[({\[]+\s*['"].*['"].*[)}\]]""", re.DOTALL)
_ONES_AND_ZEROS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class LabelCells:
    """Reads columns of labels.

    Args:
      table: the table.
      names: the names of labels that are numbers, in order, or None.
    """

    def __init__(self, table: Table, names: Sequence[str] | None) -> None:
        check_names(names or ())
        self.table, self.names = table, names

    def single(self, name: str) -> list[str]:
        """Returns a column in which each row has one label."""
        labels = []
        for row, value in enumerate(self.table.column(name)):
            if isinstance(value, dict) or list_of_cell(value) is not None:
                raise ValueError(f"{self.table.place(row)} has several labels, {value!r:.80}; that is --task multi-label")
            if not _is_label(value):
                raise ValueError(f"{self.table.place(row)} has no label; drop it, or give it one")
            labels.append(self.label(value, row))
        return labels

    def several(self, name: str) -> list[list[str]]:
        """Returns a column in which each row has any number of labels."""
        rows = [self._cell(value, row) for row, value in enumerate(self.table.column(name))]
        width = {len(values) for values in rows}
        binary = [[_one_or_zero(value) for value in values] if not _has_texts(values) else [None] for values in rows]
        if len(width) == 1 and max(width) > 1 and all(None not in values for values in binary):
            if self.names is None:  # as numbers of labels, each row would have one label twice, or both labels 0 and 1
                raise ValueError(
                    f"{self.table.path}: the column {name!r} holds lists of ones and zeros; give the labels' names in order "
                    "with --names"
                )
            if self.names is not None and max(width) == len(self.names):
                return [[label for label, value in zip(self.names, values) if value] for values in binary]
        if self.names is None:
            self._check_separator(name, rows)
        return [[self.label(value, row) for value in values] for row, values in enumerate(rows)]

    def _check_separator(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Raises a ValueError for a label in a text cell that looks like several labels with another separator between them.

        A label looks like several if each of its parts is a label elsewhere, alone or as a part of another one.
        """
        cells = self.table.column(name)
        if any(not isinstance(cell, str) or SEPARATOR in cell or list_of_cell(cell) is not None for cell in cells):
            return
        labels = {values[0]: row for row, values in enumerate(rows) if values}
        for separator in OTHER_SEPARATORS:
            parts = {label: {part.strip() for part in label.split(separator)} for label in labels}
            holders = Counter(part for of_label in parts.values() for part in of_label)
            for label, row in labels.items():
                if separator in label and all(holders[part] > 1 for part in parts[label]):
                    raise ValueError(
                        f"{self.table.place(row)}: {label!r:.80} looks like several labels with {separator!r} between them; "
                        f"write {SEPARATOR!r} there, or a list such as ['a', 'b']"
                    )

    def _cell(self, value: Any, row: int) -> list[Any]:
        """Returns the labels of a cell as the cell states them."""
        values = list_of_cell(value)
        if values is None and isinstance(value, str):
            if _LOOKS_LIKE_A_LIST.fullmatch(value.strip()):
                raise ValueError(f"{self.table.place(row)}: {value!r:.80} looks like a list; write it as ['a', 'b'] or as a;b")
            values = [name.strip() for name in value.split(SEPARATOR) if name.strip()]
        if values is None and isinstance(value, (int, float)) and value == value:
            values = [value]
        if values is None:
            raise ValueError(
                f"{self.table.place(row)} has no labels, {value!r:.80}; a text without a label has an empty list, []"
            )
        if not all(map(_is_label, values)):
            raise ValueError(f"{self.table.place(row)} has a label that is none, in {value!r:.80}")
        return values

    def of_columns(self, columns: Sequence[str]) -> list[list[str]]:
        """Returns the labels of columns that hold 1 where the row has the label of the column's name, and 0 otherwise."""
        labels: list[list[str]] = [[] for _ in self.table.rows]
        for name in columns:
            for row, value in enumerate(self.table.column(name)):
                there = _one_or_zero(value)
                if there is None:
                    raise ValueError(f"{self.table.place(row)}: the column {name!r} should hold 0 or 1, got {value!r:.80}")
                labels[row] += [name] * there
        return labels

    def binary_columns(self) -> list[str]:
        """Returns the names of the columns of ones and zeros."""
        names = [name for name in self.table.names if self.table.names.count(name) == 1]
        return [name for name in names if all(_one_or_zero(value) is not None for value in self.table.column(name))]

    def tags(self, name: str) -> list[list[str]]:
        """Returns a column of lists of tags."""
        tags = []
        for row, cell in enumerate(self.table.column(name)):
            values = list_of_cell(cell)
            if values is None or not all(map(_is_label, values)):
                raise ValueError(f"{self.table.place(row)}: the column {name!r} should hold lists of tags, got {cell!r:.80}")
            if self.names is None and any(not isinstance(value, str) for value in values):
                raise ValueError(
                    f"{self.table.place(row)}: the tags in the column {name!r} are numbers; give their names in order with "
                    "--names, e.g. --names O B-PER I-PER (parquet files that datasets wrote hold the names)"
                )
            tags.append([self.label(value, row) for value in values])
        return tags

    def label(self, value: Any, row: int) -> str:
        """Returns the name of a label.

        Args:
          value: the name, or the number of the label if there are names.
          row: the number of the row, counted from 0, for the error.

        Raises:
          ValueError: the value is neither one of the names nor the number of one.
        """
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.names is None:
            return str(value)
        label = label_of(value, self.names) if value in self.names else label_of(str(value).strip(), self.names)
        if label is None:
            raise ValueError(
                f"{self.table.place(row)}: {value!r:.80} is none of the {len(self.names)} names, and no number of one, from 0"
            )
        return label


def _is_label(value: Any) -> bool:
    """Returns whether a value can be a label: it is not missing, blank, NaN, a list or a dictionary."""
    return value is not None and value == value and not isinstance(value, (list, dict)) and str(value).strip() != ""


def _has_texts(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _one_or_zero(value: Any) -> int | None:
    """Returns 1 or 0 for a value that means one or zero, also as text (`true`, `0.0`); otherwise None."""
    return _ONES_AND_ZEROS.get(str(value).strip().lower())


def list_of_cell(cell: Any) -> list[Any] | None:
    """Returns the list in a cell, also if Python, NumPy or JSON wrote it as text; None if the cell holds no list.

    >>> list_of_cell("['a', 'b']"), list_of_cell("['a' 'b']"), list_of_cell("a")
    (['a', 'b'], ['a', 'b'], None)

    Args:
      cell: the value of the cell.
    """
    if isinstance(cell, str):
        return _list_of_text(cell.strip())
    return list(cell) if isinstance(cell, (list, tuple)) else None


def _list_of_text(text: str) -> list[Any] | None:
    """Returns a list that was written as text. JSON is tried first, because its escapes of characters differ from Python's."""
    if not text.startswith("["):
        return None
    try:
        values = json.loads(text)
        return None if any(isinstance(value, (list, dict)) for value in values) else values
    except (ValueError, RecursionError):
        pass
    try:
        return [ast.literal_eval(item) for item in re.findall(_ITEM, text, re.DOTALL)] if _LIST.fullmatch(text) else None
    except (ValueError, SyntaxError):  # the list holds a number with more digits than Python reads
        return None


def answers_of_cell(cell: Any, place: str, name: str) -> list[dict[str, Any]]:
    """Returns the answers of a question, `{"text", "start"}` each.

    Args:
      cell: `{"text": [...], "answer_start": [...]}`, as the hub's SQuAD tables have it, a list of `{"text", "answer_start"}`,
        or one of these as JSON or as Python writes it. `start` is taken for `answer_start`.
      place: the name of the row, for the error.
      name: the name of the column, for the error.

    Raises:
      ValueError: the cell has none of these forms.
    """
    value = cell
    if isinstance(cell, str):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(cell)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        entries = list(zip(texts, starts)) if isinstance(texts, list) and isinstance(starts, list) else None
        right = entries is not None and len(texts) == len(starts)  # type: ignore[arg-type]
    else:
        right = isinstance(value, list) and all(isinstance(answer, dict) for answer in value)
        entries = [(answer.get("text"), answer.get("answer_start", answer.get("start"))) for answer in value] if right else None
    if not right or not all(isinstance(text, str) and type(start) is int and start >= 0 for text, start in entries or []):
        raise ValueError(
            f'{place}: the column {name!r} should hold answers, {{"text": [...], "answer_start": [...]}}, got {cell!r:.80}; or '
            "name columns answer and start"
        )
    return [{"text": text, "start": start} for text, start in entries or []]
