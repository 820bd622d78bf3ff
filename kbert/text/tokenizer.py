"""WordPiece as graph ops: strings in, the reference's ids out, wherever the graph runs."""

import os
import re
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kbert.files.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary
from kbert.text.learn_vocabulary import learn_vocabulary
from kbert.text.normalizer import character_model, make_normalizer, normalizer_model, tensorflow_text
from kbert.text.texts import is_tensor, text_list

MAX_CHARACTERS_PER_WORD = 100  # the reference's; a longer word is one [UNK]


class TokensWithOffsets(NamedTuple):
    """Ids and where they come from: three ragged int32 tensors `[B, (pieces)]`."""

    token_ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


@keras.saving.register_keras_serializable("kbert")
class WordPieceTokenizer(keras.layers.Layer):
    """Strings to WordPiece ids, exactly as the `tokenizers` package's BERT pipeline makes them.

    >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", "!"])
    >>> tokenizer(["Unable!", "Ünable able"]).to_list()
    [[5, 6, 7], [5, 6, 1]]
    >>> tokenizer.detokenize([[5, 6, 7]]).numpy()
    array([b'unable!'], dtype=object)

    It is made of tensorflow-text ops that TF Serving and LiteRT have, so that an exported model cuts text into the very same
    pieces. No [CLS] or [SEP] is added here: that is packing.

    Exact: every Unicode code point, cased and uncased, words over 100 characters, offsets, special tokens. Not exact, and why:

    * Combining marks that the reference keeps when it drops accents (the spacing ones U+302E, U+302F, U+1D165, U+1D166, U+1D16D to
      U+1D172, and nonspacing ones newer than its Unicode 8.0): where one stands out of canonical order among other marks, the
      reference reorders them, and its offset of that piece then names a neighbour; here the order and the offset are those of
      the text. Ids differ only if the vocabulary holds two such marks.
    * A string tensor that is not UTF-8 is passed through; Python's strings cannot be that, and bytes are checked.

    Args:
      vocabulary: a list of `V` tokens in the order of their ids, or the path of a `vocab.txt`.
      lowercase: lower-case the text, as uncased checkpoints need it.
      strip_accents: drop accents; `None` follows `lowercase`.
      tokenize_chinese_chars: make each CJK ideograph a word.
      recognize_special_tokens: whether `[MASK]`, `[SEP]`, ... typed in the text become those tokens. Off by default: text from
        outside should not be able to contain control tokens. It takes a regular expression, which LiteRT does not have.
      pad_token, unk_token, cls_token, sep_token, mask_token: the special tokens' names in the vocabulary.

    Raises:
      ValueError: a duplicate or empty token, or a special token that the vocabulary lacks.
      ImportError: tensorflow-text is not installed.
    """

    def __init__(
        self,
        vocabulary,
        lowercase=True,
        strip_accents=None,
        tokenize_chinese_chars=True,
        recognize_special_tokens=False,
        pad_token=SPECIAL_TOKENS["pad_token"],
        unk_token=SPECIAL_TOKENS["unk_token"],
        cls_token=SPECIAL_TOKENS["cls_token"],
        sep_token=SPECIAL_TOKENS["sep_token"],
        mask_token=SPECIAL_TOKENS["mask_token"],
        **kwargs,
    ):
        super().__init__(**kwargs)
        # Strings are not numbers: Keras must neither convert nor cast what is passed to this layer.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True
        if isinstance(vocabulary, (str, bytes)) or hasattr(vocabulary, "__fspath__"):
            vocabulary = read_vocabulary(vocabulary)
        self._tokens = tuple(vocabulary)
        self.lowercase = bool(lowercase)
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = bool(tokenize_chinese_chars)
        self.recognize_special_tokens = bool(recognize_special_tokens)
        self.pad_token, self.unk_token, self.cls_token = pad_token, unk_token, cls_token
        self.sep_token, self.mask_token = sep_token, mask_token
        check_vocabulary(self._tokens, special_tokens=self.special_tokens)
        self._id_of = {token: number for number, token in enumerate(self._tokens)}
        self._make_ops(tensorflow_text())
        # A plain dictionary that Keras does not track: it holds functions, not weights.
        self.__dict__["_compiled"] = {}

    def _make_ops(self, tft):
        self._marks = _marks(self.special_tokens) if self.recognize_special_tokens else {}
        marks = [mark.rstrip("\x01") for mark in self._marks.values()]
        normalizer = normalizer_model(
            self.lowercase, self.strip_accents, self.tokenize_chinese_chars, "".join(marks), frozenset("".join(self._tokens))
        )
        with tf.init_scope():
            self._normalizer = make_normalizer(normalizer)
            self._characters = make_normalizer(character_model())
            self._words = tft.WhitespaceTokenizer()
            self._pieces = tft.FastWordpieceTokenizer(
                [*self._tokens, *marks],  # a typed special token has an id of its own, V and up, until `_tokenize` ends
                token_out_type=tf.int32,
                # Four bytes a character, so that the limit in characters is the one that acts.
                max_bytes_per_word=4 * MAX_CHARACTERS_PER_WORD,
                unknown_token=self.unk_token,
                no_pretokenization=True,
            )

    # Vocabulary

    @property
    def special_tokens(self):
        """The names of the special tokens: pad, unk, cls, sep, mask."""
        return (self.pad_token, self.unk_token, self.cls_token, self.sep_token, self.mask_token)

    @property
    def vocabulary(self):
        """The list of `V` tokens, in the order of their ids."""
        return list(self._tokens)

    @property
    def vocabulary_size(self):
        """The number of tokens, `V`."""
        return len(self._tokens)

    def token_to_id(self, token):
        """The id of a token; a KeyError if the vocabulary does not hold it."""
        if token not in self._id_of:
            raise KeyError(f"{token!r} is not one of the {self.vocabulary_size} tokens of the vocabulary")
        return self._id_of[token]

    def id_to_token(self, token_id):
        """The token of an id; an IndexError outside `0 ... V - 1`."""
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(f"id {token_id} is outside the vocabulary of {self.vocabulary_size} tokens")
        return self._tokens[token_id]

    pad_token_id = property(lambda self: self._id_of[self.pad_token])
    unk_token_id = property(lambda self: self._id_of[self.unk_token])
    cls_token_id = property(lambda self: self._id_of[self.cls_token])
    sep_token_id = property(lambda self: self._id_of[self.sep_token])
    mask_token_id = property(lambda self: self._id_of[self.mask_token])

    @classmethod
    def from_preset(cls, preset, **kwargs):
        """Returns the tokenizer of a preset, with its vocabulary, case and special tokens.

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name@revision`, a folder, or a live model of KerasHub.
          **kwargs: arguments of the tokenizer that win over the preset's, for example `recognize_special_tokens=True`.

        Raises:
          FileNotFoundError: there is no such preset, or it has no vocabulary.
        """
        from kbert.checkpoints.opened import open_preset

        with open_preset(preset) as opened:
            return cls(opened.vocabulary, **{**opened.tokenizer_options, **kwargs})

    @classmethod
    def learn(cls, texts, vocabulary_size, lowercase=True, strip_accents=None, tokenize_chinese_chars=True, progress=True):
        """Learns a vocabulary from raw text and returns its tokenizer.

        >>> tokenizer = WordPieceTokenizer.learn(["the cat sat", "the cats sit"] * 9, vocabulary_size=40, progress=False)
        >>> tokenizer.vocabulary[:5], "the" in tokenizer.vocabulary
        (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'], True)

        Args:
          texts: an iterable of strings, read once; it may be larger than the memory.
          vocabulary_size: the most tokens, special tokens included.
          lowercase, strip_accents, tokenize_chinese_chars: as of the tokenizer.
          progress: show how far it is.
        """
        clean_up = {
            "lowercase": lowercase,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
        }
        return cls(learn_vocabulary(texts, vocabulary_size, **clean_up, progress=progress), **clean_up)

    # Strings to ids

    def __call__(self, texts):
        # Keras would walk through a list of a million strings; a tensor it takes as it is.
        if not is_tensor(texts):
            texts = tf.constant(text_list(texts)[0] if isinstance(texts, (str, bytes)) else text_list(texts), tf.string)
        if is_column(texts):
            return self._side_by_side("ids")(texts)[0]
        return super().__call__(texts)

    def _side_by_side(self, what):
        """A compiled function that cuts a column of texts into a part for each core: the ops themselves use one core.

        Twice as fast on two cores. `what` is `"ids"`, or the unit of the offsets beside them.
        """
        if what not in self._compiled:
            cores = min(os.cpu_count() or 1, 16)

            def compute(part):
                return [self._tokenize(part).ids] if what == "ids" else self._locate(part, what)

            @tf.function(
                input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
            )  # which doubles the time of tracing
            def tokenize(texts):
                count = tf.size(texts)
                bounds = [count * part // cores for part in range(cores + 1)]
                parts = [compute(texts[a:b]) for a, b in zip(bounds, bounds[1:])]
                return [tf.concat(column, 0) for column in zip(*parts)]

            self._compiled[what] = tokenize
        return self._compiled[what]

    def call(self, texts):
        """Cuts texts into pieces.

        Args:
          texts: a string, or a list, array, tensor or ragged tensor of strings `[B]` (any shape `[..., B]` as a tensor).

        Returns:
          A ragged int32 tensor `[B, (pieces)]`; for one string, a tensor `[pieces]`.
        """
        return self._on_flat_texts(texts, lambda flat: [self._tokenize(flat).ids])[0]

    def tokenize_with_offsets(self, texts, unit="characters"):
        """Cuts texts into pieces and says where in the original text each one comes from.

        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ete", "!"])
        >>> ids, starts, ends = tokenizer.tokenize_with_offsets("Été !")
        >>> ids.numpy().tolist(), starts.numpy().tolist(), ends.numpy().tolist()
        ([5, 6], [0, 4], [3, 5])

        Args:
          texts: as for a call.
          unit: `"characters"` (Unicode code points, so that `text[start:end]` is right in Python) or `"bytes"` of UTF-8.

        Returns:
          `TokensWithOffsets(token_ids, starts, ends)`, each ragged int32 `[B, (pieces)]`; `ends` are exclusive. Offsets point
          into the text as given, before any clean-up.
        """
        if unit not in ("characters", "bytes"):
            raise ValueError(f'unit should be "characters" or "bytes", got {unit!r}')
        if not is_tensor(texts) and not isinstance(texts, (str, bytes)):
            texts = tf.constant(text_list(texts), tf.string)
        if is_column(texts):
            return TokensWithOffsets(*self._side_by_side(unit)(texts))
        return TokensWithOffsets(*self._on_flat_texts(texts, lambda flat: self._locate(flat, unit)))

    def _on_flat_texts(self, texts, compute):
        """Applies a function of `[B]` strings, which gives ragged `[B, (pieces)]`, to texts of any shape."""
        if isinstance(texts, (str, bytes)):
            return [ragged.values for ragged in compute(tf.constant(text_list(texts)))]
        if not is_tensor(texts):
            texts = tf.constant(text_list(texts), tf.string)
        if texts.shape.rank == 0:
            return [ragged.values for ragged in compute(texts[None])]
        if isinstance(texts, tf.RaggedTensor) or texts.shape.rank > 1:
            if not isinstance(texts, tf.RaggedTensor):
                texts = tf.RaggedTensor.from_tensor(texts, ragged_rank=texts.shape.rank - 1)
            return [texts.with_flat_values(ragged) for ragged in compute(texts.flat_values)]
        return compute(texts)

    def _tokenize(self, texts, with_offsets=False):
        """Texts `[B]` to pieces and, if asked, the places of the bytes of the clean text in the given one."""
        if self._marks:
            texts = self._mark_special_tokens(texts)
        if with_offsets:
            clean, source = self._normalizer.normalize_with_offsets(texts)
        else:
            clean, source = self._normalizer.normalize(texts), None
        words, word_starts, word_ends = self._words.tokenize_with_offsets(clean)
        pieces, starts, ends = self._pieces.tokenize_with_offsets(words.values)
        word_bytes = tf.cast(word_ends.values - word_starts.values, tf.int32)
        ids, starts, ends, splits = self._limit_words(
            words.values, word_bytes, pieces.values, starts.values, ends.values, pieces.row_splits
        )
        typed_bytes = None
        if self._marks:
            typed = ids >= self.vocabulary_size
            which = tf.where(typed, ids - self.vocabulary_size, 0)
            ids = tf.where(typed, tf.gather([self._id_of[token] for token in self._marks], which), ids)
            typed_bytes = tf.where(typed, tf.gather([len(mark.encode("utf-8")) for mark in self._marks.values()], which), 1)
        row_splits = tf.gather(splits, words.row_splits)  # from pieces of a word to pieces of a text
        ids = tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False)
        return _Pieces(ids, starts, ends, splits, word_starts, source, typed_bytes)

    def _limit_words(self, words, word_bytes, ids, starts, ends, splits):
        """Makes each word of more than 100 characters one [UNK].

        On ids, because LiteRT cannot choose between strings; and behind a condition, because next to no text has such a word.
        """

        def limit():
            lengths = self._characters.normalize_with_offsets(words)[1].row_lengths() - 1
            long = lengths > MAX_CHARACTERS_PER_WORD  # [words]
            first = splits[:-1]
            # Every word has a piece, so the word of a piece is the number of first pieces up to it, less one.
            is_first = tf.scatter_nd(first[:, None], tf.ones_like(first, tf.int32), tf.shape(ids, tf.int64))
            word = tf.cumsum(is_first) - 1
            in_long = tf.gather(long, word)
            kept = tf.where((is_first == 1) | ~in_long)[:, 0]
            kept_lengths = tf.where(long, tf.ones_like(first), splits[1:] - first)
            return (
                tf.gather(tf.where(in_long, self.unk_token_id, ids), kept),
                tf.gather(tf.where(in_long, tf.zeros_like(starts), starts), kept),
                tf.gather(tf.where(in_long, tf.cast(tf.gather(word_bytes, word), ends.dtype), ends), kept),
                tf.concat([splits[:1], tf.cumsum(kept_lengths)], 0),
            )

        any_long = tf.reduce_max(tf.concat([word_bytes, [0]], 0)) > MAX_CHARACTERS_PER_WORD
        return tf.cond(any_long, limit, lambda: (ids, starts, ends, splits))

    def _locate(self, texts, unit):
        """Ids, starts and ends of the pieces of texts `[B]`.

        The clean text's bytes are mapped to the given text's by the normalizer. A piece ends with the character that its last
        byte comes from, not where the next byte comes from: what was deleted between them belongs to neither.
        """
        pieces = self._tokenize(texts, with_offsets=True)
        clean_start = tf.gather(pieces.source.row_splits, pieces.texts())  # [P], where the text begins among all bytes
        word_start = clean_start + tf.cast(pieces.word_starts(), tf.int64)
        first = tf.gather(pieces.source.values, word_start + tf.cast(pieces.starts, tf.int64))
        last = tf.gather(pieces.source.values, word_start + tf.cast(pieces.ends, tf.int64) - 1)
        if self._marks:
            # What is left of a typed token is its mark, all of whose bytes come from the token's first one.
            last = last + tf.cast(pieces.typed_bytes, tf.int64) - 1

        _, characters = self._characters.normalize_with_offsets(texts)  # ragged [B, (characters + 1)]: first bytes
        sizes = tf.gather(characters.values, characters.row_splits[1:] - 1) + 1  # bytes, and one beyond the end
        byte_start = tf.cumsum(sizes, exclusive=True)  # [B]
        character_text = _row_ids(characters.row_splits, tf.shape(characters.values, tf.int64)[0])
        is_start = tf.scatter_nd(
            (characters.values + tf.gather(byte_start, character_text))[:, None],
            tf.ones_like(characters.values),
            tf.reduce_sum(sizes)[None],
        )
        character_at = tf.cumsum(is_start) - 1  # byte of all texts -> character of all texts
        base = tf.gather(byte_start, pieces.texts())
        last_character = tf.gather(character_at, base + last)
        if unit == "bytes":
            starts, ends = first, tf.gather(characters.values, last_character + 1)
        else:
            character_base = tf.gather(characters.row_splits, pieces.texts())
            starts = tf.gather(character_at, base + first) - character_base
            ends = last_character + 1 - character_base
        starts, ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
        return [pieces.ids, pieces.ids.with_values(starts), pieces.ids.with_values(ends)]

    def _mark_special_tokens(self, texts):
        """Puts a private-use character in the place of each typed special token, as many bytes long as that was.

        The reference deletes private-use characters, so that a text's own ones may go; equal lengths keep the offsets.
        """
        for mark in self._marks.values():
            character = mark.rstrip("\x01")
            texts = tf.strings.regex_replace(texts, character, "\x01" * len(character.encode("utf-8")))
        for token, mark in sorted(self._marks.items(), key=lambda item: -len(item[0])):
            texts = tf.strings.regex_replace(texts, re.escape(token), mark)
        return texts

    # Ids to strings

    def detokenize(self, token_ids, skip_special_tokens=True):
        """Joins pieces into text, as the reference's decoder does: `##` glues, and punctuation closes up.

        Args:
          token_ids: ids `[B, (pieces)]` as a list of lists, a tensor or a ragged tensor; or `[pieces]`.
          skip_special_tokens: leave out [CLS], [SEP], [PAD], [MASK] and [UNK].

        Returns:
          A string tensor `[B]`; for `[pieces]`, a scalar.
        """
        if not is_tensor(token_ids):
            nested = len(token_ids) > 0 and not np.isscalar(token_ids[0])
            token_ids = tf.ragged.constant(token_ids, tf.int32) if nested else tf.constant(token_ids, tf.int32)
        if token_ids.shape.rank == 1:
            return self.detokenize(token_ids[None], skip_special_tokens)[0]
        if not isinstance(token_ids, tf.RaggedTensor):
            token_ids = tf.RaggedTensor.from_tensor(token_ids)
        if skip_special_tokens:
            special = tf.constant([self._id_of[token] for token in self.special_tokens], token_ids.dtype)
            kept = tf.reduce_all(token_ids.flat_values[:, None] != special, 1)
            token_ids = tf.ragged.boolean_mask(token_ids, token_ids.with_flat_values(kept))
        first, later = self._decoded_tokens()
        texts = token_ids.with_flat_values(tf.gather(later, token_ids.flat_values))
        heads = token_ids[:, :1].with_flat_values(tf.gather(first, token_ids[:, :1].flat_values))
        return tf.strings.reduce_join(tf.concat([heads, texts[:, 1:]], 1), axis=-1)

    def _decoded_tokens(self):
        """What each token adds to a text, as its first piece and later on."""
        first = [_clean_up(token) for token in self._tokens]
        later = [_clean_up(token[2:] if token.startswith("##") else f" {token}") for token in self._tokens]
        return tf.constant(first), tf.constant(later)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "recognize_special_tokens": self.recognize_special_tokens,
            "pad_token": self.pad_token,
            "unk_token": self.unk_token,
            "cls_token": self.cls_token,
            "sep_token": self.sep_token,
            "mask_token": self.mask_token,
        }


def is_column(texts):
    """Whether the texts are an eager string tensor `[B]`."""
    return tf.executing_eagerly() and tf.is_tensor(texts) and texts.shape.rank == 1


class _Pieces(NamedTuple):
    """The pieces of `B` texts; `P` pieces, `W` words."""

    ids: tf.RaggedTensor  # [B, (pieces)]
    starts: tf.Tensor  # [P], bytes from the start of the word
    ends: tf.Tensor  # [P]
    word_splits: tf.Tensor  # [W + 1], pieces of a word
    starts_of_words: tf.RaggedTensor  # [B, (words)], bytes from the start of the clean text
    source: tf.RaggedTensor | None  # [B, (bytes of the clean text + 1)], places in the given text
    typed_bytes: tf.Tensor | None  # [P], length of a typed special token, 1 for any other piece

    def texts(self):
        """The text of each piece, `[P]`."""
        return _row_ids(self.ids.row_splits, tf.shape(self.starts, tf.int64)[0])

    def word_starts(self):
        """Where the word of each piece starts in the clean text, `[P]`."""
        return tf.gather(self.starts_of_words.values, _row_ids(self.word_splits, tf.shape(self.starts, tf.int64)[0]))


def _row_ids(row_splits, size):
    """The row of each value, `[size]`, from row splits; rows may be empty. In ops that LiteRT has."""
    inner = row_splits[1:-1]
    # A row that starts at the very end has no values: one place more than there are values takes those.
    starts = tf.scatter_nd(inner[:, None], tf.ones_like(inner, tf.int32), (size + 1)[None])
    return tf.cumsum(starts)[:-1]


def _marks(special_tokens):
    """A private-use character for each special token, filled up with deletable bytes to the token's own length."""
    marks = {}
    for number, token in enumerate(dict.fromkeys(special_tokens)):
        size = len(token.encode("utf-8"))
        if size < 3:
            raise ValueError(f"recognize_special_tokens needs special tokens of three bytes or more, got {token!r}")
        mark = chr(0xE000 + number) if size == 3 else chr(0xF0000 + number)
        marks[token] = mark + "\x01" * (size - len(mark.encode("utf-8")))
    return marks


def _clean_up(piece):
    """The `cleanup` of the reference's WordPiece decoder, which it applies piece by piece."""
    for before, after in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        piece = piece.replace(before, after)
    return piece
