"""The graph of WordPiece (Schuster & Nakajima 2012, Wu et al. 2016): texts to pieces, and where each piece comes from.

A text is cleaned up, cut at spaces into words, and each word is cut from the left into the longest tokens that the vocabulary
holds. Three ops of tensorflow-text do that work. TF Serving and LiteRT have them, and the rest is core ops that both have as
well.

In this file `B` is the number of texts, `W` that of all their words and `P` that of all their pieces, which are the values of a
ragged tensor `[B, (pieces)]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from kbert.text.normalizer import character_model, make_normalizer, normalizer_model, tensorflow_text
from kbert.text.typed_tokens import TypedTokens

MAX_CHARACTERS_PER_WORD = 100  # the reference's limit: a longer word is one [UNK]


class Pieces(NamedTuple):
    """The pieces of `B` texts, with their places inside words and the places of words inside texts."""

    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    starts: tf.Tensor  # [P], bytes from the start of the word
    ends: tf.Tensor  # [P], bytes from the start of the word, exclusive
    word_splits: tf.Tensor  # [W + 1], the row splits of pieces in words
    starts_of_words: tf.RaggedTensor  # [B, (words)], bytes from the start of the clean text
    source: tf.RaggedTensor | None  # [B, (bytes of the clean text + 1)], the byte of the given text that each one comes from
    typed_bytes: tf.Tensor | None  # [P], the bytes of a typed special token, 1 for any other piece

    def texts(self) -> tf.Tensor:
        """Returns the number of each piece's text, `[P]`."""
        return row_ids(self.ids.row_splits, tf.shape(self.starts, tf.int64)[0])

    def word_starts(self) -> tf.Tensor:
        """Returns the byte of the clean text at which each piece's word starts, `[P]`."""
        return tf.gather(self.starts_of_words.values, row_ids(self.word_splits, tf.shape(self.starts, tf.int64)[0]))


class WordPieceGraph:
    """The ops of one vocabulary, which cut a string tensor `[B]` into pieces.

    Args:
      tokens: the `V` tokens of the vocabulary, in the order of their ids.
      unk_token: the token of a word that cannot be spelled with the others.
      lowercase: whether texts are lower-cased.
      strip_accents: whether accents are dropped; None does so if `lowercase` is true.
      tokenize_chinese_chars: whether each CJK ideograph is a word.
      typed_tokens: the special tokens to recognize where they are typed, or None.

    Raises:
      ImportError: if tensorflow-text is not installed.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        unk_token: str,
        lowercase: bool,
        strip_accents: bool | None,
        tokenize_chinese_chars: bool,
        typed_tokens: TypedTokens | None,
    ) -> None:
        tft = tensorflow_text()
        self._unk_token_id = tokens.index(unk_token)
        self._typed_tokens = typed_tokens
        marks = [] if typed_tokens is None else typed_tokens.characters
        alphabet = frozenset("".join(tokens))
        model = normalizer_model(lowercase, strip_accents, tokenize_chinese_chars, "".join(marks), alphabet)
        with tf.init_scope():
            self._normalizer = make_normalizer(model)
            self._characters = make_normalizer(character_model())
            self._words = tft.WhitespaceTokenizer()
            self._pieces = tft.FastWordpieceTokenizer(
                [*tokens, *marks],  # a mark has an id of its own, V and up, until `TypedTokens.restore`
                token_out_type=tf.int32,
                # Four bytes a character, so that the limit in characters is the one that acts.
                max_bytes_per_word=4 * MAX_CHARACTERS_PER_WORD,
                unknown_token=unk_token,
                no_pretokenization=True,
            )

    def tokenize(self, texts: tf.Tensor, with_offsets: bool = False) -> Pieces:
        """Cuts texts into pieces.

        Args:
          texts: a string tensor `[B]` of UTF-8.
          with_offsets: whether `source`, the way back from the clean text to the given one, is computed too.

        Returns:
          The `Pieces`; `source` is None without offsets, and `typed_bytes` is None if no typed tokens are recognized.
        """
        if self._typed_tokens is not None:
            texts = self._typed_tokens.mark(texts)
        if with_offsets:
            clean_texts, source = self._normalizer.normalize_with_offsets(texts)
        else:
            clean_texts, source = self._normalizer.normalize(texts), None
        words, word_starts, word_ends = self._words.tokenize_with_offsets(clean_texts)  # [B, (words)]
        pieces, starts, ends = self._pieces.tokenize_with_offsets(words.values)  # [W, (pieces)]
        word_bytes = tf.cast(word_ends.values - word_starts.values, tf.int32)  # [W]
        ids, starts, ends, splits = self._limit_words(
            words.values, word_bytes, pieces.values, starts.values, ends.values, pieces.row_splits
        )
        typed_bytes = None
        if self._typed_tokens is not None:
            ids, typed_bytes = self._typed_tokens.restore(ids)
        row_splits = tf.gather(splits, words.row_splits)  # from pieces of a word to pieces of a text
        ids = tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False)
        return Pieces(ids, starts, ends, splits, word_starts, source, typed_bytes)

    def _limit_words(
        self,
        words: tf.Tensor,
        word_bytes: tf.Tensor,
        ids: tf.Tensor,
        starts: tf.Tensor,
        ends: tf.Tensor,
        splits: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Makes each word of more than 100 characters one [UNK].

        The choice is made on ids, because LiteRT cannot choose between strings. It is made inside a condition, because next to
        no text has such a word.

        Args:
          words: the words, string `[W]`.
          word_bytes: the bytes of each word, int32 `[W]`.
          ids, starts, ends: the id of each piece, and its bytes from the start of its word, `[P]`.
          splits: the row splits of pieces in words, `[W + 1]`.

        Returns:
          The ids, starts, ends and splits that are left.
        """

        def limit() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            lengths = self._characters.normalize_with_offsets(words)[1].row_lengths() - 1  # characters, [W]
            is_long = lengths > MAX_CHARACTERS_PER_WORD
            first_piece = splits[:-1]
            # Every word has a piece, so the word of a piece is the number of first pieces up to it, less one.
            is_first = tf.scatter_nd(first_piece[:, None], tf.ones_like(first_piece, tf.int32), tf.shape(ids, tf.int64))
            word = tf.cumsum(is_first) - 1  # [P]
            in_long_word = tf.gather(is_long, word)
            remaining = tf.where((is_first == 1) | ~in_long_word)[:, 0]
            remaining_lengths = tf.where(is_long, tf.ones_like(first_piece), splits[1:] - first_piece)  # [W]
            return (
                tf.gather(tf.where(in_long_word, self._unk_token_id, ids), remaining),
                tf.gather(tf.where(in_long_word, tf.zeros_like(starts), starts), remaining),
                tf.gather(tf.where(in_long_word, tf.cast(tf.gather(word_bytes, word), ends.dtype), ends), remaining),
                tf.concat([splits[:1], tf.cumsum(remaining_lengths)], 0),
            )

        any_is_long = tf.reduce_max(tf.concat([word_bytes, [0]], 0)) > MAX_CHARACTERS_PER_WORD
        return tf.cond(any_is_long, limit, lambda: (ids, starts, ends, splits))

    def locate(self, texts: tf.Tensor, unit: str) -> list[tf.RaggedTensor]:
        """Cuts texts into pieces and finds the place in the given text that each one comes from.

        The normalizer maps the clean text's bytes to the given text's. A piece ends with the character that its last byte comes
        from, not where the next byte comes from: characters deleted between the two belong to neither piece.

        Args:
          texts: a string tensor `[B]` of UTF-8.
          unit: what starts and ends count, `"characters"` (Unicode code points) or `"bytes"`.

        Returns:
          Ids, starts and exclusive ends, each ragged int32 `[B, (pieces)]`.
        """
        pieces = self.tokenize(texts, with_offsets=True)
        assert pieces.source is not None
        clean_start = tf.gather(pieces.source.row_splits, pieces.texts())  # [P], where the text begins among all bytes
        word_start = clean_start + tf.cast(pieces.word_starts(), tf.int64)
        first_byte = tf.gather(pieces.source.values, word_start + tf.cast(pieces.starts, tf.int64))
        last_byte = tf.gather(pieces.source.values, word_start + tf.cast(pieces.ends, tf.int64) - 1)
        if self._typed_tokens is not None:
            # A typed token is down to its mark, all of whose bytes come from the token's first one.
            last_byte = last_byte + tf.cast(pieces.typed_bytes, tf.int64) - 1

        _, characters = self._characters.normalize_with_offsets(texts)  # [B, (characters + 1)], the first byte of each
        sizes = tf.gather(characters.values, characters.row_splits[1:] - 1) + 1  # [B], bytes, and one beyond the end
        byte_start = tf.cumsum(sizes, exclusive=True)  # [B]
        character_text = row_ids(characters.row_splits, tf.shape(characters.values, tf.int64)[0])
        is_start = tf.scatter_nd(
            (characters.values + tf.gather(byte_start, character_text))[:, None],
            tf.ones_like(characters.values),
            tf.reduce_sum(sizes)[None],
        )
        character_at = tf.cumsum(is_start) - 1  # from a byte of all texts to a character of all texts
        base = tf.gather(byte_start, pieces.texts())
        last_character = tf.gather(character_at, base + last_byte)
        if unit == "bytes":
            starts, ends = first_byte, tf.gather(characters.values, last_character + 1)
        else:
            character_base = tf.gather(characters.row_splits, pieces.texts())
            starts = tf.gather(character_at, base + first_byte) - character_base
            ends = last_character + 1 - character_base
        starts, ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        return [pieces.ids, pieces.ids.with_values(starts), pieces.ids.with_values(ends)]


def row_ids(row_splits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns the row of each value of a ragged tensor, in ops that LiteRT has.

    Args:
      row_splits: the row splits, `[rows + 1]`; rows may be empty.
      size: the number of values, a scalar.

    Returns:
      The row of each value, int32 `[size]`.
    """
    inner = row_splits[1:-1]
    # A row that starts at the very end has no values: the extra place at the end takes its mark.
    starts = tf.scatter_nd(inner[:, None], tf.ones_like(inner, tf.int32), (size + 1)[None])
    return tf.cumsum(starts)[:-1]
