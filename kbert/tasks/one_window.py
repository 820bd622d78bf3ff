"""Graphs that read one window of a text, in ops that LiteRT has: the parts from which tasks build them."""

from __future__ import annotations

import tensorflow as tf

from kbert.text.normalizer import tensorflow_text
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer


def fixed_shape(preprocessor: TextPreprocessor, packed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns packed ids of one text in a shape that is known beforehand, `[1, L]`, for which LiteRT can plan the encoder.

    Args:
      preprocessor: the preprocessor that packed the text, with a fixed length `L`.
      packed: int32 tensors of one row by name.
    """
    return {name: tf.reshape(ids, [1, preprocessor.max_length]) for name, ids in packed.items()}


def one_row(values: tf.Tensor) -> tf.RaggedTensor:
    """Returns values as a ragged tensor of one row. LiteRT has no kernel for a slice of a ragged tensor."""
    return tf.RaggedTensor.from_row_splits(
        values, tf.stack([tf.constant(0, tf.int64), tf.size(values, tf.int64)]), validate=False
    )


def substrings(text: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Returns the strings between bytes of one text.

    Args:
      text: string `[1]`.
      starts: the first byte of each string, int32 `[E]`.
      ends: the byte after each string, int32 `[E]`.

    Returns:
      string `[E]`.
    """
    return tensorflow_text().ByteSplitter().split_by_offsets(text, one_row(starts), one_row(ends)).values


def ids_with_special_tokens(tokenizer: WordPieceTokenizer, text: tf.Tensor) -> tf.Tensor:
    """Returns the ids of one text in which a typed special token is one token.

    The tokenizer finds special tokens by a regular expression, which LiteRT does not have. Here they are found by their
    spelling among the pieces into which they are cut.

    Args:
      tokenizer: a tokenizer that does not recognize special tokens.
      text: string `[1]`.

    Returns:
      int32 `[P]`.
    """
    with tf.init_scope():
        widths = {token: len(tokenizer(token)) for token in tokenizer.special_tokens}
    ids, starts, ends = (part.values for part in tokenizer.tokenize_with_offsets(text, unit="bytes"))
    count, is_inside, special = tf.size(ids), tf.zeros_like(ids), tf.zeros_like(ids)
    for token, width in widths.items():
        begins = starts[: tf.maximum(count - width + 1, 0)]
        spelled = substrings(text, begins, tf.minimum(begins + len(token.encode("utf-8")), ends[-1:]))
        is_token = tf.pad(tf.cast(tf.equal(spelled, token), tf.int32), [[0, width]])[:count]
        special += is_token * (tokenizer.token_to_id(token) + 1)
        for further in range(1, width):
            is_inside += tf.pad(is_token, [[further, 0]])[:count]
    first_pieces = tf.where(tf.equal(is_inside, 0))[:, 0]
    return tf.gather(tf.where(special > 0, special - 1, ids), first_pieces)
