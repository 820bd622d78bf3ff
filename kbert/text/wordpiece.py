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

from kbert.text.normalizer import character_model, isolating_model, make_normalizer, normalizer_model, tensorflow_text
from kbert.text.typed_tokens import TypedTokens


class Pieces(NamedTuple):
    """The pieces of `B` texts, with their places inside words and the places of words inside texts."""

    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    starts: tf.Tensor  # [P], bytes from the start of the word
    ends: tf.Tensor  # [P], bytes from the start of the word, exclusive
    word_splits: tf.Tensor  # [W + 1], the row splits of pieces in words
    starts_of_words: tf.RaggedTensor  # [B, (words)], bytes from the start of the clean text
    source: tf.RaggedTensor | None  # [B, (bytes of the clean text + 1)], the byte of the given text that each one comes from
    typed_bytes: tf.Tensor | None  # [P], the bytes of a typed token in the given text, 1 for any other piece
    inner: tf.RaggedTensor | None = None  # with added words, the byte of the text that they stand in; `source` maps that text
    added_bytes: tf.Tensor | None = None  # [P], the bytes of an added word in that text, 1 for any other piece

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
      typed_tokens: the tokens to recognize where they are typed, as they stand there.
      added_words: the tokens to recognize in texts that are cleaned up.
      clean_text: whether control characters are deleted.
      max_input_chars_per_word: a longer word is one [UNK].

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
        typed_tokens: Sequence[str] = (),
        added_words: Sequence[str] = (),
        clean_text: bool = True,
        max_input_chars_per_word: int = 100,
    ) -> None:
        tft = tensorflow_text()
        self._unk_token_id = tokens.index(unk_token)
        self._size, self._longest_word = len(tokens), max_input_chars_per_word
        self._typed = TypedTokens({token: tokens.index(token) for token in typed_tokens}) if typed_tokens else None
        marks = self._typed.characters if self._typed else []
        alphabet = frozenset("".join(tokens))
        self._added = None
        if added_words:
            whole = make_normalizer(normalizer_model(lowercase, strip_accents, tokenize_chinese_chars))
            with tf.init_scope():
                spelled = [text.decode("utf-8") for text in whole.normalize(tf.constant(list(added_words))).numpy()]
            self._added = TypedTokens(dict(zip(spelled, map(tokens.index, added_words))), first=len(marks))
            if len(self._added.marks) < len(added_words):
                raise ValueError(f"two of the added words {', '.join(map(repr, added_words))} are equal after the clean-up")
            alphabet |= frozenset("".join(spelled))
            with tf.init_scope():
                self._isolator = make_normalizer(isolating_model(self._added.characters))
        model = normalizer_model(lowercase, strip_accents, tokenize_chinese_chars, "".join(marks), alphabet, clean_text)
        with tf.init_scope():
            self._normalizer = make_normalizer(model)
            self._characters = make_normalizer(character_model())
            self._words = tft.WhitespaceTokenizer()
            self._pieces = tft.FastWordpieceTokenizer(
                # A mark has an id of its own, V and up, until `_restore`.
                [*tokens, *marks, *(self._added.characters if self._added else [])],
                token_out_type=tf.int32,
                # Four bytes a character, so that the limit in characters is the one that acts.
                max_bytes_per_word=4 * self._longest_word,
                unknown_token=unk_token,
                no_pretokenization=True,
            )

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns texts `[B]` as they are before they are cut at spaces into words."""
        clean = self._normalizer.normalize(self._typed.mark(texts) if self._typed else texts)
        return self._isolator.normalize(self._added.mark(clean)) if self._added else clean

    def tokenize(self, texts: tf.Tensor, with_offsets: bool = False) -> Pieces:
        """Cuts texts into pieces.

        Args:
          texts: a string tensor `[B]` of UTF-8.
          with_offsets: whether `source`, the way back from the clean text to the given one, is computed too.

        Returns:
          The `Pieces`; `source` is None without offsets, and `typed_bytes` is None if no typed tokens are recognized.
        """
        source, inner = None, None
        if with_offsets:
            clean_texts, source = self._normalizer.normalize_with_offsets(self._typed.mark(texts) if self._typed else texts)
            if self._added:
                clean_texts, inner = self._isolator.normalize_with_offsets(self._added.mark(clean_texts))
        else:
            clean_texts = self.clean(texts)
        words, word_starts, word_ends = self._words.tokenize_with_offsets(clean_texts)  # [B, (words)]
        pieces, starts, ends = self._pieces.tokenize_with_offsets(words.values)  # [W, (pieces)]
        word_bytes = tf.cast(word_ends.values - word_starts.values, tf.int32)  # [W]
        ids, starts, ends, splits = self._limit_words(
            words.values, word_bytes, pieces.values, starts.values, ends.values, pieces.row_splits
        )
        typed_bytes, added_bytes = None, None
        if self._typed or self._added:
            ids, typed_bytes, added_bytes = self._restore(ids)
        row_splits = tf.gather(splits, words.row_splits)  # from pieces of a word to pieces of a text
        ids = tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False)
        return Pieces(ids, starts, ends, splits, word_starts, source, typed_bytes, inner, added_bytes)

    def _restore(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Replaces the ids of marks by those of their tokens.

        Args:
          ids: the ids of pieces, int32 `[P]`, where `V` and above stand for marks.

        Returns:
          The ids of the vocabulary, the bytes of each typed token and the bytes of each added word, int32 `[P]`. The bytes of
          any other piece are 1.
        """
        typed, added = ([], []) if self._typed is None else (self._typed.ids, self._typed.sizes), self._added
        more = ([], []) if added is None else (added.ids, added.sizes)
        is_mark = ids >= self._size
        number = tf.where(is_mark, ids - self._size, 0)
        restored = tf.where(is_mark, tf.gather(typed[0] + more[0], number), ids)
        return (
            restored,
            tf.where(is_mark, tf.gather(typed[1] + [1] * len(more[1]), number), 1),
            tf.where(is_mark, tf.gather([1] * len(typed[1]) + more[1], number), 1),
        )

    def _limit_words(
        self,
        words: tf.Tensor,
        word_bytes: tf.Tensor,
        ids: tf.Tensor,
        starts: tf.Tensor,
        ends: tf.Tensor,
        splits: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Makes each word of more than `max_input_chars_per_word` characters one [UNK].

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
            is_long = lengths > self._longest_word
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

        any_is_long = tf.reduce_max(tf.concat([word_bytes, [0]], 0)) > self._longest_word
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
        outer = pieces.source if pieces.inner is None else pieces.inner
        clean_start = tf.gather(outer.row_splits, pieces.texts())  # [P], where the text begins among all bytes
        word_start = clean_start + tf.cast(pieces.word_starts(), tf.int64)
        first_byte = tf.gather(outer.values, word_start + tf.cast(pieces.starts, tf.int64))
        last_byte = tf.gather(outer.values, word_start + tf.cast(pieces.ends, tf.int64) - 1)
        if pieces.inner is not None:  # these bytes are of the text in which added words are marked
            start = tf.gather(pieces.source.row_splits, pieces.texts())
            first_byte = tf.gather(pieces.source.values, start + first_byte)
            last_byte = tf.gather(pieces.source.values, start + last_byte + tf.cast(pieces.added_bytes, tf.int64) - 1)
        if pieces.typed_bytes is not None:
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
