"""Pieces to the encoder's input: `[CLS] a [SEP]`, `[CLS] a [SEP] b [SEP]`, cut to length; windows over long documents.

All of it is arithmetic on positions followed by one gather, in TensorFlow's core ops. No trimmer of tensorflow-text cuts pairs
as the reference's `longest_first` does, and its `sliding_window` cuts other windows. Stock releases of TF Serving up to 2.19
have tensorflow-text 2.12, which lacks newer trimmers, and LiteRT has no kernels for `sliding_window` and for the ops of the
trimmers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kbert.arguments import whole_number, yes_or_no
from kbert.text.texts import Texts, strings_of
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.text.truncation import TRUNCATIONS, Windows, truncated_lengths, windows
from kbert.training import keras_internals

SAY_RANK = "tf.ensure_shape(texts, [None]) for a column, [] for one text"


class Slices(NamedTuple):
    """Slices of the rows of a ragged tensor of ids: `R` slices of `B` rows."""

    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    row: tf.Tensor  # int32 [R], the row of each slice
    start: tf.Tensor  # int32 [R], the slice's first piece in the row
    length: tf.Tensor  # int32 [R], the slice's number of pieces

    def take(self, offsets: tf.Tensor) -> tf.Tensor:
        """Returns the ids at `offsets` from the start of each slice.

        Args:
          offsets: int32 `[R, L]` or `[1, L]`.

        Returns:
          int32 `[R, L]`. Places outside a slice hold any id or 0, and the caller masks them.
        """
        values = tf.concat([self.ids.values, [0]], 0)  # never empty
        row_starts = tf.cast(tf.gather(self.ids.row_splits, self.row), tf.int32)[:, None]
        places = row_starts + (offsets + self.start[:, None])
        return tf.gather(values, tf.clip_by_value(places, 0, tf.size(values) - 1))


@keras.saving.register_keras_serializable("kbert")
class TextPreprocessor(keras.layers.Layer):
    """A layer that turns strings, or pairs of strings, into the encoder's input.

    >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "day"])
    >>> packed = TextPreprocessor(tokenizer)(["good day", "day"])
    >>> packed["token_ids"].numpy().tolist()
    [[2, 5, 6, 3], [2, 6, 3, 0]]

    Args:
      tokenizer: a `WordPieceTokenizer`.
      max_length: the largest number of positions in a row, special tokens included.
      truncation: the text of a pair that loses pieces if both do not fit: `"longest_first"`, `"only_first"`, `"only_second"` or
        `"round_robin"`, as `truncated_lengths` describes them.
      fixed_length: whether every row is `max_length` long. Otherwise all rows of a batch have one length, see
        `row_length`.
      ragged: whether a call returns ragged tensors `[B, (positions)]` without padding. They are for pipelines of your own;
        tasks take padded ones.
      padded_end: whether the longest row of a batch has a [PAD] after it too, if `max_length` leaves room. An encoder that
        reads the next token (MobileBERT) then gives a text the same vectors alone and in any batch. Its tasks set this.
      prompt: a text before each text, or before the first of a pair, such as `"query: "`. Its pieces count among the positions
        of a row. It has to end between two words, with a space or punctuation, so that the text's pieces are its own.
      **kwargs: passed to `keras.layers.Layer`, for example `name`.

    A call takes a list or string tensor `[B]` or `[B, 1]`, or a tuple of two for pairs. It returns a dictionary of three int32
    tensors `[B, L]`: `token_ids`, `segment_ids` (1 on the second text and its [SEP]) and `padding_mask` (1 on real tokens). One
    text, a string or a tensor without axes, gives tensors `[L]`, so that a dataset may be mapped before it is batched.

    Raises:
      TypeError: if `tokenizer` is no `WordPieceTokenizer`.
      ValueError: if `truncation` is none of the four, `max_length` is less than 4, `ragged` and `fixed_length` are both true,
        or the prompt ends inside a word or leaves no room for texts.
    """

    def __init__(
        self,
        tokenizer: WordPieceTokenizer,
        max_length: int = 512,
        truncation: str = "longest_first",
        fixed_length: bool = False,
        ragged: bool = False,
        padded_end: bool = False,
        prompt: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keras_internals.take_strings(self)
        self.built = True
        if not isinstance(tokenizer, WordPieceTokenizer):
            raise TypeError(f"tokenizer should be a WordPieceTokenizer, got {tokenizer!r}")
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation should be one of {', '.join(TRUNCATIONS)}, got {truncation!r}")
        yes_or_no(fixed_length=fixed_length, ragged=ragged, padded_end=padded_end)
        max_length = whole_number("max_length", max_length, least=4)
        if ragged and fixed_length:
            raise ValueError("ragged rows have no fixed length: choose ragged=True or fixed_length=True")
        self.ragged = ragged
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.truncation = truncation
        self.fixed_length = fixed_length
        self.padded_end = padded_end
        self.prompt = prompt
        self._lead = self._ids_before_texts()

    def __call__(self, texts: Texts | tuple[Texts, Texts]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        # A tuple is a pair of columns. Lists become tensors here, because Keras would walk through them.
        columns = texts if isinstance(texts, tuple) else (texts,)
        if not 1 <= len(columns) <= 2:
            raise ValueError(f"a text or a pair of texts is expected, got a tuple of {len(columns)} columns")
        return super().__call__(tuple(map(strings_of, columns)))

    def call(self, columns: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Tokenizes and packs columns of texts.

        Args:
          columns: a tuple of one string tensor, or of two for pairs: `[B]`, `[B, 1]`, or `[]` for one text or pair.

        Returns:
          The packed dictionary: `token_ids`, `segment_ids` and `padding_mask`, int32 `[B, L]`; `[L]` for one text or pair.
        """
        flat = [_flat_column(column) for column in columns]
        packed = self.pack(*(self.tokenizer.call(column) for column in flat))
        ranks = {column.shape.rank for column in columns}
        if ranks == {0}:
            return {name: ids[0] for name, ids in packed.items()}
        if 0 in ranks and None not in ranks:
            raise ValueError("a pair is two columns or two texts, got a column and a text")
        if None not in ranks:
            return packed
        if self.ragged:
            raise ValueError(f"ragged rows need texts whose number of axes is known: {SAY_RANK}")
        # Only the running graph knows whether these are columns or single texts.
        leading = tf.shape(columns[0])[:1]
        return {name: tf.reshape(ids, tf.concat([leading, tf.shape(ids)[1:]], 0)) for name, ids in packed.items()}

    def _ids_before_texts(self) -> list[int]:
        """Returns the ids at the start of each row: [CLS] and the prompt's."""
        if not isinstance(self.prompt, str):
            raise TypeError(f"prompt should be a string, got {self.prompt!r}")
        if not self.prompt:
            return [self.tokenizer.cls_token_id]
        with tf.init_scope():
            if not self.tokenizer.ends_between_words(self.prompt):
                raise ValueError(f"a prompt should end with a space or punctuation, not inside a word; got {self.prompt!r}")
            ids = [self.tokenizer.cls_token_id, *self.tokenizer(self.prompt).numpy().tolist()]
        if self.max_length < len(ids) + 3:
            raise ValueError(
                f"the prompt {self.prompt!r} has {len(ids) - 1} pieces: max_length {self.max_length} leaves no room"
            )
        return ids

    @property
    def prompt_length(self) -> int:
        """How many positions of each row [CLS] and the prompt take, or 0 without a prompt."""
        return len(self._lead) if self.prompt else 0

    def room(self, columns: int = 1) -> int:
        """Returns how many pieces of texts fit into a row.

        Args:
          columns: 1 for single texts, 2 for pairs.
        """
        return self.max_length - len(self._lead) - columns

    def with_prompt(self, prompt: str) -> TextPreprocessor:
        """Returns a preprocessor with the same tokenizer and options, and with another prompt.

        Args:
          prompt: the text before each text; `""` for none.
        """
        if prompt == self.prompt:
            return self
        return type(self)(**{**self.get_config(), "tokenizer": self.tokenizer, "prompt": prompt})

    def with_padded_end(self) -> TextPreprocessor:
        """Returns a preprocessor with the same tokenizer and options, and with `padded_end=True`."""
        if self.padded_end:
            return self
        return type(self)(**{**self.get_config(), "tokenizer": self.tokenizer, "padded_end": True})

    def row_length(self, longest: Any) -> Any:
        """Returns how many positions the rows of a batch have, if they have no fixed length.

        Args:
          longest: the number of tokens of the longest row, an int or an int32 scalar.
        """
        return tf.minimum(longest + 1, self.max_length) if self.padded_end else longest

    def with_length(self, max_length: int | None = None, fixed_length: bool | None = None) -> TextPreprocessor:
        """Returns a preprocessor with the same tokenizer whose rows have another length.

        Args:
          max_length: the largest number of positions in a row; None keeps this one's.
          fixed_length: whether every row is `max_length` long; None keeps this one's.
        """
        config = {**self.get_config(), "tokenizer": self.tokenizer, "max_length": max_length or self.max_length}
        if fixed_length is not None:
            config["fixed_length"] = fixed_length
        return type(self)(**config)

    @property
    def settings_of_kbert(self) -> list[str]:
        """The settings in use that other runtimes' tokenizers of BERT lack, by their names."""
        tokenizer = self.tokenizer
        in_use = {
            "recognize_special_tokens": tokenizer.recognize_special_tokens,
            "added_tokens": bool(tokenizer.added_tokens),
            "added_words": bool(tokenizer.added_words),
            "clean_text": not tokenizer.clean_text,
            "max_input_chars_per_word": tokenizer.max_input_chars_per_word != 100,
            "prompt": bool(self.prompt),
        }
        return [name for name, is_used in in_use.items() if is_used]

    @property
    def longest_query(self) -> int:
        """The largest number of pieces of a query: half of the positions are left for the text beside it."""
        return self.room(2) // 2

    def pack(
        self, first: tf.RaggedTensor, second: tf.RaggedTensor | None = None, fixed_length: bool | None = None
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Packs the ids of texts, or of pairs of texts, and cuts them to `max_length`.

        Args:
          first: the ids of each text, ragged int32 `[B, (pieces)]`.
          second: the ids of each pair's second text, or None for single texts.
          fixed_length: whether every row is `max_length` long; None follows the constructor's `fixed_length`.

        Returns:
          The packed dictionary: `token_ids`, `segment_ids` and `padding_mask`, int32 `[B, L]`.
        """
        lengths = tf.cast(first.row_lengths(), tf.int32)
        other = None if second is None else tf.cast(second.row_lengths(), tf.int32)
        room = self.room(1 if second is None else 2)
        lengths, other = truncated_lengths(lengths, other, room, self.truncation)
        rows, start = tf.range(tf.size(lengths)), tf.zeros_like(lengths)
        second_slices = None if second is None else Slices(second, rows, start, other)
        return self._place(Slices(first, rows, start, lengths), second_slices, fixed_length)

    def pack_windows(
        self,
        documents: tf.RaggedTensor,
        stride: int,
        queries: tf.RaggedTensor | None = None,
        fixed_length: bool | None = None,
    ) -> tuple[dict[str, tf.Tensor | tf.RaggedTensor], Windows]:
        """Packs the ids of documents into overlapping windows, each with the document's whole query (if any) before it.

        Args:
          documents: the ids of each document, ragged int32 `[B, (pieces)]`.
          stride: the number of pieces that neighbouring windows share.
          queries: the ids of each document's query, ragged int32 `[B, (pieces)]`, or None. A row is `[CLS] query [SEP] window
            [SEP]`. A query is cut to half of the positions, so that there is room for the document.
          fixed_length: whether every row is `max_length` long; None follows the constructor's `fixed_length`.

        Returns:
          The packed dictionary with `W` rows, and `Windows`, the map back to the documents.

        Raises:
          ValueError: if `stride` is negative, or not less than the pieces of a document that fit beside the longest query.
        """
        lengths = tf.cast(documents.row_lengths(), tf.int32)
        if queries is None:
            cut = windows(lengths, self.room(), stride)
            return self._place(Slices(documents, *cut), None, fixed_length), cut
        room = self.room(2) - self.longest_query
        if not 0 <= stride < room:
            raise ValueError(
                f"stride should be at least 0 and less than {room}, the pieces of a window "
                f"beside the longest question at max_length {self.max_length}; got {stride}"
            )
        query_lengths = tf.minimum(tf.cast(queries.row_lengths(), tf.int32), self.longest_query)
        cut = windows(lengths, self.room(2) - query_lengths, stride)
        of_window = tf.gather(query_lengths, cut.document)
        query_slices = Slices(queries, cut.document, tf.zeros_like(of_window), of_window)
        return self._place(query_slices, Slices(documents, *cut), fixed_length), cut

    def _place(self, first: Slices, second: Slices | None, fixed_length: bool | None) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Puts slices between the special tokens. This is the one place where [CLS] and [SEP] go in.

        Args:
          first: what follows [CLS] and the prompt.
          second: what follows the first [SEP], or None.
          fixed_length: whether every row is `max_length` long; None follows the constructor's `fixed_length`.

        Returns:
          The packed dictionary, with a row for each slice.
        """
        tokenizer = self.tokenizer
        fixed_length = self.fixed_length if fixed_length is None else fixed_length
        before = len(self._lead)
        least = before + (1 if second is None else 2)
        total = first.length + least if second is None else first.length + second.length + least  # [R]
        if fixed_length:
            width = self.max_length
        else:
            width = self.row_length(tf.reduce_max(tf.concat([total, [least]], 0)))
        position = tf.range(width)[None]  # [1, L]
        inner = position - before
        end = first.length[:, None]
        ids = tf.where(inner < end, first.take(inner), tokenizer.sep_token_id)  # [R, L]
        if before == 1:
            ids = tf.where(position == 0, tokenizer.cls_token_id, ids)
        else:
            lead = tf.gather(tf.constant(self._lead, tf.int32), tf.minimum(position, before - 1))
            ids = tf.where(position < before, lead, ids)
        segments = tf.zeros_like(ids)
        if second is not None:
            inner = position - end - before - 1
            length = second.length[:, None]
            ids = tf.where((inner >= 0) & (inner < length), second.take(inner), ids)
            segments = tf.cast((inner >= 0) & (inner <= length), tf.int32)
        mask = position < total[:, None]
        ids = tf.where(mask, ids, tokenizer.pad_token_id)
        if self.ragged:
            rows = {"token_ids": ids, "segment_ids": segments, "padding_mask": tf.cast(mask, tf.int32)}
            return {name: tf.RaggedTensor.from_tensor(row, lengths=total) for name, row in rows.items()}
        if fixed_length:  # LiteRT can plan the encoder if the shape is known beforehand
            shape = [-1, width]
            ids, segments, mask = tf.reshape(ids, shape), tf.reshape(segments, shape), tf.reshape(mask, shape)
        return {"token_ids": ids, "segment_ids": segments, "padding_mask": tf.cast(mask, tf.int32)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            "max_length": self.max_length,
            "truncation": self.truncation,
            "fixed_length": self.fixed_length,
            "ragged": self.ragged,
            "padded_end": self.padded_end,
            "prompt": self.prompt,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextPreprocessor:
        return cls(**{**config, "tokenizer": keras.saving.deserialize_keras_object(config["tokenizer"])})


def _flat_column(column: tf.Tensor) -> tf.Tensor:
    """Returns strings `[B]`, `[B, 1]` or `[]`, of a rank that may be unknown in a graph, as `[B]`.

    Raises:
      ValueError: the strings have other axes.
    """
    rank = column.shape.rank
    if rank == 1 and not isinstance(column, tf.RaggedTensor):
        return column
    if isinstance(column, tf.RaggedTensor) or (rank or 0) > 2 or (rank == 2 and column.shape[1] not in (1, None)):
        raise ValueError(
            f"a column of texts is [B], [B, 1] or one text, got strings of shape {column.shape}; "
            "a pair is a tuple of two columns, and words are joined by spaces"
        )
    flat = tf.reshape(column, [-1])
    if rank is None or (rank == 2 and column.shape[1] is None):
        rows = tf.reduce_prod(tf.shape(column)[:1])  # 1 for one text
        message = "a column of texts is [B], [B, 1] or one text; a pair is a tuple of two columns"
        with tf.control_dependencies([tf.debugging.assert_equal(tf.size(flat), rows, message)]):
            flat = tf.identity(flat)
    return flat
