"""Reads tables: csv, tsv, jsonl, json and parquet files as columns of plain values, with the place of each row in its file."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from kbert.files.text_file import Path, check_file, lines_with_ends, read_lines, read_text, suffix_of

KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet"}
SEPARATORS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}
# Stands for a carriage return inside a line, which Python's csv would take for a line's end. No decoded file holds a surrogate.
_LONE_RETURN = "\udc0d"
_LONGEST_CELL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one length, and where their rows stand.

    Args:
      path: the file.
      names: the names of the columns, in the file's order.
      rows: the rows, each a list with a value for each name. All cells of csv and tsv files are strings, also `NA` and `1`. In
        the other kinds of files, a missing value is None.
      lines: the number of each row's first line in the file; None for json and parquet, whose rows are not lines.
      look: words for an error message that say which other kind of file this one looks like; empty if it looks like none.
    """

    path: Path
    names: list[str]
    rows: list[list[Any]]
    lines: list[int] | None = None
    look: str = ""

    def column(self, name: str) -> list[Any]:
        """Returns the values of a column; raises a ValueError unless exactly one column has the name."""
        if self.names.count(name) != 1:
            how_many = f"{self.names.count(name)} columns" if name in self.names else "no column"
            raise ValueError(f"{self.path} has {how_many} named {name!r}{self.look}")
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    def place(self, row: int) -> str:
        """Returns the name of a row, counted from 0, for an error."""
        return f"{self.path}, row {row + 1}" if self.lines is None else f"{self.path}, line {self.lines[row]}"


def read_table(path: Path, encoding: str | None = None, separator: str | None = None) -> Table:
    """Reads a csv, tsv, jsonl, json or parquet file, compressed if its name ends in `.gz`.

    Args:
      path: the file. A `.json` file holds a list of objects.
      encoding: the encoding of a text file; by default UTF-8, or what a byte order mark says.
      separator: the character between the cells of a csv or tsv file; by default a comma or a tab.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: the package that reads parquet is missing.
      ValueError: the content does not fit the file's suffix, or an option does not; the message names the line.
    """
    path = check_file(path)
    kind = KINDS.get(suffix_of(path))
    if kind is None:
        raise ValueError(f"{path}: a name that ends in {', '.join(KINDS)} is expected for this task")
    if separator is not None and kind not in ("csv", "tsv"):
        raise ValueError(f"{path}: a separator (--separator) is for csv and tsv files")
    if encoding is not None and kind == "parquet":
        raise ValueError(f"{path}: an encoding (--encoding) is for text files, not for parquet")
    if kind == "parquet":
        return _read_parquet(path)
    if kind in ("jsonl", "json"):
        return _read_objects(path, encoding, kind)
    usual = "\t" if kind == "tsv" else ","
    return _read_cells(path, encoding, usual if separator is None else check_separator(separator), kind)


# Cells


def check_separator(separator: str) -> str:
    """Returns a separator; raises a ValueError if it is not one character.

    Args:
      separator: the character. The strings `\\t` and `tab` stand for a tab, which is hard to type in a shell.
    """
    if separator in ("\\t", "tab"):
        return "\t"
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"a separator (--separator) is one character, and no quotation mark or line end; got {separator!r}")
    return separator


def _read_cells(path: Path, encoding: str | None, separator: str, kind: str) -> Table:
    """Reads a csv or tsv file."""
    lines = [_without_lone_returns(line) for line in lines_with_ends(path, encoding)]
    literal = kind == "tsv" and not _is_quoted(lines, separator)
    entries = _literal_cells(lines, separator) if literal else _quoted_cells(path, lines, separator)
    number, names = next(entries, (1, []))
    if not names:
        raise ValueError(f"{path}: the first line should name the columns, and it is empty")
    look = _look(names, separator)
    rows, numbers = [], []
    for number, cells in entries:
        if not cells and len(names) == 1:
            cells = [""]  # an empty line of one column is an empty cell
        if not cells:
            continue
        if len(cells) != len(names):
            raise ValueError(
                f"{path}, line {number} has {_count(len(cells))}, and the first line names {_count(len(names), 'column')}"
                f"{look or '; a cell that holds the separator has to be quoted'}"
            )
        rows.append(cells)
        numbers.append(number)
    return Table(path, names, rows, numbers, look)


def _without_lone_returns(line: str) -> str:
    """Returns a line with another character in place of each carriage return that does not end the line."""
    if "\r" not in line:
        return line
    end = "\r\n" if line.endswith("\r\n") else ""
    return line.removesuffix("\r\n").replace("\r", _LONE_RETURN) + end


def _with_returns(text: str) -> str:
    """Returns a text with the carriage returns that `_without_lone_returns` replaced."""
    return text.replace(_LONE_RETURN, "\r")


def _literal_cells(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line, where a quotation mark is a character like any other."""
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\n").removesuffix("\r")
        yield number, list(map(_with_returns, text.split(separator))) if text else []


def _quoted_cells(path: Path, lines: Sequence[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line's number and the cells of each row, whose quoted cells may hold separators and line ends."""
    with _long_cells():
        reader = csv.reader(lines, delimiter=separator, strict=True)
        number = 1
        try:
            for cells in reader:
                yield number, list(map(_with_returns, cells))
                number = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {number}: a cell that begins with a quotation mark does not end with one ({error}); double the "
                "quotation marks inside quoted cells, or save the file as .tsv, where they are characters like any other"
            ) from None


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Lets Python's csv read cells of any length."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _is_quoted(lines: Sequence[str], separator: str) -> bool:
    """Returns whether a tsv file has quoted cells: whether a csv writer would write its cells exactly as they are in the file.

    In most tsv files a quotation mark is a character like any other, but pandas and spreadsheets quote cells. If a quoted cell
    would hold line ends and separators, and each of its lines is a whole row, these rows are read instead.
    """
    if not any('"' in line for line in lines):
        return False
    try:
        with _long_cells():
            rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error:
        return False
    of_lines = {line.count(separator) for line in lines if line.strip("\r\n")}
    if len(of_lines) == 1 and any(separator in cell and "\n" in cell for row in rows for cell in row):
        return False
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    written = "".join(lines).removesuffix(end)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        quotes_returns = end.join(csv_lines([list(map(_with_returns, row)) for row in rows], separator, quoting))
        if end.join(csv_lines(rows, separator, quoting)) == written or quotes_returns == _with_returns(written):
            return len({len(row) for row in rows if row}) == 1
    return False


def csv_lines(rows: Iterable[Sequence[str]], separator: str, quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> list[str]:
    """Returns each row as a text without its line end.

    Args:
      rows: lists of cells.
      separator: the character between cells.
      quoting: `csv.QUOTE_MINIMAL` quotes the cells that hold a separator, a quotation mark or a line end; `csv.QUOTE_ALL` all.
    """
    lines: list[str] = []
    writer: Any = types.SimpleNamespace(write=lines.append)
    csv.writer(writer, delimiter=separator, quoting=quoting, lineterminator="\r\n").writerows(rows)
    return [line.removesuffix("\r\n") for line in lines]


def _look(names: Sequence[str], separator: str) -> str:
    """Returns words about a header whose names another character separates, or that still has quotation marks; "" otherwise."""
    if all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
        return "; some of its cells are quoted and others not, which a tsv file's are not: save it as csv"
    if len(names) == 1:
        for other, name in SEPARATORS.items():
            if other != separator and other in names[0]:
                return f"; it looks {name}-separated: give --separator {'tab' if other == chr(9) else repr(other)}"
    return ""


def _count(number: int, noun: str = "cell") -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


# Objects


def _read_objects(path: Path, encoding: str | None, kind: str) -> Table:
    """Reads objects, one a line or in a list, as a table with a column for each key."""
    objects, lines = [], []
    if kind == "json":
        objects = _parsed(read_text(path, encoding), f"{path}")
        if not isinstance(objects, list):
            raise ValueError(f"{path} should hold a list of objects, got {type(objects).__name__}")
    else:
        for number, line in enumerate(read_lines(path, encoding), 1):
            if line.strip(" \t\r"):
                objects.append(_parsed(line, f"{path}, line {number}"))
                lines.append(number)
    table = Table(path, list(dict.fromkeys(key for row in objects if isinstance(row, dict) for key in row)), [], lines or None)
    for number, row in enumerate(objects):
        if not isinstance(row, dict):
            raise ValueError(f"{table.place(number)} should be an object, got {json.dumps(row)[:80]}")
        table.rows.append([row.get(name) for name in table.names])
    return table


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object; raises a ValueError if two of its values have one name."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has two values named {next(name for name in names if names.count(name) > 1)!r}")
    return values


# Parquet


def _read_parquet(path: Path) -> Table:
    """Reads a parquet file. In the hub's ClassLabel columns, numbers become names, and -1, which stands for no label, None."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('parquet files are read with pyarrow: pip install "kbert[data]"') from error
    try:
        table = pyarrow.parquet.read_table(str(path), partitioning=None)
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} could not be read as parquet: {error}") from None
    features = _features(table.schema.metadata or {})
    named = [_with_names(column, features.get(name)) for name, column in zip(table.column_names, columns)]
    return Table(path, table.column_names, [list(row) for row in zip(*named)])


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Returns the description of columns that the `datasets` package writes into parquet files."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _with_names(values: list[Any], feature: Any) -> list[Any]:
    """Returns the values of a column with names in place of the numbers of classes."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, dict):
        return values
    if feature.get("_type") == "ClassLabel" and isinstance(names := feature.get("names"), list):
        return [names[value] if isinstance(value, int) and 0 <= value < len(names) else None for value in values]
    if "feature" in feature:
        return [_with_names(value, feature["feature"]) if isinstance(value, list) else value for value in values]
    return values
