"""Reads data files to answer, with targets or without: the input of the task, and the columns of each row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from kbert.commands.tables import (
    OF_LISTS,
    TEXT,
    USUAL,
    WORDS,
    Reading,
    check_no_columns,
    column_number,
    is_squad,
    lines_of_text,
    texts_of,
    texts_or_pairs,
    words_of,
)
from kbert.files.bio_file import read_bio
from kbert.files.squad_file import squad_questions
from kbert.files.table_file import Table
from kbert.files.text_file import Path, read_lines, suffix_of
from kbert.scoring.tag_schemes import OUTSIDE, NotATag, has_prefixes, read_tags


class Asked(NamedTuple):
    """A file to answer. `x` is the input of a task, and `inputs` holds the columns of each row by their names."""

    x: Any
    inputs: list[dict[str, Any]]


def read_asked(
    path: Path, text: str | None = None, pair: str | None = None, how: Reading = USUAL, guesses: Sequence[str] = TEXT
) -> Asked:
    """Reads the texts, or pairs of texts, of a table, or the lines of a .txt file. Blank lines are kept.

    Args:
      path: a table, or a .txt file with a text in each line.
      text: the name of the column of texts; by default the first of `guesses` that the table has.
      pair: the name of the column of second texts.
      how: how the file is read.
      guesses: usual names of the column of texts.
    """
    if suffix_of(path) == ".txt":
        lines = lines_of_text(path, text, pair, how)
        return Asked(lines, [{"text": line} for line in lines])
    table = how.table(path)
    return _asked(table, texts_or_pairs(table, text, pair, guesses))


def _asked(table: Table, x: Any) -> Asked:
    names: list[str] = []
    for place, name in enumerate(table.names):
        free = (f"{name}.{number}" for number in itertools.count(place))
        names.append(name if name not in names else next(name for name in free if name not in (*table.names, *names)))
    return Asked(x, [dict(zip(names, row)) for row in table.rows])


def read_asked_words(path: Path, text: str | None = None, how: Reading = USUAL) -> Asked:
    """Reads texts or lists of words: a table, a BIO file, or a .txt file of lines.

    Args:
      path: the file. A `.txt` file is a BIO file if its tags have letters, as B-city has. A `.tsv` file is a table if its
        first line names the column of texts.
      text: the name of the column of words or texts; of a BIO file its number, counted from 1.
      how: how the file is read.
    """
    suffix = suffix_of(path)
    if suffix in OF_LISTS or (suffix == ".tsv" and _names_a_text(path, text, how)):
        table = how.table(path)
        is_words = text in table.names and isinstance(next(iter(table.column(str(text))), None), list)
        if is_words or (text is None and set(WORDS) & set(table.names)):
            return _asked(table, words_of(table, text))
        return _asked(table, texts_of(table, text))
    if suffix == ".txt" and text is None and not _has_letters(path, how):
        return read_asked(path, how=how)
    word_column = column_number(path, text, "--text")
    try:
        words, tags = read_bio(path, how.only_text(path), word_column)
    except NotATag:  # the last column may hold anything, because no tags are needed
        words, tags = read_bio(path, how.only_text(path), word_column, tag_column=-1)
    return Asked(words, [{"words": given, "tags": of_words} for given, of_words in zip(words, tags)])


def _names_a_text(path: Path, text: str | None, how: Reading) -> bool:
    first = next(read_lines(path, how.encoding), "").split(how.separator or "\t")
    if OUTSIDE[0] in first:  # a word called text, with its tag
        return False
    return bool({text} & set(first) if text else set(TEXT) & set(first))


def _has_letters(path: Path, how: Reading) -> bool:
    """Returns whether a file is a BIO file whose tags have letters, as B-city has."""
    try:
        tags = read_bio(path, how.only_text(path))[1]
        return has_prefixes(read_tags(tag for sentence in tags for tag in sentence))
    except ValueError:
        return False


def read_asked_questions(path: Path, text: str | None = None, pair: str | None = None, how: Reading = USUAL) -> Asked:
    """Reads questions and contexts, with answers or without.

    Args:
      path: a SQuAD file, or a table with columns of questions and contexts.
      text: the name of the column of questions; by default question.
      pair: the name of the column of contexts; by default context.
      how: how the file is read.
    """
    if not is_squad(path, how):
        table = how.table(path)
        return _asked(table, (texts_of(table, text, ("question",)), texts_of(table, pair, ("context",), "--pair")))
    check_no_columns(path, text, pair)
    questions = list(squad_questions(path, how.only_text(path)))
    inputs = [{"id": question.id, "question": question.question, "context": question.context} for question in questions]
    x = [question.question for question in questions], [question.context for question in questions]
    return Asked(x, inputs)
