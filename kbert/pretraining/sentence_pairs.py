"""Pairs of segments for next-sentence prediction (Devlin et al. 2018, appendix A.2) or sentence-order prediction (Lan et al. 2019, section 3.1)."""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.text.texts import text_list

OBJECTIVES = ("nsp", "sop")
SHORT = 0.1  # of the pairs are shorter than they could be


def read_documents(paths, one_a_line=False):
    """The documents of files, one after the other, each a list of sentences.

    >>> documents = read_documents(["corpus.txt"])  # doctest: +SKIP

    Args:
      paths: text files in UTF-8, a sentence (or paragraph) a line and a blank line between documents; or `.jsonl` files with a `text` in
        each line, a document whose lines are its sentences.
      one_a_line: a line of a text file is a whole document, cut into sentences at `. `, `! ` and `? `.

    Raises:
      FileNotFoundError, ValueError: a file is not there, or is not UTF-8; before anything is read.
    """
    paths = [pathlib.Path(path) for path in ([paths] if isinstance(paths, (str, pathlib.Path)) else paths)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
    return _documents(paths, one_a_line)


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

    pieces: np.ndarray  # int32 [P]
    sentence_splits: np.ndarray  # int64 [S + 1], in pieces
    document_splits: np.ndarray  # int64 [D + 1], in sentences


def tokenize_documents(documents, tokenizer, sentences_at_once=65536):
    """Documents to a `Corpus`; sentences and documents without a piece are left out.

    Args:
      documents: an iterable of documents, each a text whose lines are its sentences (or, of one line, whose sentences are found), or a list
        of sentences.
    """
    pieces, lengths, counts, waiting, of = [], [], [], [], []

    def read():
        if waiting:
            ids = tokenizer(text_list(waiting, "sentences"))
            pieces.append(ids.values.numpy())
            lengths.append(ids.row_lengths().numpy())
            counts.append(np.array(of))
            waiting.clear(), of.clear()

    for number, document in enumerate(documents):
        if isinstance(document, str):
            lines = [line for line in document.split("\n") if line.strip()]
            document = lines if len(lines) > 1 else sentences(document)
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
    return Corpus(np.concatenate(pieces), np.r_[0, np.cumsum(lengths)], np.r_[starts, len(lengths)])


def draw_pairs(corpus, max_tokens, random, objective="nsp"):
    """Pairs of segments that fill `max_tokens` pieces, a tenth of them shorter.

    With `"nsp"` half of the second segments follow the first, and half are from another document; with `"sop"` all follow, and half of the
    pairs are turned around. A sentence that would stand alone in its chunk is cut in two.

    Args:
      corpus: a `Corpus`.
      max_tokens: of both segments together.
      random: a NumPy generator.
      objective: `"nsp"` or `"sop"`.

    Returns:
      `[N, 4]`: starts and ends of both segments among the corpus's pieces; and labels `[N]`, 0 where the second follows the first, 1 where it
      does not (or the order is turned).
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective should be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    documents = len(corpus.document_splits) - 1
    if objective == "nsp" and documents < 2:
        raise ValueError(
            "next-sentence prediction takes its wrong pairs from another document, and there is one only; separate documents by a blank "
            'line, or use objective="sop", or a MaskedLM'
        )
    splits, pairs, labels = corpus.sentence_splits, [], []
    for document in range(documents):
        at, beyond = corpus.document_splits[document : document + 2]
        while at < beyond:
            target = int(random.integers(2, max_tokens + 1)) if random.random() < SHORT else max_tokens
            end = at + 1
            while end < beyond and splits[end] - splits[at] < target:
                end += 1
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
            pairs.append(_cut(pair, max_tokens, random))
            labels.append(int(turned))
    return np.array(pairs, np.int64).reshape(-1, 4), np.array(labels, np.int32)


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
    end = start + 1
    while end < beyond and corpus.sentence_splits[end] - corpus.sentence_splits[start] < target:
        end += 1
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
    """The pieces of drawn pairs as two ragged columns, int32 `[N, (pieces)]`."""
    pieces = tf.constant(corpus.pieces)
    return tuple(tf.gather(pieces, tf.ragged.range(pairs[:, n], pairs[:, n + 1])) for n in (0, 2))
