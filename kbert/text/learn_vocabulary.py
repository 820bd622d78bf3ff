"""Learns a vocabulary from raw text."""

import collections
import itertools
import pathlib

import tensorflow as tf

from kbert.files.vocabulary import SPECIAL_TOKENS
from kbert.text.normalizer import make_normalizer, normalizer_model, tensorflow_text
from kbert.text.texts import text_list

MOST_WORDS = 5_000_000  # different words held while counting; the rarest go when there are twice as many
CHUNK = 4096  # texts cut into words at a time


def learn_vocabulary(texts, vocabulary_size, lowercase=True, strip_accents=None, tokenize_chinese_chars=True, progress=True):
    """Learns WordPiece tokens from raw text, special tokens first.

    >>> learn_vocabulary(["low lower lowest"] * 9, vocabulary_size=30, progress=False)[:6]
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'e']

    Words are counted as `WordPieceTokenizer` splits them, then tensorflow-text's learner (the one behind keras-nlp's
    `compute_word_piece_vocabulary`) searches the threshold of frequency that gives the number of tokens asked for. The same
    texts give the same vocabulary. Every character kept stands alone and as `##`, so that it can always be spelled.

    Args:
      texts: an iterable of strings, read once, `CHUNK` at a time: what stays in memory is the words and their counts.
      vocabulary_size: the most tokens; a small corpus gives fewer.
      lowercase, strip_accents, tokenize_chinese_chars: as of the tokenizer.
      progress: show how far it is, on the terminal.

    Returns:
      A list of at most `vocabulary_size` tokens.

    Raises:
      ValueError: no word in the texts, or a size too small for the special tokens and some characters.
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
    # The search may end above the size: the rarest go, but no single character, for words are spelled with those.
    kept = len(tokens)
    droppable = [token for token in tokens if token not in special and len(token.removeprefix("##")) > 1]
    dropped = set(droppable[len(droppable) - max(0, kept - vocabulary_size) :])
    return [token for token in tokens if token not in dropped]


def _learner():
    tensorflow_text()
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib

    return wordpiece_tokenizer_learner_lib


def _count_words(texts, model, progress):
    """Counts the words of a stream of texts."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    normalizer, splitter = make_normalizer(model), tensorflow_text().WhitespaceTokenizer()
    counts = collections.Counter()
    stream = iter(texts)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=Console(stderr=True), disable=not progress, transient=True,
    )  # fmt: skip
    with bar:
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


def lines_of(paths):
    """The lines of text files, one after the other, as a stream; an error names the file and the line."""
    for path in map(pathlib.Path, paths):
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{path}, line {number} is not UTF-8 text ({error.reason} at byte {error.start})"
                    ) from error
