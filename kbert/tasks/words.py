"""Words and their pieces: which piece is a word's first, and where words stand in their text."""

from typing import NamedTuple

import tensorflow as tf

from kbert.tasks.columns import are_words
from kbert.text.texts import text_list


class Words(NamedTuple):
    """`B` texts with `W` words and `P` pieces in all."""

    texts: list  # of UTF-8 bytes
    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    word: tf.Tensor  # int64 [P], the number of each piece's word among those of all texts
    is_first: tf.Tensor  # bool [P], whether a piece is its word's first
    splits: tf.Tensor  # int64 [B + 1], words of a text
    starts: tf.Tensor  # int64 [W], in characters of the text
    ends: tf.Tensor  # int64 [W]


def read_words(x, tokenizer, name="x"):
    """Texts, or lists of words, with their pieces.

    Lists of words are read as the text `" ".join(words)`, so that a word has the pieces that it has by itself. The words of a text are
    what BERT's own pre-tokenizer makes of it: cut at white space, and punctuation by itself.
    """
    if not are_words(x):
        texts = text_list(x, name)
        ids, starts, ends = tokenizer.tokenize_with_offsets(texts)
        return Words(texts, *_words_of_texts(tokenizer, ids, starts, ends))
    columns = [text_list(words, f"{name}[{place}]") for place, words in enumerate(x)]
    words = tf.RaggedTensor.from_row_lengths(
        tf.constant([word for column in columns for word in column], tf.string), [len(column) for column in columns]
    )
    return Words([b" ".join(column) for column in columns], *_given_words(tokenizer, words))


def _given_words(tokenizer, words):
    """Ragged strings `[B, (words)]` with their pieces, in ops of a graph."""
    pieces = tokenizer(words.values)  # ragged [W, (pieces)]
    word = pieces.value_rowids()
    ids = tf.RaggedTensor.from_row_splits(pieces.values, tf.gather(pieces.row_splits, words.row_splits))
    length = tf.cast(tf.strings.length(words.values, unit="UTF8_CHAR"), tf.int64)
    beyond = words.with_values(tf.cumsum(length + 1))  # a space after each word; counted over all texts
    before = tf.gather(tf.concat([[0], beyond.values], 0), words.row_splits[:-1])
    ends = beyond.values - 1 - tf.repeat(before, words.row_lengths())
    return ids, word, _first_of_run(word), words.row_splits, ends - length, ends


def _words_of_texts(tokenizer, ids, starts, ends):
    """The words that BERT's pre-tokenizer finds: a piece that does not begin with `##` begins one."""
    continues = tf.constant([token.startswith("##") for token in tokenizer.vocabulary])
    is_first = ~tf.gather(continues, ids.values) | _first_of_run(ids.value_rowids())
    word = tf.cumsum(tf.cast(is_first, tf.int64)) - 1
    splits = tf.gather(tf.concat([[0], word + 1], 0), ids.row_splits)
    is_last = tf.concat([is_first[1:], tf.ones_like(is_first[:1])], 0)
    starts, ends = tf.boolean_mask(starts.values, is_first), tf.boolean_mask(ends.values, is_last)
    return ids, word, is_first, splits, tf.cast(starts, tf.int64), tf.cast(ends, tf.int64)


def _first_of_run(numbers):
    """Where numbers `[P]` that never fall go up, and the first of all."""
    return tf.concat([tf.ones_like(numbers[:1], tf.bool), numbers[1:] != numbers[:-1]], 0)
