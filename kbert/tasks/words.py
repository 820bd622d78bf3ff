"""Words and their pieces: which piece is a word's first, and where words stand in their text."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.text.texts import text_list


class Words(NamedTuple):
    """`B` texts with `W` words and `P` pieces in all."""

    texts: list  # of str
    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    word: np.ndarray  # [P], the number of each piece's word among those of all texts
    is_first: np.ndarray  # bool [P], whether a piece is its word's first
    splits: np.ndarray  # [B + 1], words of a text
    starts: np.ndarray  # [W], in characters of the text
    ends: np.ndarray  # [W]


def are_words(x):
    """Whether the input is lists of words rather than texts."""
    if isinstance(x, (str, bytes, dict, tf.data.Dataset)) or not hasattr(x, "__len__"):
        return False
    first = next(iter(x), None)
    return isinstance(first, (list, tuple, np.ndarray))


def read_words(x, tokenizer, name="x"):
    """Texts, or lists of words, with their pieces.

    Lists of words are read as the text `" ".join(words)`, so that a word has the pieces that it has by itself. The words of a text are
    what BERT's own pre-tokenizer makes of it: cut at white space, and punctuation by itself.
    """
    given = are_words(x)
    if given:
        columns = [text_list(words, f"{name}[{place}]") for place, words in enumerate(x)]
        texts = [" ".join(word.decode("utf-8") for word in words) for words in columns]
    else:
        texts = [text.decode("utf-8") for text in text_list(x, name)]
    ids, starts, ends = tokenizer.tokenize_with_offsets(texts)
    starts, ends = starts.values.numpy(), ends.values.numpy()
    piece_splits = ids.row_splits.numpy()
    row = np.repeat(np.arange(len(texts)), np.diff(piece_splits))
    new_row = np.r_[True, row[1:] != row[:-1]] if len(row) else np.zeros(0, bool)
    if given:
        lengths = [[len(word.decode("utf-8")) for word in words] for words in columns]
        splits = np.cumsum([0, *map(len, lengths)])
        word_starts = np.concatenate(
            [[0, *np.cumsum(np.array(row_lengths[:-1]) + 1)] for row_lengths in lengths if row_lengths] or [[]]
        )
        word_starts = word_starts.astype(np.int64)
        word_ends = word_starts + np.array([size for row_lengths in lengths for size in row_lengths], np.int64)
        base = np.cumsum([0, *(len(text) + 1 for text in texts)])  # makes places of different texts comparable
        row_of_word = np.repeat(np.arange(len(texts)), np.diff(splits))
        word = np.searchsorted(word_starts + base[row_of_word], starts + base[row], side="right") - 1
        is_first = np.r_[True, word[1:] != word[:-1]] if len(word) else np.zeros(0, bool)
        return Words(texts, ids, word, is_first, splits, word_starts, word_ends)
    continues = np.array([token.startswith("##") for token in tokenizer.vocabulary])
    is_first = ~continues[ids.values.numpy()] | new_row
    word = np.cumsum(is_first) - 1
    splits = np.r_[0, np.cumsum(is_first)][piece_splits]
    last = np.r_[is_first[1:], True] if len(is_first) else is_first
    return Words(texts, ids, word, is_first, splits, starts[is_first].astype(np.int64), ends[last].astype(np.int64))
