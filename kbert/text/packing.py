"""Pieces to the encoder's input: `[CLS] a [SEP]`, `[CLS] a [SEP] b [SEP]`, cut to length; windows over long documents.

Everything is arithmetic on positions followed by one gather, in core ops: tensorflow-text's trimmers differ from the
reference, and TF Serving and LiteRT lack them (FACTS T8, T9, X6, X10).
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from kbert.text.texts import is_tensor, text_list

TRUNCATIONS = ("longest_first", "only_first", "only_second")


def truncated_lengths(first, second, budget, truncation="longest_first"):
    """How many pieces of each text stay.

    >>> a, b = truncated_lengths(tf.constant([10, 3]), tf.constant([9, 20]), budget=8)
    >>> a.numpy(), b.numpy()
    (array([4, 3], dtype=int32), array([4, 5], dtype=int32))

    Args:
      first, second: numbers of pieces, int32 `[B]`; `second` is None for single texts.
      budget: how many may stay in all.
      truncation: `"longest_first"` takes piece by piece from the longer text (on a tie, from the first), in closed form;
        `"only_first"` and `"only_second"` cut one text and leave the other whole.

    Returns:
      The pair of shortened numbers. The reference refuses to cut one text where the other alone is too long; a graph
      cannot raise there, so that the other is then cut to the budget too.
    """
    if second is None:
        return tf.minimum(first, budget), None
    if truncation == "longest_first":
        smaller = tf.minimum(tf.minimum(first, second), budget // 2)
        larger = budget - smaller
        fits = first + second <= budget
        kept_first = tf.where(first > second, larger, smaller)
        kept_second = tf.where(first > second, smaller, larger)
        return tf.where(fits, first, kept_first), tf.where(fits, second, kept_second)
    if truncation == "only_first":
        kept_second = tf.minimum(second, budget)
        return tf.minimum(first, budget - kept_second), kept_second
    kept_first = tf.minimum(first, budget)
    return kept_first, tf.minimum(second, budget - kept_first)


class Windows(NamedTuple):
    """Overlapping windows of documents: `W` windows of `B` documents."""

    document: tf.Tensor  # int32 [W], the document of each window
    start: tf.Tensor  # int32 [W], its first piece in the document
    length: tf.Tensor  # int32 [W], its number of pieces

    def of(self, ragged):
        """The windows of the documents' pieces, or of anything that has a value for each piece: ragged `[B, (pieces)]` to `[W, (pieces)]`."""
        starts = tf.gather(ragged.row_splits[:-1], self.document) + tf.cast(self.start, tf.int64)
        ends = starts + tf.cast(self.length, tf.int64)
        return tf.gather(ragged.values, tf.ragged.range(starts, ends))


def windows(lengths, room, stride):
    """Cuts documents into windows of at most `room` pieces, each sharing `stride` pieces with the one before.

    >>> [part.numpy().tolist() for part in windows(tf.constant([7, 2]), room=4, stride=1)]
    [[0, 0, 1], [0, 3, 0], [4, 4, 2]]

    Args:
      lengths: numbers of pieces, int32 `[B]`.
      room: pieces of the document in a window, a number or, where it depends on the other text, int32 `[B]`.
      stride: pieces that neighbours share, as `stride` of the reference; less than `room`.

    Returns:
      `Windows`; a document without pieces has one empty window.
    """
    if isinstance(room, int) and not 0 <= stride < room:
        raise ValueError(
            f"stride should be at least 0 and less than the {room} pieces of a window, got {stride}; "
            "choose a smaller stride or a larger max_length"
        )
    room = tf.broadcast_to(tf.convert_to_tensor(room, tf.int32), tf.shape(lengths))
    step = room - stride
    count = 1 + (tf.maximum(lengths - room, 0) + step - 1) // step  # [B]
    ends = tf.cumsum(count)
    first = ends - count
    # Every document has a window: the document of a window is the number of first windows up to it, less one.
    is_first = tf.scatter_nd(first[:, None], tf.ones_like(first), tf.reduce_sum(count)[None])
    document = tf.cumsum(is_first) - 1  # [W]
    start = (tf.range(tf.reduce_sum(count)) - tf.gather(first, document)) * tf.gather(step, document)
    length = tf.minimum(tf.gather(lengths, document) - start, tf.gather(room, document))
    return Windows(document, start, length)


def _take(pieces, rows, offsets):
    """`pieces[rows, offsets]` of a ragged tensor; places beyond the row give some piece or 0, to be masked by the caller."""
    values = tf.concat([pieces.values, [0]], 0)  # never empty
    starts = tf.cast(tf.gather(pieces.row_splits, rows), tf.int32)[:, None]
    return tf.gather(values, tf.clip_by_value(starts + offsets, 0, tf.size(values) - 1))


@keras.saving.register_keras_serializable("kbert")
class TextPreprocessor(keras.layers.Layer):
    """Strings, or pairs of strings, to the encoder's input.

    >>> from kbert import WordPieceTokenizer
    >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "day"])
    >>> packed = TextPreprocessor(tokenizer)(["good day", "day"])
    >>> packed["token_ids"].numpy().tolist()
    [[2, 5, 6, 3], [2, 6, 3, 0]]

    Args:
      tokenizer: a `WordPieceTokenizer`.
      max_length: the most positions of a row, special tokens included.
      truncation: which text of a pair loses pieces, see `truncated_lengths`.
      fixed_length: make every row `max_length` long, in place of as long as the longest of the batch.
      ragged: give ragged tensors `[B, (positions)]` without padding; for pipelines of your own, tasks take padded ones.

    A call takes a list or string tensor `[B]`, or a tuple of two for pairs, and returns int32 `[B, L]` each: `token_ids`,
    `segment_ids` (1 on the second text and its [SEP]) and `padding_mask` (1 on real tokens).
    """

    def __init__(self, tokenizer, max_length=512, truncation="longest_first", fixed_length=False, ragged=False, **kwargs):
        super().__init__(**kwargs)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation should be one of {', '.join(TRUNCATIONS)}, got {truncation!r}")
        if not isinstance(max_length, int) or max_length < 4:
            raise ValueError(f"max_length should be a whole number of at least 4 positions, got {max_length!r}")
        if ragged and fixed_length:
            raise ValueError("ragged rows have no fixed length: choose ragged=True or fixed_length=True")
        self.ragged = ragged
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.truncation = truncation
        self.fixed_length = fixed_length

    def __call__(self, texts):
        # A tuple is a pair of columns; Keras need not walk through lists.
        columns = texts if isinstance(texts, tuple) else (texts,)
        if len(columns) > 2:
            raise ValueError(f"a text or a pair of texts is expected, got a tuple of {len(columns)} columns")
        columns = tuple(c if is_tensor(c) else tf.constant(text_list(c), tf.string) for c in columns)
        return super().__call__(columns)

    def call(self, columns):
        return self.pack(*(self.tokenizer.call(column) for column in columns))

    def with_length(self, max_length=None, fixed_length=None):
        """The same with rows of another length, or of one that is fixed."""
        config = {**self.get_config(), "tokenizer": self.tokenizer, "max_length": max_length or self.max_length}
        if fixed_length is not None:
            config["fixed_length"] = fixed_length
        return type(self)(**config)

    @property
    def longest_query(self):
        """The most pieces of a query, so that half of the positions are left for the text beside it."""
        return (self.max_length - 3) // 2

    def pack(self, first, second=None, fixed_length=None):
        """Ragged ids `[B, (pieces)]`, or a pair of them, to the packed dictionary."""
        lengths = tf.cast(first.row_lengths(), tf.int32)
        other = None if second is None else tf.cast(second.row_lengths(), tf.int32)
        room = self.max_length - (2 if second is None else 3)
        lengths, other = truncated_lengths(lengths, other, room, self.truncation)
        rows = tf.range(tf.size(lengths))
        return self._place(first, rows, tf.zeros_like(lengths), lengths, second, rows, other, fixed_length)

    def pack_windows(self, documents, stride, queries=None, fixed_length=None):
        """Ragged ids to overlapping windows, each with its whole query (if any) before it.

        Args:
          documents: ragged ids `[B, (pieces)]`.
          stride: pieces that neighbouring windows share.
          queries: ragged ids `[B, (pieces)]`, or None: `[CLS] query [SEP] window [SEP]`. A query is cut to half of
            the positions, so that there is room for the document.

        Returns:
          The packed dictionary with `W` rows, and `Windows`, the map back to the documents.
        """
        lengths = tf.cast(documents.row_lengths(), tf.int32)
        if queries is None:
            cut = windows(lengths, self.max_length - 2, stride)
            return self._place(documents, cut.document, cut.start, cut.length, fixed_length=fixed_length), cut
        room = self.max_length - 3 - self.longest_query
        if not 0 <= stride < room:
            raise ValueError(
                f"stride should be at least 0 and less than {room}, the pieces of a window "
                f"beside the longest question at max_length {self.max_length}; got {stride}"
            )
        query_lengths = tf.minimum(tf.cast(queries.row_lengths(), tf.int32), self.longest_query)
        cut = windows(lengths, self.max_length - 3 - query_lengths, stride)
        of_window = tf.gather(query_lengths, cut.document)
        packed = self._place(
            queries, cut.document, tf.zeros_like(of_window), of_window,
            documents, cut.document, cut.length, fixed_length, second_start=cut.start,
        )  # fmt: skip
        return packed, cut

    def _place(
        self, first, first_rows, first_start, first_length,
        second=None, second_rows=None, second_length=None, fixed_length=None, second_start=0,
    ):  # fmt: skip
        """Puts slices of rows between the special tokens: the one place where [CLS] and [SEP] go in."""
        tokenizer = self.tokenizer
        fixed_length = self.fixed_length if fixed_length is None else fixed_length
        total = first_length + 2 if second is None else first_length + second_length + 3  # [B]
        if fixed_length:
            width = self.max_length
        else:
            width = tf.reduce_max(tf.concat([total, [2 if second is None else 3]], 0))
        position = tf.range(width)[None]  # [1, L]
        inner = position - 1
        end = first_length[:, None]
        ids = tf.where(inner < end, _take(first, first_rows, inner + first_start[:, None]), tokenizer.sep_token_id)
        ids = tf.where(position == 0, tokenizer.cls_token_id, ids)
        segments = tf.zeros_like(ids)
        if second is not None:
            inner = position - end - 2
            length = second_length[:, None]
            second_ids = _take(second, second_rows, inner + tf.reshape(second_start, [-1, 1]))
            ids = tf.where((inner >= 0) & (inner < length), second_ids, ids)
            segments = tf.cast((inner >= 0) & (inner <= length), tf.int32)
        mask = position < total[:, None]
        ids = tf.where(mask, ids, tokenizer.pad_token_id)
        if self.ragged:
            rows = {"token_ids": ids, "segment_ids": segments, "padding_mask": tf.cast(mask, tf.int32)}
            return {name: tf.RaggedTensor.from_tensor(row, lengths=total) for name, row in rows.items()}
        if fixed_length:  # a shape known beforehand lets LiteRT plan the encoder
            shape = [-1, width]
            ids, segments, mask = tf.reshape(ids, shape), tf.reshape(segments, shape), tf.reshape(mask, shape)
        return {"token_ids": ids, "segment_ids": segments, "padding_mask": tf.cast(mask, tf.int32)}

    def get_config(self):
        return {
            **super().get_config(),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            "max_length": self.max_length,
            "truncation": self.truncation,
            "fixed_length": self.fixed_length,
            "ragged": self.ragged,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "tokenizer": keras.saving.deserialize_keras_object(config["tokenizer"])})
