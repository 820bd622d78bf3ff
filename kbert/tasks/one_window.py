"""Graphs that answer from one window of a text, in ops that LiteRT has."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kbert.tasks.answer_decoder import IMPOSSIBLE, at_pieces, best_spans
from kbert.tasks.entity_decoder import entities_of_pieces, entity_types
from kbert.text.normalizer import tensorflow_text
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer


def fixed_shape(preprocessor: TextPreprocessor, packed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns packed ids of one text in a shape that is known beforehand, `[1, L]`, for which LiteRT can plan the encoder.

    Args:
      preprocessor: the preprocessor that packed the text, with a fixed length `L`.
      packed: int32 tensors of one row by name.
    """
    return {name: tf.reshape(ids, [1, preprocessor.max_length]) for name, ids in packed.items()}


def one_row(values: tf.Tensor) -> tf.RaggedTensor:
    """Returns values as a ragged tensor of one row. LiteRT has no kernel for a slice of a ragged tensor."""
    return tf.RaggedTensor.from_row_splits(
        values, tf.stack([tf.constant(0, tf.int64), tf.size(values, tf.int64)]), validate=False
    )


def substrings(text: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Returns the strings between bytes of one text.

    Args:
      text: string `[1]`.
      starts: the first byte of each string, int32 `[E]`.
      ends: the byte after each string, int32 `[E]`.

    Returns:
      string `[E]`.
    """
    return tensorflow_text().ByteSplitter().split_by_offsets(text, one_row(starts), one_row(ends)).values


def ids_with_special_tokens(tokenizer: WordPieceTokenizer, text: tf.Tensor) -> tf.Tensor:
    """Returns the ids of one text in which a typed special token is one token.

    The tokenizer finds special tokens by a regular expression, which LiteRT does not have. Here they are found by their
    spelling among the pieces into which they are cut.

    Args:
      tokenizer: a tokenizer that does not recognize special tokens.
      text: string `[1]`.

    Returns:
      int32 `[P]`.
    """
    with tf.init_scope():
        widths = {token: len(tokenizer(token)) for token in tokenizer.special_tokens}
    ids, starts, ends = (part.values for part in tokenizer.tokenize_with_offsets(text, unit="bytes"))
    count, is_inside, special = tf.size(ids), tf.zeros_like(ids), tf.zeros_like(ids)
    for token, width in widths.items():
        begins = starts[: tf.maximum(count - width + 1, 0)]
        spelled = substrings(text, begins, tf.minimum(begins + len(token.encode("utf-8")), ends[-1:]))
        is_token = tf.pad(tf.cast(tf.equal(spelled, token), tf.int32), [[0, width]])[:count]
        special += is_token * (tokenizer.token_to_id(token) + 1)
        for further in range(1, width):
            is_inside += tf.pad(is_token, [[further, 0]])[:count]
    first_pieces = tf.where(tf.equal(is_inside, 0))[:, 0]
    return tf.gather(tf.where(special > 0, special - 1, ids), first_pieces)


def entities_of_window(task: Any, preprocessor: TextPreprocessor, text: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the entities of a text `[1]`, filled up to as many as there could be.

    Some platforms cannot read outputs without values.

    Args:
      task: a `TokenClassifier`.
      preprocessor: the preprocessor that makes the window, with a fixed length `L`.
      text: string `[1]`.

    Returns:
      `count` int32 `[1]`, and `label`, `entity` (strings), `start`, `end` (int32, characters) and `score`, each `[L - 2]`.
    """
    most = preprocessor.max_length - 2
    ids, starts, ends = task.tokenizer.tokenize_with_offsets(text)
    _, byte_starts, byte_ends = task.tokenizer.tokenize_with_offsets(text, unit="bytes")
    ids = one_row(ids.values[:most])
    logits = task(fixed_shape(preprocessor, preprocessor.pack(ids)), training=False)
    count = tf.size(ids.values)
    _, kind, first, last, score = entities_of_pieces(
        task.labels,
        task.tokenizer.vocabulary,
        ids.values,
        tf.zeros([count], tf.int64),
        logits[0, 1:][:count],
        starts.values[:count],
        ends.values[:count],
    )
    places = tf.range(tf.size(kind))[:, None]

    def filled(values: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(places, values, [most])

    def at(offsets: tf.RaggedTensor, pieces: tf.Tensor) -> tf.Tensor:
        return filled(tf.gather(offsets.values, pieces))

    return {
        "count": tf.reshape(tf.size(kind), [1]),
        "label": tf.gather(tf.constant(["", *entity_types(task.labels)]), filled(kind + 1)),
        "entity": substrings(text, at(byte_starts, first), at(byte_ends, last)),
        "start": at(starts, first),
        "end": at(ends, last),
        "score": filled(score),
    }


def answer_of_window(
    task: Any, preprocessor: TextPreprocessor, question: tf.Tensor, context: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Returns the best answer to a question in the first window of its text.

    Args:
      task: a `QuestionAnswerer`.
      preprocessor: the preprocessor that makes the window, with a fixed length.
      question: string `[1]`.
      context: string `[1]`.

    Returns:
      `answer` string, `start` and `end` int32 (characters), `score` and `no_answer` float32, each `[1]`.
    """
    question = one_row(task.tokenizer.call(question).values[: preprocessor.longest_query])
    ids, starts, ends = task.tokenizer.tokenize_with_offsets(context)
    _, byte_starts, byte_ends = task.tokenizer.tokenize_with_offsets(context, unit="bytes")
    before = 2 + tf.size(question.values)
    count = tf.minimum(tf.size(ids.values), preprocessor.max_length - 1 - before)
    packed = fixed_shape(preprocessor, preprocessor.pack(question, one_row(ids.values[:count])))
    logits = task(packed, training=False)
    place = tf.range(preprocessor.max_length)
    allowed = (place >= before) & (place < before + count)
    scores, first, last = best_spans(logits["start_logits"], logits["end_logits"], allowed[None])
    is_found = tf.cast(scores[:, 0] > IMPOSSIBLE / 2, tf.int32)  # [1]
    first, last = first[:, :1] - before, last[:, :1] - before

    def at(offsets: tf.RaggedTensor, piece: tf.Tensor) -> tf.Tensor:
        return is_found * at_pieces(offsets, piece)[:, 0]

    share = tf.cast(is_found, tf.float32)  # a product with 0 or 1: LiteRT has no choice between tensors of any shape
    return {
        "answer": substrings(context, at(byte_starts, first), at(byte_ends, last)),
        "start": at(starts, first),
        "end": at(ends, last),
        "score": share * tf.nn.softmax(scores)[:, 0] + (1 - share),
        "no_answer": share * ((logits["start_logits"][:, 0] + logits["end_logits"][:, 0]) - scores[:, 0]),
    }


def masks_of_window(task: Any, preprocessor: TextPreprocessor, text: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the five likeliest tokens of each mask that a text `[1]` holds, filled up to as many masks as there could be.

    Args:
      task: a `MaskedLM`.
      preprocessor: the preprocessor that makes the window, with a fixed length `L`.
      text: string `[1]`.

    Returns:
      `count` int32 `[1]`, and `tokens` strings, `ids` int32 and `scores` float32, each `[L - 2, 5]`.
    """
    most = preprocessor.max_length - 2
    ids = ids_with_special_tokens(task.tokenizer, text)[:most]
    packed = fixed_shape(preprocessor, preprocessor.pack(one_row(ids)))
    places = tf.where(tf.equal(packed["token_ids"][0], task.tokenizer.mask_token_id))[:, 0]
    vectors = tf.gather(task.encode_tokens(packed, training=False)["sequence_output"][0], places)
    best = tf.math.top_k(tf.nn.softmax(task.token_head(vectors[None], task.encoder.embeddings.tokens)[0]), 5)
    rows = tf.range(tf.size(places))[:, None]
    likeliest, scores = (tf.scatter_nd(rows, values, [most, 5]) for values in (best.indices, best.values))
    return {
        "count": tf.reshape(tf.size(places), [1]),
        "tokens": tf.gather(tf.constant(task.tokenizer.vocabulary), likeliest),
        "ids": likeliest,
        "scores": scores,
    }
