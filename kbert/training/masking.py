"""Masked positions for masked language modelling, drawn in the graph (Devlin et al. 2018, section 3.1 and appendix A.1)."""

import tensorflow as tf

from kbert.training.batches import by_epoch
from kbert.training.losses import NO_LABEL


def mask_tokens(packed, tokenizer, rate=0.15, seed=None, whole_words=False):
    """Hides some tokens of packed texts and asks for them.

    >>> tokenizer = kbert.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])
    >>> inputs, labels = mask_tokens(kbert.TextPreprocessor(tokenizer)(["a b c a b c a b"]), tokenizer, seed=(1, 2))
    >>> inputs["mask_positions"].shape, labels.shape
    (TensorShape([1, 1]), TensorShape([1, 1]))

    Of a text's tokens, special tokens aside, `rate` are chosen on average (one at least; what is beyond a whole number is the chance of one
    more). Of those 80 % become [MASK], 10 % a random token of the vocabulary, and 10 % stay as they are.

    Args:
      packed: the dictionary of a `TextPreprocessor`, `[B, L]`.
      tokenizer: a `WordPieceTokenizer`.
      rate: the share of tokens.
      whole_words: choose words with all of their pieces, and on average still `rate` of the tokens.
      seed: two numbers that repeat a draw; by default each call draws anew.

    Returns:
      The dictionary with `mask_positions` `[B, M]`, and the labels `[B, M]`: the hidden tokens' ids, -100 where a text has fewer.
    """
    ids = packed["token_ids"]
    seed = tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32) if seed is None else tf.convert_to_tensor(seed, tf.int32)
    draws = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    special = tf.constant([tokenizer.token_to_id(token) for token in tokenizer.special_tokens], ids.dtype)
    can_hide = tf.reduce_all(ids[:, :, None] != special, -1) & (packed["padding_mask"] == 1)  # [B, L]
    counts = tf.reduce_sum(tf.cast(can_hide, tf.int32), 1)
    chance = tf.random.stateless_uniform(tf.shape(counts), draws[3])
    wanted = tf.cast(tf.floor(tf.cast(counts, tf.float32) * rate + chance), tf.int32)
    wanted = tf.minimum(tf.maximum(wanted, 1), counts)  # [B]
    order = tf.random.stateless_uniform(tf.shape(ids), draws[0])
    if whole_words:
        order, wanted = by_words(order, ids, can_hide, wanted, tokenizer, draws[4])
    order = tf.where(can_hide, order, -1.0)
    most = tf.maximum(tf.reduce_max(wanted), 1)
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


def with_draws(data, seed, anew, epoch=None):
    """A dataset whose elements have a random number beside them, for masks that a run with the same seed draws again.

    Args:
      data: a dataset of batches.
      seed: a number.
      anew: other numbers in each epoch.
      epoch: see `kbert.training.batches.by_epoch`.
    """

    def draws(number):
        places = tf.data.Dataset.counter(dtype=tf.int32)
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), number if anew else 0)
        return places.map(lambda place: tf.cast(tf.random.experimental.stateless_fold_in(key, place) % (2**31 - 1), tf.int32))

    both = tf.data.Dataset.zip(data, by_epoch(draws, epoch))
    return both.apply(tf.data.experimental.assert_cardinality(data.cardinality()))


def by_words(order, ids, can_hide, wanted, tokenizer, seed):
    """One random number for all pieces of a word, and how many pieces the first words in that order have.

    Where the last word has more pieces than are still wanted, it is taken with the chance that makes the mean what is wanted.

    Args:
      order: random numbers, `[B, L]`.
      ids, can_hide: `[B, L]`.
      wanted: numbers of pieces, int32 `[B]`.
      seed: of the last word's chance.
    """
    continues = tf.constant([token.startswith("##") for token in tokenizer.vocabulary])
    hidden_before = tf.pad(can_hide, [[0, 0], [1, 0]])[:, :-1]
    is_first = can_hide & ~(tf.gather(continues, ids) & hidden_before)
    word = tf.maximum(tf.cumsum(tf.cast(is_first, tf.int32), 1) - 1, 0)  # [B, L]
    order = tf.gather(order, word, batch_dims=1)
    real = tf.cast(can_hide, tf.int32)
    of_word = tf.one_hot(word, tf.shape(ids)[1], dtype=tf.int32) * real[..., None]  # [B, L, words]
    sizes = tf.reduce_sum(of_word, 1)  # [B, words]
    word_order = tf.reduce_max(tf.cast(of_word, tf.float32) * order[..., None], 1)
    place = tf.argsort(-word_order, 1, stable=True)
    sorted_sizes = tf.gather(sizes, place, batch_dims=1)
    after = tf.cumsum(sorted_sizes, 1)
    before = after - sorted_sizes
    whole = tf.reduce_max(tf.where(after <= wanted[:, None], after, 0), 1)  # pieces of the words that fit
    crossing = tf.reduce_max(tf.where((before < wanted[:, None]) & (after > wanted[:, None]), sorted_sizes, 0), 1)
    missing = tf.cast(wanted - whole, tf.float32) / tf.maximum(tf.cast(crossing, tf.float32), 1.0)
    taken = tf.random.stateless_uniform(tf.shape(wanted), seed) < missing
    return order, whole + tf.where(taken & (crossing > 0), crossing, 0)
