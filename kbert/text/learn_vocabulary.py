"""Learns a vocabulary from raw text: counts its words, and searches the pieces that spell them."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterable, Iterator
from types import ModuleType

import tensorflow as tf

from kbert.files.text_file import read_lines
from kbert.files.vocabulary import SPECIAL_TOKENS
from kbert.text.normalizer import make_normalizer, normalizer_model, tensorflow_text
from kbert.text.texts import text_list

MOST_WORDS = 5_000_000  # the number of different words held; when counting reaches twice as many, the rarest are dropped
CHUNK = 4096  # the number of texts cut into words at a time


def learn_vocabulary(
    texts: Iterable[str],
    vocabulary_size: int,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    progress: bool = True,
) -> list[str]:
    """Learns WordPiece tokens from raw text and returns them, special tokens first.

    >>> learn_vocabulary(["low lower lowest"] * 9, vocabulary_size=30, progress=False)[:6]
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'e']

    Words are counted as `WordPieceTokenizer` splits them. Then tensorflow-text's learner, which keras-nlp's
    `compute_word_piece_vocabulary` uses too, searches the threshold of frequency that gives the wanted number of tokens. The
    same texts give the same vocabulary. Every character of the vocabulary stands in it alone and after `##`, so that any word
    of such characters can be spelled.

    Args:
      texts: an iterable of strings, read once, `CHUNK` at a time. Only the words and their counts stay in memory.
      vocabulary_size: the largest number of tokens, special tokens included; a small corpus gives fewer.
      lowercase: whether text is lower-cased.
      strip_accents: whether accents are dropped; None follows `lowercase`.
      tokenize_chinese_chars: whether each CJK ideograph is a word.
      progress: whether the number of words counted so far is shown on the terminal.

    Returns:
      A list of at most `vocabulary_size` tokens.

    Raises:
      ValueError: if the texts hold no word, or `vocabulary_size` is too small for the special tokens and some characters.
      TypeError: if `texts` is one string.
    """
    special = list(SPECIAL_TOKENS.values())
    if not isinstance(vocabulary_size, int) or vocabulary_size < len(special) + 8:
        raise ValueError(f"vocabulary_size should be a whole number of at least {len(special) + 8}, got {vocabulary_size!r}")
    if isinstance(texts, (str, bytes)):
        raise TypeError("texts should be many strings, got one; a file is read by `kbert vocab FILE`, or line by line")
    learner = _learner()
    counts = _count_words(texts, normalizer_model(lowercase, strip_accents, tokenize_chinese_chars), progress)
    if not counts:
        raise ValueError("the texts hold no word to learn from")
    # Each character takes two tokens, alone and as ##; half of the vocabulary at most is for them.
    characters = min(1000, (vocabulary_size - len(special)) // 4)
    tokens = learner.learn(
        sorted(counts.items()), vocabulary_size, special, lower_thresh=2, max_unique_chars=characters, max_token_length=50
    )
    # The search may end above the size. Then the rarest tokens are dropped, but no single character: words are spelled with
    # those.
    excess = max(0, len(tokens) - vocabulary_size)
    droppable = [token for token in tokens if token not in special and len(token.removeprefix("##")) > 1]
    dropped = set(droppable[len(droppable) - excess :])
    return [token for token in tokens if token not in dropped]


def _learner() -> ModuleType:
    """Imports tensorflow-text's learner; the error of `tensorflow_text` says what to install if there is none."""
    tensorflow_text()
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib

    return wordpiece_tokenizer_learner_lib


def _count_words(texts: Iterable[str], model: bytes, progress: bool) -> dict[str, int]:
    """Counts the words of a stream of texts.

    Args:
      texts: the texts, read once.
      model: the table of the normalizer, which `normalizer_model` made.
      progress: whether the number of words counted so far is shown on the terminal.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    normalizer, splitter = make_normalizer(model), tensorflow_text().WhitespaceTokenizer()
    counts: collections.Counter[bytes] = collections.Counter()
    stream = iter(texts)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("counting words")
        read = 0
        while chunk := list(itertools.islice(stream, CHUNK)):
            encoded = text_list(chunk)
            read += len(encoded)
            counts.update(splitter.tokenize(normalizer.normalize(tf.constant(encoded))).values.numpy().tolist())
            if len(counts) > 2 * MOST_WORDS:
                counts = collections.Counter(dict(sorted(counts.items(), key=lambda i: (-i[1], i[0]))[:MOST_WORDS]))
            bar.update(task, description=f"counted the words of {read:,} texts: {len(counts):,} different ones")
    return {word.decode("utf-8"): count for word, count in counts.items()}


def lines_of(paths: Iterable[str | os.PathLike[str]], encoding: str | None = None) -> Iterator[str]:
    """Yields the lines of text files, one file after the other.

    Args:
      paths: the files.
      encoding: the files' encoding; by default UTF-8, or the encoding that a byte order mark names.

    Raises:
      ValueError: if a line is not in the encoding. The message names the file and the line.
    """
    for path in paths:
        yield from read_lines(path, encoding)
