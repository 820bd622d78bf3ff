"""Learns a vocabulary from raw text: counts its words, chooses its characters, and searches the pieces that spell them."""

from __future__ import annotations

import collections
import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from kbert.files.text_file import read_lines
from kbert.files.vocabulary import SPECIAL_TOKENS
from kbert.text.normalizer import make_normalizer, normalizer_model, tensorflow_text, words_of_one_character
from kbert.text.texts import text_list
from kbert.text.wordpiece_search import LEAST, search_tokens

MOST_WORDS = 5_000_000  # the number of different words held; when counting reaches twice as many, the rarest are dropped
CHUNK = 4096  # the most texts cut into words at a time
CHUNK_CHARACTERS = 1 << 20  # the characters after which no more texts join a chunk
SURE_CHARACTERS = 1000  # so many characters are in every vocabulary that has room for them
COVERAGE = 0.9999  # more than that many characters are in a vocabulary until so much of the text is spelled


def learn_vocabulary(
    texts: Iterable[str],
    vocabulary_size: int,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    progress: bool = True,
) -> list[str]:
    """Learns WordPiece tokens from raw text and returns them, special tokens first.

    >>> learn_vocabulary(["low lower lowest"] * 9, vocabulary_size=22, progress=False)[:6]
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'e']

    Words are counted as `WordPieceTokenizer` splits them, and `search_tokens` finds the pieces. The same texts give the same
    vocabulary, in whatever order they come. Every character of the vocabulary stands in it alone and, unless it is always a
    word of its own, after `##`. So any word of such characters can be spelled.

    Args:
      texts: an iterable of strings, read once, in chunks. Only the words and their counts stay in memory.
      vocabulary_size: the largest number of tokens, special tokens included. Texts with few words give fewer, and a warning
        says so. At most half of the vocabulary is for single characters; the rarest characters are left out.
      lowercase: whether text is lower-cased.
      strip_accents: whether accents are dropped; None follows `lowercase`.
      tokenize_chinese_chars: whether each CJK ideograph is a word.
      progress: whether the progress is shown on the terminal.

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
    with _progress_line(progress) as say:
        counts = _count_words(texts, normalizer_model(lowercase, strip_accents, tokenize_chinese_chars), say)
        if not counts:
            raise ValueError("the texts hold no word to learn from")
        characters = _characters(counts, (vocabulary_size - len(special)) // 2, tokenize_chinese_chars)
        spelled = {word: count for word, count in counts.items() if characters.issuperset(word)}
        always_words = words_of_one_character(tokenize_chinese_chars)
        alphabet = [*sorted(characters), *(f"##{c}" for c in sorted(characters) if not always_words[ord(c)])]
        tokens = search_tokens(spelled, vocabulary_size - len(special) - len(alphabet), say)
    _say_shortcomings(counts, spelled, characters, len(special) + len(alphabet) + len(tokens), vocabulary_size)
    return [*special, *alphabet, *tokens]


def _characters(counts: dict[str, int], room: int, tokenize_chinese_chars: bool) -> set[str]:
    """Chooses the characters of a vocabulary, the most frequent first.

    Args:
      counts: the words and how often each occurs.
      room: the most tokens that the characters may take: two for a letter, one for a character that is always a word.
      tokenize_chinese_chars: whether each CJK ideograph is a word.
    """
    occurrences: collections.Counter[str] = collections.Counter()
    for word, count in counts.items():
        for character in word:
            occurrences[character] += count
    always_words = words_of_one_character(tokenize_chinese_chars)
    enough = COVERAGE * occurrences.total()
    chosen: set[str] = set()
    covered = 0
    for character, count in sorted(occurrences.items(), key=lambda item: (-item[1], item[0])):
        room -= 1 if always_words[ord(character)] else 2
        if room < 0 or (len(chosen) >= SURE_CHARACTERS and covered >= enough):
            break
        chosen.add(character)
        covered += count
    return chosen


def _say_shortcomings(counts: dict[str, int], spelled: dict[str, int], characters: set[str], size: int, asked: int) -> None:
    """Warns of words that the vocabulary cannot spell, and of a vocabulary that is smaller than the user asked for."""
    unspelled = sum(counts.values()) - sum(spelled.values())
    if unspelled:
        everything = set().union(*counts)
        warnings.warn(
            f"the vocabulary has {len(characters):,} of the {len(everything):,} different characters of the texts; the "
            f"{unspelled:,} words with other characters ({unspelled / sum(counts.values()):.2%} of all words) are [UNK]. "
            "A larger vocabulary_size has room for more characters",
            stacklevel=3,
        )
    if size < asked:
        warnings.warn(
            f"the vocabulary has {size:,} tokens in place of the {asked:,} that were asked for: no other piece of the texts' "
            f"{len(counts):,} different words occurs {LEAST} times. More texts give more tokens",
            stacklevel=3,
        )


@contextlib.contextmanager
def _progress_line(shown: bool) -> Iterator[Callable[[str], None]]:
    """Shows a line on the terminal while the block runs; yields a function that sets its text."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        line = bar.add_task("counting words")
        yield lambda text: bar.update(line, description=text)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yields lists of texts that are small enough to be cut into words at once."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text) if isinstance(text, (str, bytes)) else 0
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _count_words(texts: Iterable[str], model: bytes, say: Callable[[str], None]) -> dict[str, int]:
    """Counts the words of a stream of texts.

    Args:
      texts: the texts, read once.
      model: the table of the normalizer, which `normalizer_model` made.
      say: takes a line about the progress.
    """
    normalizer, splitter = make_normalizer(model), tensorflow_text().WhitespaceTokenizer()
    counts: collections.Counter[bytes] = collections.Counter()
    read = 0
    for chunk in _chunks(texts):
        encoded = text_list(chunk)
        read += len(encoded)
        counts.update(splitter.tokenize(normalizer.normalize(tf.constant(encoded))).values.numpy().tolist())
        if len(counts) > 2 * MOST_WORDS:
            counts = collections.Counter(dict(sorted(counts.items(), key=lambda i: (-i[1], i[0]))[:MOST_WORDS]))
        say(f"counted the words of {read:,} texts: {len(counts):,} different ones")
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
