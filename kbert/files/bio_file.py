"""Reads files of words with BIO or BIOES tags, such as CoNLL's."""

from __future__ import annotations

import os

from kbert.scoring.entities import is_tag


def read_bio(path: str | os.PathLike[str], encoding: str = "utf-8") -> tuple[list[list[str]], list[list[str]]]:
    """Reads a file of words with tags, one word a line, and a blank line between sentences.

    >>> sentences, tags = read_bio("train.bio")  # doctest: +SKIP

    Args:
      path: a text file. A line has a word and its tag, with a tab or spaces between them, in either order; `tag TAB word` is
        recognised by its tags. If lines have more columns, as in CoNLL 2003, the first is the word and the last the tag.
      encoding: the file's encoding.

    Returns:
      A list of lists of words, and a list of lists of tags.

    Raises:
      ValueError: a line has one column, or a tag that is not BIO or BIOES; the message names the file and the line.
    """
    sentences, numbers = _read_columns(path, encoding)
    # The tags are in the column whose values are all tags; if both are such columns, in the last.
    is_tags = [all(is_tag(pair[place]) for sentence in sentences for pair in sentence) for place in (0, 1)]
    tag = 1 if is_tags[1] or not is_tags[0] else 0
    for sentence, lines in zip(sentences, numbers):
        for pair, number in zip(sentence, lines):
            if not is_tag(pair[tag]):
                raise ValueError(f"{path}, line {number}: {pair[tag]!r} is not a BIO or BIOES tag")
    words = [[pair[1 - tag] for pair in sentence] for sentence in sentences]
    return words, [[pair[tag] for pair in sentence] for sentence in sentences]


def _read_columns(path: str | os.PathLike[str], encoding: str) -> tuple[list[list[tuple[str, str]]], list[list[int]]]:
    """Reads the first and the last column of each sentence's lines.

    Returns:
      For each sentence the pairs of columns, and for each sentence the numbers of its lines, counted from 1.
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    numbers: list[list[int]] = [[]]
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if sentences[-1]:
                    sentences.append([])
                    numbers.append([])
                continue
            if line.startswith("-DOCSTART-"):
                continue
            columns = line.split("\t") if "\t" in line else line.split()
            if len(columns) < 2:
                raise ValueError(f"{path}, line {number}: a word and its tag are expected, got {line!r}")
            sentences[-1].append((columns[0], columns[-1]))
            numbers[-1].append(number)
    if not sentences[-1]:
        sentences.pop(), numbers.pop()
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    return sentences, numbers
