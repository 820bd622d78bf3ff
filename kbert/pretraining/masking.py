"""Masked positions for masked language modelling, drawn in the graph (Devlin et al. 2018, section 3.1 and appendix A.1)."""

import tensorflow as tf

from kbert.training.losses import NO_LABEL


def mask_tokens(packed, tokenizer, rate=0.15, seed=None):
    """Hides some tokens of packed texts and asks for them.

    >>> tokenizer = kbert.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])
    >>> inputs, labels = mask_tokens(kbert.TextPreprocessor(tokenizer)(["a b c a b c a b"]), tokenizer, seed=(1, 2))
    >>> inputs["mask_positions"].shape, labels.shape
    (TensorShape([1, 1]), TensorShape([1, 1]))

    Of a text's tokens, special tokens aside, `rate` are chosen (to the nearest whole number, but one at least). Of those 80 % become
    [MASK], 10 % a random token of the vocabulary, and 10 % stay as they are.

    Args:
      packed: the dictionary of a `TextPreprocessor`, `[B, L]`.
      tokenizer: a `WordPieceTokenizer`.
      rate: the share of tokens.
      seed: two numbers that repeat a draw; by default each call draws anew.

    Returns:
      The dictionary with `mask_positions` `[B, M]`, and the labels `[B, M]`: the hidden tokens' ids, -100 where a text has fewer.
    """
    ids = packed["token_ids"]
    seed = tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32) if seed is None else tf.convert_to_tensor(seed, tf.int32)
    draws = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    special = tf.constant([tokenizer.token_to_id(token) for token in tokenizer.special_tokens], ids.dtype)
    can_hide = tf.reduce_all(ids[:, :, None] != special, -1) & (packed["padding_mask"] == 1)  # [B, L]
    counts = tf.reduce_sum(tf.cast(can_hide, tf.int32), 1)
    wanted = tf.cast(tf.round(tf.cast(counts, tf.float32) * rate), tf.int32)
    wanted = tf.minimum(tf.maximum(wanted, 1), counts)  # [B]
    most = tf.maximum(tf.reduce_max(wanted), 1)
    order = tf.where(can_hide, tf.random.stateless_uniform(tf.shape(ids), draws[0]), -1.0)
    positions = tf.math.top_k(order, most).indices  # [B, M], the likeliest first, whatever cannot be hidden last
    chosen = tf.range(most)[None] < wanted[:, None]
    positions = tf.where(chosen, positions, 0)
    hidden = tf.gather(ids, positions, batch_dims=1)
    fate = tf.random.stateless_uniform(tf.shape(positions), draws[1])
    others = tf.random.stateless_uniform(
        tf.shape(positions), draws[2], minval=0, maxval=tokenizer.vocabulary_size, dtype=ids.dtype
    )
    shown = tf.where(fate < 0.8, tf.cast(tokenizer.mask_token_id, ids.dtype), tf.where(fate < 0.9, others, hidden))
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
    where = tf.boolean_mask(tf.stack([rows, positions], -1), chosen)
    ids = tf.tensor_scatter_nd_update(ids, where, tf.boolean_mask(shown, chosen))
    return {**packed, "token_ids": ids, "mask_positions": positions}, tf.where(chosen, hidden, NO_LABEL)
