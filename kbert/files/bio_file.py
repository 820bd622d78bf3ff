"""Reads files of words with tags of entities, one word a line, as CoNLL has them."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kbert.files.numbered_labels import check_names, label_of
from kbert.files.text_file import Path, read_lines
from kbert.scoring.tag_schemes import NotATag, are_tags, check_tags, has_prefixes, read_tags

# The names that a header line gives to the columns.
WORD_NAMES = ("word", "words", "token", "tokens", "text", "form")
TAG_NAMES = ("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "entity")
_PART = re.compile(r"\d+[-.]\d+")  # the number of a line of CoNLL-U that is no word of its own: 1-2, or 1.1


class _Line(NamedTuple):
    number: int  # counted from 1
    columns: list[str]


def read_bio(
    path: Path,
    encoding: str | None = None,
    word_column: int | None = None,
    tag_column: int | None = None,
    names: Sequence[str] | None = None,
) -> tuple[list[list[str]], list[list[str]]]:
    """Reads a file of words with tags, one word a line, and a blank line between sentences.

    >>> sentences, tags = read_bio("train.bio")  # doctest: +SKIP

    A line's columns have tabs between them or, if it has no tab, spaces. Other white space (a no-break space, say) is part
    of a word. Lines that begin with `-DOCSTART-` and comments, which begin with `#`, are no words. A line that begins with `#`
    is a word if it has as many columns as the others and a tag of their scheme.

    The tags stand in the last column, the words in the first one that does not number them. These shapes are recognised:
    `tag TAB word`; columns that number words or sentences, as in CoNLL-U and GermEval 2014; and two columns of tags behind
    number and word. GermEval 2014 has two such columns, and the tags of the outer entities are read.

    Args:
      path: a text file.
      encoding: the file's encoding; by default UTF-8, or what a byte order mark says.
      word_column: the column of the words, counted from 1. By default it is found as described above.
      tag_column: the column of the tags, counted from 1, or -1 for the last. Its values can be any
        labels. By default the column is found as described above, and without `names` its values have to be tags of one scheme.
      names: the names of tags that are numbers, in order.

    Returns:
      A list of lists of words, and a list of lists of tags.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line has another number of columns than the others, a tag of another scheme, or the names of the columns; or
        the file holds no sentence. The message names the file and the line.
    """
    check_names(names or ())
    sentences = _sentences(path, encoding)
    _check_columns(path, sentences)
    sentences = _without_comments(sentences, word_column, tag_column)
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    sentences, word, tag = _places(path, sentences, word_column, tag_column)
    _check_header(path, sentences[0][0], word, tag)
    tags = [[line.columns[tag] for line in sentence] for sentence in sentences]
    if names is not None:
        tags = [[_named(path, line, line.columns[tag], names) for line in sentence] for sentence in sentences]
    elif tag_column is None:
        _check_tags(path, sentences, tag)
    return [[line.columns[word] for line in sentence] for sentence in sentences], tags


def _sentences(path: Path, encoding: str | None) -> list[list[_Line]]:
    """Returns the lines of each sentence as columns, comments included."""
    sentences: list[list[_Line]] = [[]]
    for number, line in enumerate(read_lines(path, encoding), 1):
        text = line.strip(" \t\r")
        if not text or text.startswith("-DOCSTART-"):
            if sentences[-1]:
                sentences.append([])
            continue
        columns = line.rstrip("\r").split("\t") if "\t" in line.rstrip(" \t\r") else re.split(" +", text)
        sentences[-1].append(_Line(number, columns))
    return sentences if sentences[-1] else sentences[:-1]


def _is_comment(line: _Line) -> bool:
    return line.columns[0].startswith("#")


def _check_columns(path: Path, sentences: Iterable[Iterable[_Line]]) -> None:
    """Raises a ValueError for a line that has fewer than two columns, or another number of columns than most."""
    lines = [line for sentence in sentences for line in sentence if not _is_comment(line)]
    widths = collections.Counter(len(line.columns) for line in lines)
    usual = max(widths, key=lambda width: widths[width], default=0)
    for line in lines:
        if len(line.columns) < 2:
            raise ValueError(f"{path}, line {line.number}: a word and its tag are expected, got {line.columns[0]!r}")
        if len(line.columns) != usual:
            raise ValueError(f"{path}, line {line.number} has {len(line.columns)} columns, most lines have {usual}")


def _without_comments(sentences: list[list[_Line]], word_column: int | None, tag_column: int | None) -> list[list[_Line]]:
    """Returns the sentences without comments; see `read_bio` for the lines with `#` that are words."""
    lines = [line.columns for sentence in sentences for line in sentence]
    others = [columns for columns in lines if not columns[0].startswith("#")]
    if len(others) == len(lines):
        return sentences
    width = len(others[0]) if others else 2
    place = -1 if tag_column is None or tag_column == -1 else tag_column - 1
    tags = {columns[place] for columns in others} | {"O"}

    def is_word(line: _Line) -> bool:
        if not _is_comment(line):
            return True
        tag = line.columns[place] if len(line.columns) == width else ""
        return tag in tags or (tag != "" and _are_prefixed_or_o(tags | {tag}))

    kept = ([line for line in sentence if is_word(line)] for sentence in sentences)
    return [sentence for sentence in kept if sentence]


def _places(
    path: Path, sentences: list[list[_Line]], word_column: int | None, tag_column: int | None
) -> tuple[list[list[_Line]], int, int]:
    """Finds the columns of the words and the tags.

    Returns:
      The sentences without CoNLL-U's lines of several words, the index of the words' column, and the index of the tags' column.
    """
    width = len(sentences[0][0].columns)
    for name, given in (("word_column", word_column), ("tag_column", tag_column)):
        if given is not None and given != -1 and not 1 <= given <= width:
            raise ValueError(f"{path} has {width} columns, and {name} is {given}; the first is 1")
    width -= width > 2 and _columns(sentences, [width - 1]) == [{""}]  # a separator at the end of each line
    words_only = [[line for line in sentence if not _PART.fullmatch(line.columns[0])] for sentence in sentences]
    first = 0
    while first < width - 2 and _is_number(words_only, first):
        sentences, first = words_only, first + 1
    if width == 2 and word_column is None and tag_column is None and _tags_stand_first(sentences):
        return sentences, 1, 0
    word = first if word_column is None else word_column - 1
    if tag_column is not None:
        return sentences, word, width - 1 if tag_column == -1 else tag_column - 1
    nested = first > 0 and width == first + 3 and all(map(_are_prefixed_or_o, _columns(sentences, (width - 2, width - 1))))
    return sentences, word, width - 2 if nested else width - 1


def _columns(sentences: list[list[_Line]], places: Iterable[int]) -> list[set[str]]:
    """Returns the different values of some columns."""
    return [{line.columns[place] for sentence in sentences for line in sentence} for place in places]


def _is_number(sentences: list[list[_Line]], place: int) -> bool:
    """Returns whether a column numbers the words of each sentence (the numbers rise) or the sentences (they stay the same)."""
    columns = [[line.columns[place] for line in sentence] for sentence in sentences if sentence]
    if not all(value.isdecimal() for values in columns for value in values):
        return False
    numbers = [list(map(int, values)) for values in columns]
    if all(len(values) == 1 for values in numbers):  # sentences of one word show no rise, and the numbers begin anew in each
        return all(values[0] in (0, 1) for values in numbers)
    rises = all(a < b for values in numbers for a, b in zip(values, values[1:]))
    return rises or all(len(set(values)) == 1 for values in numbers)


def _are_prefixed_or_o(values: set[str]) -> bool:
    return are_tags(values) and (values == {"O"} or has_prefixes(read_tags(values)))


def _tags_stand_first(sentences: list[list[_Line]]) -> bool:
    """Returns whether the first of two columns has the tags."""
    before, behind = _columns(sentences, (0, 1))
    if not are_tags(before):
        return False
    return not are_tags(behind) or (has_prefixes(read_tags(before)) and not _are_prefixed_or_o(behind))


def _check_header(path: Path, first: _Line, word: int, tag: int) -> None:
    """Raises a ValueError if the first line names the columns, since without prefixes it could pass for a word and its type."""
    if first.columns[word].lower() in WORD_NAMES and first.columns[tag].lower() in TAG_NAMES:
        raise ValueError(f"{path}, line {first.number} names the columns, {first.columns}; remove the line")


def _named(path: Path, line: _Line, tag: str, names: Sequence[str]) -> str:
    """Returns the name of a tag that is a number."""
    label = label_of(tag, names)
    if label is None:
        raise ValueError(f"{path}, line {line.number}: {tag!r} is no number of the {len(names)} names, which count from 0")
    return label


def _check_tags(path: Path, sentences: list[list[_Line]], place: int) -> None:
    """Raises a ValueError that names the line of the first value of a column that is no tag."""
    lines = [line for sentence in sentences for line in sentence]
    values = list(dict.fromkeys(line.columns[place] for line in lines))
    try:
        check_tags(values)
    except NotATag as error:
        number = next(line.number for line in lines if line.columns[place] == error.label)
        cure = f"If column {place + 1} is not that of the tags, name theirs, counted from 1, with --label (tag_column=)"
        if all(value.isdecimal() for value in values):
            cure = "The tags are numbers: give their names in order with --names (names=)"
        raise NotATag(error.label, error.reason, f"{path}, line {number}: ", cure) from None
