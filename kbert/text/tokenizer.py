"""The layer that turns strings into WordPiece ids: the reference's ids, wherever the graph runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import whole_number, yes_or_no
from kbert.checkpoints.opened import open_preset
from kbert.files.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary
from kbert.text.detokenize import detokenize
from kbert.text.learn_vocabulary import learn_vocabulary
from kbert.text.texts import Texts, strings_of
from kbert.text.wordpiece import WordPieceGraph
from kbert.training import keras_internals


class TokensWithOffsets(NamedTuple):
    """Ids and the places that they come from: three ragged int32 tensors `[B, (pieces)]`."""

    token_ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


@keras.saving.register_keras_serializable("kbert")
class WordPieceTokenizer(keras.layers.Layer):
    """A layer that turns strings into WordPiece ids, exactly as the `tokenizers` package's BERT pipeline makes them.

    >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", "!"])
    >>> tokenizer(["Unable!", "Ünable able"]).to_list()
    [[5, 6, 7], [5, 6, 1]]
    >>> tokenizer.detokenize([[5, 6, 7]]).numpy()
    array([b'unable!'], dtype=object)

    The layer consists of tensorflow-text ops that TF Serving and LiteRT have, so that an exported model cuts text into the very
    same pieces. It adds no [CLS] or [SEP]: `TextPreprocessor` packs pieces between those.

    Ids and offsets are the reference's on every Unicode code point, cased and uncased, on words over 100 characters and on
    special tokens. They can differ in two cases:

    * When accents are dropped, the reference keeps some combining marks: the spacing ones U+302E, U+302F, U+1D165, U+1D166 and
      U+1D16D to U+1D172, and nonspacing ones newer than its Unicode 8.0. If one of them stands out of canonical order among
      other marks, the reference reorders the marks, and its offset of that piece then names a neighbour. This layer keeps the
      order of the text, and its offset names the mark itself. Ids differ only if the vocabulary holds two such marks.
    * A string tensor that is not UTF-8 is passed through. Strings and bytes in Python are checked to be UTF-8.

    Args:
      vocabulary: a list of `V` tokens in the order of their ids, or the path of a `vocab.txt`.
      lowercase: whether text is lower-cased, as uncased checkpoints need it.
      strip_accents: whether accents are dropped; None follows `lowercase`.
      tokenize_chinese_chars: whether each CJK ideograph is a word.
      recognize_special_tokens: whether `[MASK]`, `[SEP]`, ... typed in a text become those tokens. It is off by default,
        because text from outside should not be able to contain control tokens. It takes a regular expression, which LiteRT does
        not have.
      pad_token, unk_token, cls_token, sep_token, mask_token: the names of the special tokens in the vocabulary.
      clean_text: whether control characters are deleted, and other white space becomes spaces.
      max_input_chars_per_word: a word with more characters than this number is one [UNK].
      added_tokens: tokens of the vocabulary that are recognized wherever they are typed, before the text is cleaned up and
        even inside a word. They are the tokens that were added to a checkpoint, such as `[E1]`. They take a regular
        expression, which LiteRT does not have.
      added_words: as `added_tokens`, but recognized after the clean-up: an uncased tokenizer finds `Covid` in "COVID-19".
      **kwargs: passed to `keras.layers.Layer`, for example `name`.

    Raises:
      ValueError: if a token is empty or stands twice, the vocabulary lacks a special or an added token, or an added token has
        fewer than three bytes or stands beside `clean_text=False`.
      ImportError: if tensorflow-text is not installed.
    """

    def __init__(
        self,
        vocabulary: Iterable[str] | str | os.PathLike[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        recognize_special_tokens: bool = False,
        pad_token: str = SPECIAL_TOKENS["pad_token"],
        unk_token: str = SPECIAL_TOKENS["unk_token"],
        cls_token: str = SPECIAL_TOKENS["cls_token"],
        sep_token: str = SPECIAL_TOKENS["sep_token"],
        mask_token: str = SPECIAL_TOKENS["mask_token"],
        clean_text: bool = True,
        max_input_chars_per_word: int = 100,
        added_tokens: Sequence[str] = (),
        added_words: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Strings are not numbers: Keras must neither convert nor cast what is passed to this layer.
        keras_internals.take_strings(self)
        self.built = True
        self._tokens = tuple(read_vocabulary(vocabulary) if isinstance(vocabulary, (str, os.PathLike)) else vocabulary)
        yes_or_no(
            lowercase=lowercase,
            tokenize_chinese_chars=tokenize_chinese_chars,
            recognize_special_tokens=recognize_special_tokens,
            clean_text=clean_text,
        )
        if strip_accents is not None:
            yes_or_no(strip_accents=strip_accents)
        self.lowercase = bool(lowercase)
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = bool(tokenize_chinese_chars)
        self.recognize_special_tokens = bool(recognize_special_tokens)
        self.pad_token, self.unk_token, self.cls_token = pad_token, unk_token, cls_token
        self.sep_token, self.mask_token = sep_token, mask_token
        self.clean_text = bool(clean_text)
        self.max_input_chars_per_word = whole_number("max_input_chars_per_word", max_input_chars_per_word)
        self.added_tokens, self.added_words = list(added_tokens), list(added_words)
        for name, given in ("added_tokens", added_tokens), ("added_words", added_words):
            _check_added(name, given, self._tokens)
        check_vocabulary(self._tokens, special_tokens=self.special_tokens)
        self._id_of = {token: number for number, token in enumerate(self._tokens)}
        if self.typed_tokens and not self.clean_text:
            token = self.typed_tokens[0]
            raise ValueError(f"clean_text=False goes with no token that is recognized where it is typed, got {token!r}")
        self._wordpiece = WordPieceGraph(
            self._tokens,
            self.unk_token,
            self.lowercase,
            self.strip_accents,
            self.tokenize_chinese_chars,
            [token for token in self.typed_tokens if token not in self.added_words],
            self.added_words,
            self.clean_text,
            self.max_input_chars_per_word,
        )
        # A plain dictionary that Keras does not track: it holds functions, not weights.
        keras_internals.hide(self, "_compiled", {})

    # Vocabulary

    @property
    def special_tokens(self) -> tuple[str, str, str, str, str]:
        """The names of the special tokens: pad, unk, cls, sep, mask."""
        return (self.pad_token, self.unk_token, self.cls_token, self.sep_token, self.mask_token)

    @property
    def vocabulary(self) -> list[str]:
        """The list of `V` tokens, in the order of their ids."""
        return list(self._tokens)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, `V`."""
        return len(self._tokens)

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token. Raises a KeyError if the vocabulary does not hold the token."""
        if token not in self._id_of:
            raise KeyError(f"{token!r} is not one of the {self.vocabulary_size} tokens of the vocabulary")
        return self._id_of[token]

    def id_to_token(self, token_id: int) -> str:
        """Returns the token whose id is `token_id`. Raises an IndexError if it is outside `0 ... V - 1`."""
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(f"id {token_id} is outside the vocabulary of {self.vocabulary_size} tokens")
        return self._tokens[token_id]

    @property
    def pad_token_id(self) -> int:
        """The id of the filler at the end of a row, [PAD] in most vocabularies."""
        return self._id_of[self.pad_token]

    @property
    def unk_token_id(self) -> int:
        """The id of the unknown word, [UNK] in most vocabularies."""
        return self._id_of[self.unk_token]

    @property
    def cls_token_id(self) -> int:
        """The id of the start of a row, [CLS] in most vocabularies."""
        return self._id_of[self.cls_token]

    @property
    def sep_token_id(self) -> int:
        """The id of the end of a text, [SEP] in most vocabularies."""
        return self._id_of[self.sep_token]

    @property
    def mask_token_id(self) -> int:
        """The id of the masked piece, [MASK] in most vocabularies."""
        return self._id_of[self.mask_token]

    @property
    def typed_tokens(self) -> list[str]:
        """The tokens that are recognized where they are typed. They take a regular expression, which LiteRT does not have."""
        special = self.special_tokens if self.recognize_special_tokens else ()
        return list(dict.fromkeys((*special, *self.added_tokens, *self.added_words)))

    @classmethod
    def from_preset(cls, preset: Any, vocabulary: Any = None, **kwargs: Any) -> WordPieceTokenizer:
        """Returns the tokenizer of a checkpoint, with its vocabulary, case and special tokens.

        Args:
          preset: a built-in name (see `kbert.presets()`), `hf://owner/name[@revision]`, a folder that holds a vocabulary in one
            of the formats that kbert reads, or a live KerasHub model.
          vocabulary: the path of a vocab.txt, or a list of tokens, for a folder that has none.
          **kwargs: arguments of the constructor that take the place of the checkpoint's own, for example
            `recognize_special_tokens=True`, or `lowercase=False` where the files do not say the case.

        Raises:
          FileNotFoundError: there is no such preset, or it has no vocabulary.
          ValueError: `vocabulary` is given, and the preset has another one.
        """
        with open_preset(preset, vocabulary) as opened:
            return cls(opened.vocabulary, **{**opened.tokenizer_options, **kwargs})

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        progress: bool = True,
    ) -> WordPieceTokenizer:
        """Learns a vocabulary from raw text and returns its tokenizer.

        >>> tokenizer = WordPieceTokenizer.learn(["the cat sat", "the cats sit"] * 9, vocabulary_size=40, progress=False)
        >>> tokenizer.vocabulary[:5], "the" in tokenizer.vocabulary
        (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'], True)

        Args:
          texts: an iterable of strings, read once; it may be larger than the memory.
          vocabulary_size: the largest number of tokens, special tokens included.
          lowercase: whether text is lower-cased.
          strip_accents: whether accents are dropped; None follows `lowercase`.
          tokenize_chinese_chars: whether each CJK ideograph is a word.
          progress: whether the number of words counted so far is shown on the terminal.

        Raises:
          ValueError: if the texts hold no word, or `vocabulary_size` is too small for the special tokens and some characters.
          TypeError: if `texts` is one string.
        """
        tokens = learn_vocabulary(texts, vocabulary_size, lowercase, strip_accents, tokenize_chinese_chars, progress)
        return cls(tokens, lowercase, strip_accents, tokenize_chinese_chars)

    # Strings to ids

    def __call__(self, texts: Texts) -> tf.Tensor | tf.RaggedTensor:
        # Keras would walk through a list of a million strings; a tensor it takes as it is.
        strings = strings_of(texts)
        if is_column(strings):
            return self._side_by_side("ids")(strings)[0]
        return super().__call__(strings)

    def _side_by_side(self, output: str) -> Callable[[tf.Tensor], list[tf.RaggedTensor]]:
        """Returns a compiled function that cuts a column of texts into one slice a core, and the slices into pieces.

        The ops themselves use one core. Slices on two cores take half of the time.

        Args:
          output: `"ids"` for ids alone, or the unit of the offsets that come with them, `"characters"` or `"bytes"`.
        """
        if output not in self._compiled:
            cores = min(os.cpu_count() or 1, 16)

            # It is no tf.function of its own: TensorFlow would run its calls one after the other, because its ops have a state.
            def compute(texts: tf.Tensor) -> list[tf.RaggedTensor]:
                return [self._wordpiece.tokenize(texts).ids] if output == "ids" else self._wordpiece.locate(texts, output)

            # AutoGraph would double the time of tracing.
            @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
            def tokenize(texts: tf.Tensor) -> list[tf.RaggedTensor]:
                count = tf.size(texts)
                bounds = [count * number // cores for number in range(cores + 1)]
                slices = [compute(texts[start:end]) for start, end in zip(bounds, bounds[1:])]
                return [tf.concat(ragged, 0) for ragged in zip(*slices)]

            self._compiled[output] = tokenize
        return self._compiled[output]

    def call(self, texts: Texts) -> tf.Tensor | tf.RaggedTensor:
        """Cuts texts into pieces.

        Args:
          texts: a string, or a list, array, tensor or ragged tensor of strings `[B]` (any shape `[..., B]` as a tensor).

        Returns:
          A ragged int32 tensor `[B, (pieces)]`; for one string, a tensor `[pieces]`.
        """
        return _on_flat_texts(texts, lambda flat: [self._wordpiece.tokenize(flat).ids])[0]

    def tokenize_with_offsets(self, texts: Texts, unit: str = "characters") -> TokensWithOffsets:
        """Cuts texts into pieces and returns the place in the original text that each one comes from.

        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ete", "!"])
        >>> ids, starts, ends = tokenizer.tokenize_with_offsets("Été !")
        >>> ids.numpy().tolist(), starts.numpy().tolist(), ends.numpy().tolist()
        ([5, 6], [0, 4], [3, 5])

        Args:
          texts: a string, or a list, array, tensor or ragged tensor of strings `[B]` (any shape `[..., B]` as a tensor).
          unit: `"characters"` (Unicode code points, so that `text[start:end]` is right in Python) or `"bytes"` of UTF-8.

        Returns:
          `TokensWithOffsets(token_ids, starts, ends)`, each ragged int32 `[B, (pieces)]`; `ends` are exclusive. Offsets point
          into the text as given, before any clean-up. For one string, each is a tensor `[pieces]`.

        Raises:
          ValueError: if `unit` is neither of the two.
        """
        if unit not in ("characters", "bytes"):
            raise ValueError(f'unit should be "characters" or "bytes", got {unit!r}')
        strings = strings_of(texts)
        if is_column(strings):
            return TokensWithOffsets(*self._side_by_side(unit)(strings))
        return TokensWithOffsets(*_on_flat_texts(strings, lambda flat: self._wordpiece.locate(flat, unit)))

    def ends_between_words(self, text: str) -> bool:
        """Returns whether a text ends with a space, punctuation or a word of one character, so that more text is new words.

        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", ":"])
        >>> tokenizer.ends_between_words("un:"), tokenizer.ends_between_words("un")
        (True, False)
        """
        return bool(self._wordpiece.clean(tf.constant([text])).numpy()[0].endswith(b" "))

    # Ids to strings

    def detokenize(
        self,
        token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray | tf.Tensor | tf.RaggedTensor,
        skip_special_tokens: bool = True,
    ) -> tf.Tensor:
        """Joins pieces into text, as the reference's decoder does: `##` glues, and punctuation closes up.

        Args:
          token_ids: ids `[B, (pieces)]` as a list of lists, an array, a tensor or a ragged tensor; or `[pieces]`.
          skip_special_tokens: whether [CLS], [SEP], [PAD], [MASK] and [UNK] are left out.

        Returns:
          A string tensor `[B]`; for `[pieces]`, a scalar.
        """
        skipped_ids = [self._id_of[token] for token in self.special_tokens] if skip_special_tokens else []
        return detokenize(token_ids, self._tokens, skipped_ids)

    def get_config(self) -> dict[str, Any]:
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
            "clean_text": self.clean_text,
            "max_input_chars_per_word": self.max_input_chars_per_word,
            "added_tokens": list(self.added_tokens),
            "added_words": list(self.added_words),
        }


def _check_added(name: str, given: Sequence[str], vocabulary: Sequence[str]) -> None:
    """Raises a ValueError or TypeError that names an argument which is no list of tokens of the vocabulary."""
    if isinstance(given, str):
        raise TypeError(f"{name} should be a list of tokens, got {given!r}")
    for token in given:
        if token not in vocabulary:
            raise ValueError(f"{name} should be tokens of the vocabulary, and {token!r} is none")
        if len(token.encode("utf-8")) < 3:
            raise ValueError(f"{name} should have three bytes of UTF-8 or more, got {token!r}")


def is_column(texts: Any) -> bool:
    """Returns whether the texts are an eager string tensor `[B]`."""
    return tf.executing_eagerly() and tf.is_tensor(texts) and texts.shape.rank == 1


def _on_flat_texts(texts: Texts, compute: Callable[[tf.Tensor], list[tf.RaggedTensor]]) -> list[tf.Tensor | tf.RaggedTensor]:
    """Applies a function of `[B]` strings, which returns ragged tensors `[B, (pieces)]`, to texts of any shape."""
    strings = strings_of(texts)
    if strings.shape.rank is None:
        raise ValueError(
            "the texts have no known number of axes, and neither would their pieces: say it beforehand, "
            "tf.ensure_shape(texts, [None]) for a column, [] for one text"
        )
    if strings.shape.rank == 0:
        return [ragged.values for ragged in compute(strings[None])]
    if isinstance(strings, tf.RaggedTensor) or strings.shape.rank > 1:
        if not isinstance(strings, tf.RaggedTensor):
            strings = tf.RaggedTensor.from_tensor(strings, ragged_rank=strings.shape.rank - 1)
        return [strings.with_flat_values(ragged) for ragged in compute(strings.flat_values)]
    return compute(strings)
