"""Reads data files of the command line as inputs and targets of tasks: texts, pairs, labels, words, questions."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

from kbert.commands.label_cells import LabelCells, answers_of_cell, list_of_cell
from kbert.files.bio_file import read_bio
from kbert.files.squad_file import answers_in_place, questions_in_place, report_misplaced
from kbert.files.table_file import Table, read_table
from kbert.files.text_file import Path, read_lines, suffix_of
from kbert.scoring.tag_schemes import NotATag, check_tags

# The usual names of columns.
TEXT, PAIR, LABEL = ("text", "sentence", "message", "sentence1"), ("pair", "sentence2", "other"), ("label", "labels", "target")
WORDS, TAGS = ("words", "tokens"), ("tags", "ner_tags", "labels")
OF_LISTS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv")  # tables whose cells may hold lists of words; .tsv is BIO


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a data file is read.

    Args:
      encoding: the encoding of a text file; by default UTF-8, or what a byte order mark says.
      separator: the character between the cells of a csv or tsv file; by default a comma or a tab.
      names: the names of labels that are numbers, in order.
    """

    encoding: str | None = None
    separator: str | None = None
    names: Sequence[str] | None = None

    def table(self, path: Path) -> Table:
        """Reads a table."""
        return read_table(path, self.encoding, self.separator)

    def only_text(self, path: Path) -> str | None:
        """Returns the encoding of a file that is no table; raises a ValueError if a separator was given."""
        if self.separator is not None:
            raise ValueError(f"{path}: --separator is for csv and tsv files")
        return self.encoding


USUAL = Reading()


def column(table: Table, name: str | None, guesses: Sequence[str] = (), option: str = "--text, --pair or --label") -> str:
    """Returns the name of a column of a table.

    Args:
      table: the table.
      name: the column's name; None for the first of `guesses` that the table has.
      guesses: usual names of the column.
      option: the option that names the column, for the error.

    Raises:
      ValueError: there is no such column; the message names the columns of the table.
    """
    chosen = [name] if name in table.names else [] if name else [guess for guess in guesses if guess in table.names]
    if not chosen:
        wanted = f"column {name!r}" if name else f"column named {' or '.join(guesses)}"
        there = ", ".join(map(str, table.names[:30])) or "none"
        cure = table.look or f". Name yours with {option}"
        raise ValueError(f"{table.path} has no {wanted}; its columns are: {there}{cure}")
    return chosen[0]


def texts_of(table: Table, name: str | None, guesses: Sequence[str] = TEXT, option: str = "--text") -> list[str]:
    """Returns a column of texts.

    Args:
      table: the table.
      name: the column's name; None for the first of `guesses` that the table has.
      guesses: usual names of the column.
      option: the option that names the column, for the error.

    Raises:
      ValueError: there is no such column, or a row has no text in it; the message names the first such row.
    """
    name = column(table, name, guesses, option)
    values = table.column(name)
    for row, value in enumerate(values):
        if value is None:
            raise ValueError(f"{table.place(row)} has no text in the column {name!r}; drop the row, or give it one")
        if not isinstance(value, str):
            raise ValueError(f"{table.place(row)}: the column {name!r} should hold texts, got {value!r:.80}")
    return values


# Texts and labels


def read_texts(path: Path, text: str | None = None, pair: str | None = None, how: Reading = USUAL) -> Any:
    """Reads the texts of a file as a list, or pairs of texts as a tuple of two lists.

    Args:
      path: a table, or a .txt file with a text in each line. Blank lines are left out, and a warning gives their numbers.
      text: the name of the column of texts; by default the first usual one.
      pair: the name of the column of second texts.
      how: how the file is read.
    """
    return numbered_texts(path, text, pair, how)[0]


def numbered_texts(
    path: Path, text: str | None = None, pair: str | None = None, how: Reading = USUAL
) -> tuple[Any, Sequence[int]]:
    """Reads texts as `read_texts` does, and also returns the number of each text in the file.

    Args:
      path: a table, or a .txt file with a text in each line. Blank lines are left out, and a warning gives their numbers.
      text: the name of the column of texts; by default the first usual one.
      pair: the name of the column of second texts.
      how: how the file is read.

    Returns:
      The texts, and the number of each text in the file, counted from 0.
    """
    if suffix_of(path) != ".txt":
        table = how.table(path)
        return texts_or_pairs(table, text, pair), range(len(table.rows))
    lines = lines_of_text(path, text, pair, how)
    blank = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if blank:
        warnings.warn(
            f"{path}: {len(blank)} blank lines are left out: {', '.join(map(str, blank[:5]))}{', ...' * (len(blank) > 5)}",
            stacklevel=2,
        )
    kept = {row: line for row, line in enumerate(lines) if line.strip()}
    return list(kept.values()), list(kept)


def texts_or_pairs(table: Table, text: str | None, pair: str | None, guesses: Sequence[str] = TEXT) -> Any:
    """Returns a table's texts as a list, or pairs of texts as a tuple of two lists.

    Args:
      table: the table.
      text: the name of the column of texts; None for the first of `guesses` that the table has.
      pair: the name of the column of second texts, or None for single texts.
      guesses: usual names of the column of texts.
    """
    texts = texts_of(table, text, guesses)
    return (texts, texts_of(table, pair, (), "--pair")) if pair else texts


def lines_of_text(path: Path, text: str | None, pair: str | None, how: Reading) -> list[str]:
    """Returns the lines of a .txt file; raises a ValueError if `text` or `pair` names a column, because the file has none."""
    if text is not None or pair is not None:
        raise ValueError(f"{path} has no columns: --text and --pair are for tables; each line is a text")
    return list(read_lines(path, how.only_text(path)))


def read_labelled(
    path: Path,
    text: str | None = None,
    pair: str | None = None,
    label: str | Sequence[str] | None = None,
    numbers: bool = False,
    several: bool = False,
    how: Reading = USUAL,
) -> tuple[Any, list[Any]]:
    """Reads texts, or pairs of them, and their labels.

    Args:
      path: a table.
      text: the name of the column of texts; by default the first usual one.
      pair: the name of the column of second texts.
      label: the name of the column of labels; by default the first usual one. With `several` also the names of columns that
        hold 1 where the text has the label of that name, and 0 otherwise.
      numbers: whether the labels are numbers.
      several: whether a text can have several labels. They are lists, also as text (`['a', 'b']`), or strings with `;` between
        the labels; or ones and zeros, in a list for each text or in columns.
      how: how the file is read.

    Raises:
      ValueError: there is no such column, or a row has no text, no label or a label of another kind; the message names the file
        and the row.
    """
    table = how.table(path)
    texts = texts_or_pairs(table, text, pair)
    names = [label] if isinstance(label, str) else list(label or [])
    cells = LabelCells(table, how.names)
    if several and len(names) > 1 and how.names is not None:
        raise ValueError("--names is for labels that are numbers; columns of ones and zeros have names")
    if several and len(names) > 1:
        return texts, cells.of_columns([column(table, name) for name in names])
    label = only_name(names)
    if several and label is None and not set(LABEL) & set(table.names) and (binary := cells.binary_columns()):
        raise ValueError(f"{path} has no column of labels; name the columns of ones and zeros: --label {' '.join(binary)}")
    name = column(table, label, LABEL, "--label")
    if numbers and how.names is not None:
        raise ValueError("--names is for labels; this task's targets are numbers")
    if numbers:
        return texts, [number(value, table, row) for row, value in enumerate(table.column(name))]
    return texts, cells.several(name) if several else cells.single(name)


def only_name(names: Sequence[str]) -> str | None:
    """Returns the name in `--label` of a task that reads one column, or None; raises a ValueError for several names."""
    if len(names) > 1:
        raise ValueError(f"--label takes one column for this task, got {', '.join(names)}")
    return names[0] if names else None


def number(value: Any, table: Table, row: int) -> float:
    """Returns a cell as a number. A ValueError names `row` (counted from 0) of `table` if the cell is not a finite number."""
    try:
        if "_" in str(value):  # Python would ignore a `_` between digits
            raise ValueError
        read = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{table.place(row)} has {value!r:.80} where a number is expected") from None
    if not math.isfinite(read):
        raise ValueError(f"{table.place(row)} has {value!r:.80}, which is not a finite number")
    return read


def read_pairs(
    path: Path, text: str | None = None, pair: str | None = None, label: str | None = None, how: Reading = USUAL
) -> tuple[tuple[list[str], list[str]], list[float] | None]:
    """Reads pairs of texts that belong together, and their scores if the table has a column of them.

    Args:
      path: a table.
      text: the name of the column of first texts; by default anchor, or the first usual one.
      pair: the name of the column of second texts; by default positive, or the first usual one.
      label: the name of the column of scores; by default score, if there is one.
      how: how the file is read.
    """
    table = how.table(path)
    pairs = texts_of(table, text, ("anchor", *TEXT)), texts_of(table, pair, ("positive", *PAIR), "--pair")
    if label is None and "score" not in table.names:
        return pairs, None
    scores = table.column(column(table, label, ("score",), "--label"))
    return pairs, [number(value, table, row) for row, value in enumerate(scores)]


# Words


def read_words(
    path: Path, text: str | None = None, label: str | None = None, how: Reading = USUAL
) -> tuple[list[list[str]], list[list[str]]]:
    """Reads words and their tags.

    Args:
      path: a table whose columns of words and tags hold lists, or a BIO file. A file is a table if its suffix is in `OF_LISTS`;
        a `.tsv` file is a BIO file.
      text: the name of the column of words, by default words or tokens; of a BIO file its number, counted from 1.
      label: the name of the column of tags; of a BIO file its number, counted from 1. A column that is named can hold any
        labels. By default it is tags, ner_tags or labels (of a BIO file the last column), and without names in `how` its values
        have to be tags.
      how: how the file is read.
    """
    if suffix_of(path) not in OF_LISTS:
        places = column_number(path, text, "--text"), column_number(path, label, "--label")
        return read_bio(path, how.only_text(path), *places, how.names)
    table = how.table(path)
    words = words_of(table, text)
    name = column(table, label, TAGS, "--label")
    tags = LabelCells(table, how.names).tags(name)
    if label is None and how.names is None:
        check_scheme(table, tags)
    for row, (of_words, of_tags) in enumerate(zip(words, tags)):
        if len(of_words) != len(of_tags):
            raise ValueError(f"{table.place(row)} has {len(of_words)} words and {len(of_tags)} tags; each word needs one")
    return words, tags


def check_scheme(table: Table, tags: Sequence[Sequence[str]]) -> None:
    """Raises a ValueError for a label from which no entities can be read.

    Args:
      table: the table; the error names the row of the label.
      tags: the labels of each row.
    """
    first: dict[str, int] = {}
    for row, of_row in enumerate(tags):
        for tag in of_row:
            first.setdefault(tag, row)
    try:
        check_tags(first)
    except NotATag as error:
        cure = "If they are right, name the column with --label to take any labels"
        if all(tag.isdecimal() for tag in first):
            cure = "The tags are numbers: give their names in order with --names"
        raise NotATag(error.label, error.reason, f"{table.place(first[error.label])}: ", cure) from None


def column_number(path: Path, value: str | None, option: str) -> int | None:
    """Returns the number of a BIO file's column as an int; raises a ValueError that names `option` if it is not a number."""
    if value is not None and not value.isdecimal():
        raise ValueError(f"{path} has no names of columns: {option} should be a column's number, counted from 1, got {value!r}")
    return None if value is None else int(value)


def words_of(table: Table, name: str | None) -> list[list[str]]:
    """Returns a column of lists of words.

    Args:
      table: the table.
      name: the column's name; by default words or tokens.
    """
    name = column(table, name, WORDS, "--text")
    words = []
    for row, cell in enumerate(table.column(name)):
        of_row = list_of_cell(cell)
        if of_row is None or not all(isinstance(word, str) for word in of_row):
            raise ValueError(f"{table.place(row)}: the column {name!r} should hold lists of words, got {cell!r:.80}")
        words.append(of_row)
    return words


# Questions


def is_squad(path: Path, how: Reading) -> bool:
    """Returns whether a file is a JSON object, as SQuAD's files are, rather than a table."""
    first = next((line.lstrip() for line in read_lines(path, how.encoding) if line.strip()), "") if _is_json(path) else "["
    return not first.startswith("[")


def _is_json(path: Path) -> bool:
    return suffix_of(path) == ".json"


def read_questions(
    path: Path, text: str | None = None, pair: str | None = None, label: str | None = None, how: Reading = USUAL
) -> tuple[tuple[list[str], list[str]], list[list[dict[str, Any]]]]:
    """Reads `(questions, contexts)` and answers.

    Args:
      path: a SQuAD file, or a table with columns of questions, contexts, and either `answers`, as the hub's SQuAD tables have
        them, or `answer` and `start`. An empty `answer` means that the question has no answer.
      text: the name of the column of questions; by default question.
      pair: the name of the column of contexts; by default context.
      label: the name of the column of answers; by default answers or answer.
      how: how the file is read.
    """
    return numbered_questions(path, text, pair, label, how)[:2]


def numbered_questions(
    path: Path, text: str | None = None, pair: str | None = None, label: str | None = None, how: Reading = USUAL
) -> tuple[tuple[list[str], list[str]], list[list[dict[str, Any]]], list[int]]:
    """Reads questions and answers as `read_questions` does, and also returns the number of each question in the file.

    Args:
      path: a SQuAD file, or a table.
      text: the name of the column of questions; by default question.
      pair: the name of the column of contexts; by default context.
      label: the name of the column of answers; by default answers or answer.
      how: how the file is read.

    Returns:
      `(questions, contexts)`, the answers, and the number of each question in the file, counted from 0.
    """
    if is_squad(path, how):
        check_no_columns(path, text, pair, label)
        kept = questions_in_place(path, encoding=how.only_text(path))
        questions = list(kept.values())
        x = [question.question for question in questions], [question.context for question in questions]
        return x, [question.answers or [] for question in questions], list(kept)
    table = how.table(path)
    asked, contexts = texts_of(table, text, ("question",)), texts_of(table, pair, ("context",), "--pair")
    name = column(table, label, ("answers", "answer"), "--label")
    starts = next((name for name in ("start", "answer_start") if name in table.names), None)
    places = [None] * len(table.rows) if starts is None else table.column(starts)
    right_answers, wrong = {}, []
    for row, cell in enumerate(table.column(name)):
        if starts is not None and (cell is None or isinstance(cell, str)):
            answers = [{"text": cell, "start": _start(places[row], table, row)}] if cell else []
        else:
            answers = answers_of_cell(cell, table.place(row), name)
        right = answers_in_place(contexts[row], answers)
        if len(right) < len(answers):
            wrong.append(table.place(row).rsplit(", ", 1)[-1])
        if right or not answers:
            right_answers[row] = right
    report_misplaced(path, wrong, "drop")
    rows = list(right_answers)
    return ([asked[row] for row in rows], [contexts[row] for row in rows]), list(right_answers.values()), rows


def _start(value: Any, table: Table, row: int) -> int:
    """Returns the place where an answer begins; `table` and `row`, counted from 0, are for the error."""
    start = number(value, table, row)
    if start != int(start) or start < 0:
        raise ValueError(f"{table.place(row)}: an answer begins at a character of the context, from 0, got {start:g}")
    return int(start)


def check_no_columns(path: Path, *names: str | None) -> None:
    """Raises a ValueError unless all names of columns are None, because the file has no columns."""
    if any(name is not None for name in names):
        raise ValueError(f"{path} has no columns: --text, --pair and --label are for tables")
