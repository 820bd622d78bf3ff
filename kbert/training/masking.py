"""Hidden tokens for masked language modelling, drawn in the graph (Devlin et al. 2018, section 3.1 and appendix A.1)."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from kbert.training.length_batches import by_epoch
from kbert.training.losses import NO_LABEL


class MaskingTokenizer(Protocol):
    """What masking asks of a tokenizer; `kbert.WordPieceTokenizer` has it."""

    vocabulary: list[str]
    vocabulary_size: int
    special_tokens: list[str]
    mask_token_id: int

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token."""


def mask_tokens(
    packed: dict[str, tf.Tensor],
    tokenizer: MaskingTokenizer,
    rate: float = 0.15,
    seed: tf.Tensor | tuple[int, int] | None = None,
    whole_words: bool = False,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Hides some tokens of packed texts, and returns which they were.

    >>> tokenizer = kbert.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])
    >>> inputs, labels = mask_tokens(kbert.TextPreprocessor(tokenizer)(["a b c a b c a b"]), tokenizer, seed=(1, 2))
    >>> inputs["mask_positions"].shape, labels.shape
    (TensorShape([1, 1]), TensorShape([1, 1]))

    Of a text's tokens, special tokens aside, the share `rate` is chosen on average, and one token at least. Where the share is
    no whole number, its fraction is the probability that one more is chosen. Of the chosen tokens 80 % become [MASK], 10 %
    become a random token of the vocabulary, and 10 % stay as they are.

    Args:
      packed: the dictionary of a `TextPreprocessor`, `[B, L]`.
      tokenizer: the tokenizer with which the texts were read.
      rate: the share of tokens to choose, from 0 to 1.
      seed: two numbers; the same numbers choose the same tokens. By default each call chooses anew.
      whole_words: whether words are chosen with all of their pieces. On average `rate` of the tokens is still chosen.

    Returns:
      The dictionary with `mask_positions`, int32 `[B, M]`, and the labels, int32 `[B, M]`: the ids of the chosen tokens, and
      -100 where a text has fewer than `M`.
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
        order, wanted = order_by_words(order, ids, can_hide, wanted, tokenizer, draws[4])
    order = tf.where(can_hide, order, -1.0)
    most = tf.maximum(tf.reduce_max(wanted), 1)
    positions = tf.math.top_k(order, most).indices  # [B, M], the likeliest first, whatever cannot be hidden last
    is_chosen = tf.range(most)[None] < wanted[:, None]
    positions = tf.where(is_chosen, positions, 0)
    hidden = tf.gather(ids, positions, batch_dims=1)
    fate = tf.random.stateless_uniform(tf.shape(positions), draws[1])
    others = tf.random.stateless_uniform(
        tf.shape(positions), draws[2], minval=0, maxval=tokenizer.vocabulary_size, dtype=ids.dtype
    )
    shown = tf.where(fate < 0.8, tf.cast(tokenizer.mask_token_id, ids.dtype), tf.where(fate < 0.9, others, hidden))
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
    where = tf.boolean_mask(tf.stack([rows, positions], -1), is_chosen)
    ids = tf.tensor_scatter_nd_update(ids, where, tf.boolean_mask(shown, is_chosen))
    return {**packed, "token_ids": ids, "mask_positions": positions}, tf.where(is_chosen, hidden, NO_LABEL)


def with_draws(data: tf.data.Dataset, seed: int, anew: bool, epoch: list[tf.Variable] | None = None) -> tf.data.Dataset:
    """Returns a dataset of pairs of an element and a random number, for masks that a run with the same seed draws again.

    Args:
      data: a dataset of batches.
      seed: a number from which all random numbers are derived.
      anew: whether the numbers differ in each epoch.
      epoch: a list that receives the variable which counts the epochs; see `kbert.training.length_batches.by_epoch`.
    """

    def draws(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), number if anew else 0)

        def draw(place: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.random.experimental.stateless_fold_in(key, place) % (2**31 - 1), tf.int32)

        return tf.data.Dataset.counter(dtype=tf.int32).map(draw)

    both = tf.data.Dataset.zip(data, by_epoch(draws, epoch))
    return both.apply(tf.data.experimental.assert_cardinality(data.cardinality()))


def order_by_words(
    order: tf.Tensor, ids: tf.Tensor, can_hide: tf.Tensor, wanted: tf.Tensor, tokenizer: MaskingTokenizer, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives all pieces of a word the same random number, so that whole words are chosen.

    The words are taken in the order of their numbers. Where the last word has more pieces than are still wanted, it is taken
    with the probability that makes the mean number of pieces equal to `wanted`.

    Args:
      order: a random number for each position, float32 `[B, L]`.
      ids: the tokens' ids, `[B, L]`.
      can_hide: whether a position may be chosen, bool `[B, L]`.
      wanted: how many pieces are to be chosen on average, int32 `[B]`.
      tokenizer: the tokenizer with which the texts were read.
      seed: the seed, int32 `[2]`, of the draw that decides about the last word.

    Returns:
      The words' random numbers at their positions, float32 `[B, L]`, and how many pieces are to be chosen, int32 `[B]`.
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
    is_taken = tf.random.stateless_uniform(tf.shape(wanted), seed) < missing
    return order, whole + tf.where(is_taken & (crossing > 0), crossing, 0)
