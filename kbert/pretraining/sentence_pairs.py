"""Pairs of segments of documents.

They are drawn for next-sentence prediction (Devlin et al. 2018, appendix A.2) or for sentence-order prediction (Lan et al.
2019, section 3.1).
"""

from __future__ import annotations

import array
import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kbert.files.text_file import read_lines, suffix_of
from kbert.messages import listed
from kbert.tasks.named_columns import columns_by_name
from kbert.text.texts import text_list
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.training.losses import NO_LABEL

OBJECTIVES = ("nsp", "sop", "mlm")
SHORT_SHARE = 0.1  # of the pairs that are shorter than they could be
ROWS_AT_ONCE = 100_000  # rows whose pieces are gathered together, which bounds the memory that their places take

Paths = str | pathlib.Path | Sequence[str | pathlib.Path]
Document = str | Sequence[str]  # a text, or a list of sentences


def read_documents(paths: Paths, one_a_line: bool = False, encoding: str | None = None) -> Iterator[list[str]]:
    """Reads the documents of files one after the other, each as a list of sentences.

    >>> documents = read_documents(["corpus.txt"])  # doctest: +SKIP

    Args:
      paths: files and folders, one or a list. A text file has a sentence or paragraph a line and a blank line between
        documents. A `.jsonl` file has a document a line, whose `text` has a sentence a line. Files whose names end in `.gz` are
        decompressed. Of a folder and the folders in it, all `.txt` and `.jsonl` files are read, also compressed ones.
      one_a_line: whether each line of a text file is a whole document. It is cut into sentences at `. `, `! ` and `? `.
      encoding: the files' encoding; by default UTF-8, or what a byte order mark says.

    Returns:
      An iterator of documents. A missing file raises an error at once; any other error is raised when the file is read.

    Raises:
      FileNotFoundError: a file is not there, or a folder has none.
      ValueError: a line is not in the encoding, or a line of a `.jsonl` file has no `text`.
    """
    files: list[pathlib.Path] = []
    for path in map(pathlib.Path, [paths] if isinstance(paths, (str, pathlib.Path)) else paths):
        if path.is_dir():
            in_folder = sorted(file for file in path.rglob("*") if suffix_of(file) in (".txt", ".jsonl"))
            if not in_folder or not in_folder[0].is_file():
                raise FileNotFoundError(f"{path} has no .txt or .jsonl files")
            files += in_folder
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"there is no file {path}")
    return _documents(files, one_a_line, encoding)


def _documents(paths: list[pathlib.Path], one_a_line: bool, encoding: str | None) -> Iterator[list[str]]:
    """Yields the documents of files; see `read_documents`."""
    for path in paths:
        document: list[str] = []
        for number, line in enumerate(read_lines(path, encoding), 1):
            line = line.strip()
            if suffix_of(path) == ".jsonl" and line:
                yield [sentence for sentence in _text_of(line, path, number).split("\n") if sentence.strip()]
            elif one_a_line and line:
                yield sentences(line)
            elif line:
                document.append(line)
            elif document:
                yield document
                document = []
        if document:
            yield document


def _text_of(line: str, path: pathlib.Path, number: int) -> str:
    """Returns the `text` of a line of a `.jsonl` file; `path` and `number` are for the error."""
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{path}, line {number}: an object with "text" is expected ({error!r})') from None
    if not isinstance(text, str):
        raise ValueError(f'{path}, line {number}: "text" should be a text, got {text!r:.80}')
    return text


def sentences(text: str) -> list[str]:
    """Cuts a text behind full stops, question and exclamation marks that a space follows.

    >>> sentences("It rained. Did it? Yes!")
    ['It rained.', 'Did it?', 'Yes!']

    Args:
      text: a text; its line breaks end sentences too.
    """
    for mark in ".!?":
        text = text.replace(f"{mark} ", f"{mark}\n")
    return [sentence.strip() for sentence in text.split("\n") if sentence.strip()]


class Corpus(NamedTuple):
    """Tokenized documents: `D` documents of `S` sentences with `P` pieces in all, one after the other."""

    pieces: np.ndarray  # integers [P]; may be on disk
    sentence_splits: np.ndarray  # int64 [S + 1], in pieces
    document_splits: np.ndarray  # int64 [D + 1], in sentences

    @property
    def num_documents(self) -> int:
        """The number of documents."""
        return len(self.document_splits) - 1

    def part(self, first: int, beyond: int) -> Corpus:
        """Returns the documents from number `first` to before number `beyond`."""
        documents = self.document_splits[first : beyond + 1]
        sentences = self.sentence_splits[documents[0] : documents[-1] + 1]
        return Corpus(self.pieces[sentences[0] : sentences[-1]], sentences - sentences[0], documents - documents[0])


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: WordPieceTokenizer,
    into: str | pathlib.Path | None = None,
    sentences_at_once: int = 4096,
) -> Corpus:
    """Returns documents as a `Corpus`, without the sentences and documents that have no piece.

    The documents are read as a stream, and their texts are not kept.

    Args:
      documents: documents, each a list of sentences or a text. The lines of a text are its sentences; a text of one line is cut
        by `sentences`.
      tokenizer: the tokenizer that gives the pieces.
      into: a file to which the pieces are written, for a corpus that is larger than the memory; by default they are in memory.
      sentences_at_once: how many sentences are tokenized in one step.

    Raises:
      TypeError: `documents` is one text, a table, a set or a dataset, or holds something that is not a document.
      ValueError: there is no document with a piece.
    """
    if isinstance(documents, (str, bytes)):
        raise TypeError(
            "documents should be a list (or another iterable) of texts, got one text; read files with read_documents([path])"
        )
    named = None if isinstance(documents, (list, tuple)) else columns_by_name(documents, "documents")
    if named is not None:
        raise TypeError(
            f"documents is a {type(documents).__name__} with {listed(list(named)) or 'no columns'}: give the column that holds "
            "the documents alone"
        )
    if isinstance(documents, (tf.data.Dataset, keras.utils.PyDataset, set, frozenset)):
        raise TypeError(
            f"documents is a {type(documents).__name__}; give a list or another iterable of texts or of lists of sentences. "
            "A dataset is read if it holds packed dictionaries, as those of read_records"
        )
    dtype = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32
    pieces: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    numbers: list[np.ndarray] = []  # of the document of each sentence
    with contextlib.nullcontext() if into is None else open(into, "wb") as file:
        for lines, of_lines in _sentences_in_groups(documents, sentences_at_once):
            ids = tokenizer(lines)
            values = ids.values.numpy().astype(dtype)
            if file is None:
                pieces.append(values)
            else:
                values.tofile(file)
            lengths.append(ids.row_lengths().numpy().astype(np.int32))
            numbers.append(np.array(of_lines))
    if not sum(group.sum() for group in lengths):
        raise ValueError("the corpus is empty: at least two documents of some sentences are needed")
    all_lengths, all_numbers = np.concatenate(lengths), np.concatenate(numbers)
    has_pieces = all_lengths > 0
    all_lengths, all_numbers = all_lengths[has_pieces], all_numbers[has_pieces]
    starts = np.flatnonzero(np.diff(all_numbers, prepend=-1))
    all_pieces = np.concatenate(pieces) if into is None else np.memmap(into, dtype, "r")
    sentence_splits = np.r_[0, np.cumsum(all_lengths, dtype=np.int64)]
    return Corpus(all_pieces, sentence_splits, np.r_[starts, len(all_lengths)])


def _sentences_in_groups(documents: Iterable[Document], at_least: int) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yields groups of sentences, `at_least` in each but the last, with the number of each sentence's document."""
    lines: list[bytes] = []
    numbers: list[int] = []
    for number, document in enumerate(documents):
        if isinstance(document, str):
            of_text = [line for line in document.split("\n") if line.strip()]
            document = of_text if len(of_text) > 1 else sentences(document)
        elif not isinstance(document, (list, tuple)):
            raise TypeError(f"documents[{number}] should be a text or a list of sentences, got {type(document).__name__}")
        lines += text_list(document, f"documents[{number}]")
        numbers += [number] * len(document)
        if len(lines) >= at_least:
            yield lines, numbers
            lines, numbers = [], []
    if lines:
        yield lines, numbers


def draw_pairs(
    corpus: Corpus,
    max_tokens: int,
    random: np.random.Generator,
    objective: str = "nsp",
    documents: Iterable[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs of segments that fill `max_tokens` pieces. A tenth of the pairs is shorter.

    With `"nsp"` half of the second segments follow the first, and half are from another document. With `"sop"` all follow, and
    half of the pairs are turned around. With `"mlm"` there is one segment. A sentence that would stand alone in its chunk is
    cut in two.

    Args:
      corpus: tokenized documents.
      max_tokens: the most pieces of both segments together.
      random: a NumPy generator.
      objective: `"nsp"`, `"sop"` or `"mlm"`.
      documents: the numbers of the documents to go through; by default all. A wrong second segment may come from any document.

    Returns:
      The starts and ends of the segments among the corpus's pieces, int64 `[N, 4]`, or `[N, 2]` for `"mlm"`; and labels, int32
      `[N]`: 0 where the second segment follows the first, 1 where it does not or the pair is turned around, -100 for `"mlm"`.

    Raises:
      ValueError: an unknown objective, or `"nsp"` with a single document.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective should be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    if objective == "nsp" and corpus.num_documents < 2:
        raise ValueError(
            "next-sentence prediction takes its wrong pairs from another document, and there is one only; separate documents "
            'by a blank line, or use objective="sop" or "mlm"'
        )
    splits, pairs, labels = corpus.sentence_splits, array.array("q"), array.array("i")
    for document in range(corpus.num_documents) if documents is None else documents:
        at, beyond = corpus.document_splits[document : document + 2]
        while at < beyond:
            target = int(random.integers(2, max_tokens + 1)) if random.random() < SHORT_SHARE else max_tokens
            end = _end(splits, at, beyond, target)
            if objective == "mlm":
                pairs.extend((int(splits[at]), int(min(splits[end], splits[at] + max_tokens))))
                labels.append(NO_LABEL)
                at = end
                continue
            is_turned = random.random() < 0.5
            first, middle, last = splits[at], *_middle(splits, at, end, target, random)
            if middle in (first, last):  # one piece: nothing can follow it
                at = end
                continue
            if objective == "sop" or not is_turned:
                pair = [first, middle, middle, last]
                pair = pair[2:] + pair[:2] if is_turned else pair
                at = end
            else:
                pair = [first, middle, *_elsewhere(corpus, document, target - (middle - first), random)]
                # The sentences that were not used come again, but for what was cut out of a sentence.
                at = max(at + 1, int(np.searchsorted(splits, middle, side="left")))
            pairs.extend(_cut(pair, max_tokens, random))
            labels.append(int(is_turned))
    width = 2 if objective == "mlm" else 4
    return np.frombuffer(pairs, np.int64).reshape(-1, width), np.frombuffer(labels, np.int32)


def _end(splits: np.ndarray, at: int, beyond: int, target: int) -> int:
    """Returns the sentence before which a chunk ends.

    Args:
      splits: the corpus's `sentence_splits`.
      at: the first sentence of the chunk.
      beyond: the sentence before which the document ends.
      target: the pieces that the chunk has if the document has as many.
    """
    return min(int(beyond), max(int(at) + 1, int(np.searchsorted(splits, splits[at] + target))))


def _middle(splits: np.ndarray, at: int, end: int, target: int, random: np.random.Generator) -> tuple[int, int]:
    """Draws the piece at which the second segment of a chunk begins.

    Args:
      splits: the corpus's `sentence_splits`.
      at: the first sentence of the chunk.
      end: the sentence before which the chunk ends.
      target: the most pieces of a chunk of one sentence, which is cut in two.
      random: a NumPy generator.

    Returns:
      The second segment's first piece, and the piece before which it ends.
    """
    if end - at > 1:
        return int(splits[at + int(random.integers(1, end - at))]), int(splits[end])
    first, last = int(splits[at]), int(min(splits[end], splits[at] + max(target, 2)))
    return (first + int(random.integers(1, last - first)) if last - first > 1 else last), last


def _elsewhere(corpus: Corpus, document: int, target: int, random: np.random.Generator) -> tuple[int, int]:
    """Returns the start and end, in pieces, of a segment of about `target` pieces of another document than `document`."""
    other = int(random.integers(len(corpus.document_splits) - 2))
    other += other >= document
    first, beyond = corpus.document_splits[other : other + 2]
    start = int(random.integers(first, beyond))
    end = _end(corpus.sentence_splits, start, beyond, target)
    return int(corpus.sentence_splits[start]), int(corpus.sentence_splits[end])


def _cut(pair: Sequence[int], most: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Takes pieces off the longer segment, at either end, until both segments together have at most `most` pieces.

    Args:
      pair: the starts and ends of two segments.
      most: the most pieces of both.
      random: a NumPy generator.

    Returns:
      The starts and ends of the shortened segments.
    """
    a, b, c, d = map(int, pair)
    while (b - a) + (d - c) > most:
        # As many at once as leave the longer segment no shorter than the other.
        excess, difference = (b - a) + (d - c) - most, (b - a) - (d - c)
        removed = max(1, min(excess, abs(difference)))
        front = int(random.binomial(removed, 0.5))
        if difference > 0:
            a, b = a + front, b - (removed - front)
        else:
            c, d = c + front, d - (removed - front)
    return a, b, c, d


def pair_columns(corpus: Corpus, pairs: np.ndarray) -> tuple[tf.RaggedTensor, ...]:
    """Returns the pieces of drawn pairs as ragged columns, int32 `[N, (pieces)]`, one for each segment.

    Args:
      corpus: the tokenized documents.
      pairs: the starts and ends of the segments, int64 `[N, 4]` or `[N, 2]`.
    """
    columns = []
    for n in range(0, pairs.shape[1], 2):
        starts, lengths = pairs[:, n], pairs[:, n + 1] - pairs[:, n]
        splits = np.r_[0, np.cumsum(lengths)]
        pieces: np.ndarray = np.empty(splits[-1], np.int32)
        for row in range(0, len(pairs), ROWS_AT_ONCE):
            rows, (first, *_, last) = slice(row, row + ROWS_AT_ONCE), splits[row : row + ROWS_AT_ONCE + 1]
            places = np.arange(first, last) + np.repeat(starts[rows] - splits[:-1][rows], lengths[rows])
            pieces[first:last] = corpus.pieces[places]
        columns.append(tf.RaggedTensor.from_row_splits(pieces, splits, validate=False))
    return tuple(columns)
