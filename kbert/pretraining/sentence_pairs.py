"""Pairs of segments for next-sentence prediction (Devlin et al. 2018, appendix A.2) or sentence-order prediction (Lan et al. 2019, section 3.1)."""

import array
import contextlib
import json
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.text.texts import text_list
from kbert.training.losses import NO_LABEL

OBJECTIVES = ("nsp", "sop", "mlm")
SHORT = 0.1  # of the pairs are shorter than they could be
AT_ONCE = 100_000  # rows whose pieces are gathered together: it bounds the memory that their places take


def read_documents(paths, one_a_line=False):
    """The documents of files, one after the other, each a list of sentences.

    >>> documents = read_documents(["corpus.txt"])  # doctest: +SKIP

    Args:
      paths: text files in UTF-8, a sentence (or paragraph) a line and a blank line between documents; `.jsonl` files with a `text` in
        each line, a document whose lines are its sentences; or folders, whose `.txt` and `.jsonl` files are read.
      one_a_line: a line of a text file is a whole document, cut into sentences at `. `, `! ` and `? `.

    Raises:
      FileNotFoundError, ValueError: a file is not there, or is not UTF-8; before anything is read.
    """
    files = []
    for path in map(pathlib.Path, [paths] if isinstance(paths, (str, pathlib.Path)) else paths):
        found = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".jsonl")) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise FileNotFoundError(f"there is no file {path}" if not path.is_dir() else f"{path} has no .txt or .jsonl files")
        files += found
    return _documents(files, one_a_line)


def _documents(paths, one_a_line):
    for path in paths:
        document = []
        with open(path, encoding="utf-8") as file:
            try:
                for number, line in enumerate(file, 1):  # noqa: B007 - of an error below
                    line = line.strip()
                    if path.suffix == ".jsonl" and line:
                        yield [part for part in json.loads(line)["text"].split("\n") if part.strip()]
                    elif one_a_line and line:
                        yield sentences(line)
                    elif line:
                        document.append(line)
                    elif document:
                        yield document
                        document = []
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 text ({error.reason}); is it another kind of file?") from error
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f'{path}, line {number}: an object with "text" is expected ({error!r})') from error
        if document:
            yield document


def sentences(text):
    """A text cut behind full stops, question and exclamation marks that are followed by a space.

    >>> sentences("It rained. Did it? Yes!")
    ['It rained.', 'Did it?', 'Yes!']
    """
    for mark in ".!?":
        text = text.replace(f"{mark} ", f"{mark}\n")
    return [part.strip() for part in text.split("\n") if part.strip()]


class Corpus(NamedTuple):
    """Tokenized documents: `S` sentences with `P` pieces in all, one after the other."""

    pieces: np.ndarray  # integers [P]; may be on disk
    sentence_splits: np.ndarray  # int64 [S + 1], in pieces
    document_splits: np.ndarray  # int64 [D + 1], in sentences

    def part(self, first, beyond):
        """The documents from number `first` to before `beyond`."""
        documents = self.document_splits[first : beyond + 1]
        sentences = self.sentence_splits[documents[0] : documents[-1] + 1]
        return Corpus(self.pieces[sentences[0] : sentences[-1]], sentences - sentences[0], documents - documents[0])


def tokenize_documents(documents, tokenizer, into=None, sentences_at_once=4096):
    """Documents to a `Corpus`; sentences and documents without a piece are left out. A stream is read as one: texts are not kept.

    Args:
      documents: an iterable of documents, each a text whose lines are its sentences (or, of one line, whose sentences are found), or a list
        of sentences.
      into: a file to write the pieces to, for a corpus beyond the memory.

    Raises:
      TypeError, ValueError: something that is no document, or no document at all.
    """
    if isinstance(documents, (str, bytes)):
        raise TypeError(
            "documents should be a list (or another iterable) of texts, got one text; read files with read_documents([path])"
        )
    dtype = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32
    pieces, lengths, counts, waiting, of = [], [], [], [], []

    def read():
        if waiting:
            ids = tokenizer(text_list(waiting, "sentences"))
            values = ids.values.numpy().astype(dtype)
            if into is None:
                pieces.append(values)
            else:
                values.tofile(file)
            lengths.append(ids.row_lengths().numpy().astype(np.int32))
            counts.append(np.array(of))
            waiting.clear(), of.clear()

    with contextlib.nullcontext() if into is None else open(into, "wb") as file:
        for number, document in enumerate(documents):
            if isinstance(document, str):
                lines = [line for line in document.split("\n") if line.strip()]
                document = lines if len(lines) > 1 else sentences(document)
            elif not isinstance(document, (list, tuple)):
                raise TypeError(f"documents[{number}] should be a text or a list of sentences, got {type(document).__name__}")
            waiting += document
            of += [number] * len(document)
            if len(waiting) >= sentences_at_once:
                read()
        read()
    if not lengths or not sum(part.sum() for part in lengths):
        raise ValueError("the corpus is empty: at least two documents of some sentences are needed")
    lengths, of_sentence = np.concatenate(lengths), np.concatenate(counts)
    kept = lengths > 0
    lengths, of_sentence = lengths[kept], of_sentence[kept]
    starts = np.flatnonzero(np.diff(of_sentence, prepend=-1))
    pieces = np.concatenate(pieces) if into is None else np.memmap(into, dtype, "r")
    return Corpus(pieces, np.r_[0, np.cumsum(lengths, dtype=np.int64)], np.r_[starts, len(lengths)])


def draw_pairs(corpus, max_tokens, random, objective="nsp", documents=None):
    """Pairs of segments that fill `max_tokens` pieces, a tenth of them shorter.

    With `"nsp"` half of the second segments follow the first, and half are from another document; with `"sop"` all follow, and half of the
    pairs are turned around. A sentence that would stand alone in its chunk is cut in two. With `"mlm"` there is one segment.

    Args:
      corpus: a `Corpus`.
      max_tokens: of both segments together.
      random: a NumPy generator.
      objective: `"nsp"`, `"sop"` or `"mlm"`.
      documents: numbers of the documents to go through, by default all; wrong segments may be of any.

    Returns:
      `[N, 4]` (`[N, 2]` for `"mlm"`): starts and ends of the segments among the corpus's pieces; and labels `[N]`, 0 where the second follows
      the first, 1 where it does not (or the order is turned), -100 where there is none.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective should be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    count = len(corpus.document_splits) - 1
    if objective == "nsp" and count < 2:
        raise ValueError(
            "next-sentence prediction takes its wrong pairs from another document, and there is one only; separate documents by a blank "
            'line, or use objective="sop" or "mlm"'
        )
    splits, pairs, labels = corpus.sentence_splits, array.array("q"), array.array("i")
    for document in range(count) if documents is None else documents:
        at, beyond = corpus.document_splits[document : document + 2]
        while at < beyond:
            target = int(random.integers(2, max_tokens + 1)) if random.random() < SHORT else max_tokens
            end = _end(splits, at, beyond, target)
            if objective == "mlm":
                pairs.extend((int(splits[at]), int(min(splits[end], splits[at] + max_tokens))))
                labels.append(NO_LABEL)
                at = end
                continue
            turned = random.random() < 0.5
            first, middle, last = splits[at], *_middle(splits, at, end, target, random)
            if middle in (first, last):  # one piece: nothing can follow it
                at = end
                continue
            if objective == "sop" or not turned:
                pair = [first, middle, middle, last]
                pair = pair[2:] + pair[:2] if turned else pair
                at = end
            else:
                pair = [first, middle, *_elsewhere(corpus, document, target - (middle - first), random)]
                # The sentences that were not used come again, but for what was cut out of a sentence.
                at = max(at + 1, int(np.searchsorted(splits, middle, side="left")))
            pairs.extend(_cut(pair, max_tokens, random))
            labels.append(int(turned))
    width = 2 if objective == "mlm" else 4
    return np.frombuffer(pairs, np.int64).reshape(-1, width), np.frombuffer(labels, np.int32)


def _end(splits, at, beyond, target):
    """The sentence before which a chunk ends that begins with sentence `at` and has `target` pieces if the document has."""
    return min(int(beyond), max(int(at) + 1, int(np.searchsorted(splits, splits[at] + target))))


def _middle(splits, at, end, target, random):
    """Where the second segment of a chunk of sentences begins, and where it ends."""
    if end - at > 1:
        return splits[at + int(random.integers(1, end - at))], splits[end]
    last = min(splits[end], splits[at] + max(target, 2))
    size = last - splits[at]
    return (splits[at] + int(random.integers(1, size)) if size > 1 else last), last


def _elsewhere(corpus, document, target, random):
    """A segment of about `target` pieces of another document."""
    other = int(random.integers(len(corpus.document_splits) - 2))
    other += other >= document
    first, beyond = corpus.document_splits[other : other + 2]
    start = int(random.integers(first, beyond))
    end = _end(corpus.sentence_splits, start, beyond, target)
    return corpus.sentence_splits[start], corpus.sentence_splits[end]


def _cut(pair, most, random):
    """Takes pieces off the longer segment, at either end, until both fit."""
    a, b, c, d = map(int, pair)
    while (b - a) + (d - c) > most:
        # As many at once as leave the longer segment no shorter than the other.
        excess, apart = (b - a) + (d - c) - most, (b - a) - (d - c)
        off = max(1, min(excess, abs(apart)))
        front = int(random.binomial(off, 0.5))
        if apart > 0:
            a, b = a + front, b - (off - front)
        else:
            c, d = c + front, d - (off - front)
    return a, b, c, d


def pair_columns(corpus, pairs):
    """The pieces of drawn pairs as ragged columns, int32 `[N, (pieces)]`, one for each segment."""
    columns = []
    for n in range(0, pairs.shape[1], 2):
        starts, lengths = pairs[:, n], pairs[:, n + 1] - pairs[:, n]
        splits = np.r_[0, np.cumsum(lengths)]
        pieces = np.empty(splits[-1], np.int32)
        for row in range(0, len(pairs), AT_ONCE):
            some, (first, *_, last) = slice(row, row + AT_ONCE), splits[row : row + AT_ONCE + 1]
            pieces[first:last] = corpus.pieces[
                np.arange(first, last) + np.repeat(starts[some] - splits[:-1][some], lengths[some])
            ]
        columns.append(tf.RaggedTensor.from_row_splits(pieces, splits, validate=False))
    return tuple(columns)
