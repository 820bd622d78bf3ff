"""Ids back to text, as the reference's WordPiece decoder writes it: `##` glues, and punctuation closes up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kbert.text.texts import is_tensor

# The decoder's clean-up, in the reference's order. It is applied to one piece at a time, never to the whole text.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def detokenize(
    token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray | tf.Tensor | tf.RaggedTensor,
    tokens: Sequence[str],
    skipped_ids: Sequence[int] = (),
) -> tf.Tensor:
    """Joins pieces into texts.

    >>> detokenize([[0, 1, 2], [0]], tokens=["un", "##able", "!"]).numpy().tolist()
    [b'unable!', b'un']

    Args:
      token_ids: ids `[B, (pieces)]` as a list of lists, an array, a tensor or a ragged tensor; or the ids `[pieces]` of one
        text.
      tokens: the `V` tokens of the vocabulary, in the order of their ids.
      skipped_ids: ids to leave out.

    Returns:
      A string tensor `[B]`, or a scalar for `[pieces]`.
    """
    if not is_tensor(token_ids):
        is_nested = len(token_ids) > 0 and not np.isscalar(token_ids[0])
        ids = tf.ragged.constant(token_ids, tf.int32) if is_nested else tf.constant(token_ids, tf.int32)
    else:
        ids = token_ids
    if ids.shape.rank == 1:
        return detokenize(ids[None], tokens, skipped_ids)[0]
    if not isinstance(ids, tf.RaggedTensor):
        ids = tf.RaggedTensor.from_tensor(ids)
    if skipped_ids:
        is_shown = tf.reduce_all(ids.flat_values[:, None] != tf.constant(skipped_ids, ids.dtype), 1)
        ids = tf.ragged.boolean_mask(ids, ids.with_flat_values(is_shown))
    at_start, inside = decoded_tokens(tokens)
    strings = ids.with_flat_values(tf.gather(inside, ids.flat_values))
    first_strings = ids[:, :1].with_flat_values(tf.gather(at_start, ids[:, :1].flat_values))
    return tf.strings.reduce_join(tf.concat([first_strings, strings[:, 1:]], 1), axis=-1)


def decoded_tokens(tokens: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the string that each token adds at the start of a text, and the one that it adds later on, both `[V]`."""
    at_start = [clean_up(token) for token in tokens]
    inside = [clean_up(token[2:] if token.startswith("##") else f" {token}") for token in tokens]
    return tf.constant(at_start), tf.constant(inside)


def clean_up(piece: str) -> str:
    """Returns the piece with English contractions and spaces before punctuation closed up."""
    for before, after in CLEAN_UP:
        piece = piece.replace(before, after)
    return piece
