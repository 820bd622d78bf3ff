"""The first ops of a SavedModel's signatures. They check a request before any other op reads it.

TF Serving does not compare the shapes of a request with the signature, and tensorflow-text's kernels end the process on a shape
that they do not expect. These ops answer a request that does not fit with an INVALID_ARGUMENT that names the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kbert.encoders.bert import INPUT_NAMES

AXES = {1: "one axis, with a value for each row", 2: "two axes, rows and positions"}


def require(condition: tf.Tensor, message: str, *shown: tf.Tensor) -> tf.Operation:
    """Returns an op that fails with INVALID_ARGUMENT where a condition does not hold.

    Args:
      condition: bool, a scalar.
      message: the text of the error, which names the input and says what it should hold.
      *shown: tensors whose values are appended to the message.
    """
    return tf.debugging.Assert(condition, [message, *shown], name="check_input")


def of_rank(columns: Mapping[str, tf.Tensor], rank: int) -> list[tf.Tensor]:
    """Returns the inputs of a graph, after ops that check their number of axes and that they are equally large.

    Args:
      columns: the inputs by name.
      rank: the number of axes that each input should have, 1 or 2. Several inputs should also have the same shape.
    """
    shapes, checks = [], []
    for name, column in columns.items():
        # Grappler would compute a check beforehand from the declared shape. The output of this op has none.
        hidden = tf.compat.v1.placeholder_with_default(column, None)
        shapes.append(tf.shape(hidden))
        checks.append(
            require(tf.equal(tf.size(shapes[-1]), rank), f"input {name} should have {AXES[rank]}; its shape is", shapes[-1])
        )
    if len(columns) > 1:
        with tf.control_dependencies(checks):
            same = tf.reduce_all([tf.reduce_all(tf.equal(shapes[0], shape)) for shape in shapes[1:]])
        names = ", ".join(columns)
        checks.append(require(same, f"inputs {names} should have the same shape; theirs are", *shapes))
    with tf.control_dependencies(checks):
        return [tf.ensure_shape(tf.identity(column), [None] * rank) for column in columns.values()]


def texts_of(columns: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Returns the string inputs `[B]` of a graph, checked, and as valid UTF-8.

    Bytes that are not UTF-8 become U+FFFD, as with Python's `decode("utf-8", "replace")`. Otherwise ops that cut a string by
    characters would fail for every row of the batch.

    Args:
      columns: the inputs by name.
    """
    return tuple(valid_utf8(column) for column in of_rank(columns, 1))


def valid_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Returns strings of any shape, with U+FFFD in the place of bytes that are not UTF-8."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def texts_of_examples(serialized: tf.Tensor, names: Sequence[str]) -> tuple[tf.Tensor, ...]:
    """Returns the features of serialized `tf.Example`s `[B]` as strings `[B]`, which are checked as `texts_of` checks them.

    Args:
      serialized: the graph's input of the name `inputs`.
      names: the names of the features, each with one string.
    """
    (serialized,) = of_rank({"inputs": serialized}, 1)
    # An example that cannot be parsed fails with the name of this op in the message.
    features = tf.io.parse_example(serialized, {name: tf.io.FixedLenFeature([], tf.string) for name in names}, name="inputs")
    return tuple(valid_utf8(features[name]) for name in names)


def packed_of(columns: Mapping[str, tf.Tensor], config: Any) -> dict[str, tf.Tensor]:
    """Returns a packed dictionary of inputs, int32 `[B, L]`, after ops that check their shapes and values.

    Args:
      columns: the inputs by the names of `INPUT_NAMES`.
      config: the configuration of the encoder. It says how many ids, segments and positions there are.
    """
    token_ids, segment_ids, padding_mask = of_rank({name: columns[name] for name in INPUT_NAMES}, 2)
    positions = tf.shape(token_ids)[1]

    def within(name: str, ids: tf.Tensor, size: int) -> tf.Operation:
        return require(tf.reduce_all((ids >= 0) & (ids < size)), f"input {name} should hold numbers from 0 to {size - 1}")

    most = config.max_position_embeddings
    checks = [
        require((positions > 0) & (positions <= most), f"input token_ids should have 1 to {most} positions; it has", positions),
        within("token_ids", token_ids, config.vocab_size),
        within("padding_mask", padding_mask, 2),
        require(tf.reduce_all(tf.reduce_any(padding_mask > 0, 1)), "input padding_mask should have a 1 in each row"),
    ]
    if config.type_vocab_size:
        checks.append(within("segment_ids", segment_ids, config.type_vocab_size))
    with tf.control_dependencies(checks):
        return dict(zip(INPUT_NAMES, map(tf.identity, (token_ids, segment_ids, padding_mask))))
