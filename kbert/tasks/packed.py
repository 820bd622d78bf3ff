"""Checks the values of packed dictionaries before Keras takes them, which would wrap wrong ids or drop wrong weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.tasks.row_weights import check_weights


def check_packed(inputs: Any, config: Any) -> None:
    """Raises an error for packed arrays that the encoder cannot read.

    Args:
      inputs: a packed dictionary of arrays `[B, L]`.
      config: the encoder's configuration.

    Raises:
      TypeError: the values are no whole numbers.
      ValueError: a number is out of its range, for example an id beyond the table of tokens, or sizes do not go together.
    """
    if not isinstance(inputs, dict):
        return
    check_sizes(inputs)
    length = np.shape(inputs["token_ids"])[-1] if "token_ids" in inputs else config.max_position_embeddings
    sizes = {
        "token_ids": (config.vocab_size, f"the encoder embeds {config.vocab_size} tokens"),
        "segment_ids": (config.type_vocab_size or 2, "the encoder embeds no other segments"),
        "padding_mask": (2, "it is 1 at real tokens and 0 at padding"),
        "mask_positions": (length, f"the rows have {length} positions"),
    }
    for name, (size, why) in sizes.items():
        if name not in inputs:
            continue
        values = np.asarray(inputs[name])
        if values.dtype.kind not in "iub" and not (values.dtype.kind == "f" and (values == np.floor(values)).all()):
            raise TypeError(f"{name} should be whole numbers, got {values.dtype} values such as {values.flat[0]!r}")
        wrong = np.argwhere((values < 0) | (values >= size))
        if len(wrong):
            place = tuple(wrong[0].tolist())
            raise ValueError(f"{name}{list(place)} is {values[place]}; it should be from 0 to {size - 1}, for {why}")


def packed_arrays(inputs: Any, config: Any) -> Any:
    """Returns a packed dictionary with arrays in the place of lists, checked by `check_packed`; other inputs as they are.

    Args:
      inputs: a packed dictionary, or a dataset.
      config: the encoder's configuration.
    """
    if isinstance(inputs, dict):
        inputs = {name: np.asarray(values) if isinstance(values, (list, tuple)) else values for name, values in inputs.items()}
    check_packed(inputs, config)
    return inputs


def check_sizes(inputs: dict[str, Any]) -> None:
    """Raises a ValueError for packed arrays whose sizes do not go together."""
    if "token_ids" not in inputs:
        raise ValueError(f"a packed dictionary has token_ids, got {', '.join(map(str, inputs)) or 'nothing'}")
    shape = np.shape(inputs["token_ids"])
    if len(shape) != 2:
        raise ValueError(f"token_ids should be [rows, positions], got shape {shape}")
    for name, values in inputs.items():
        same = 2 if name in ("segment_ids", "padding_mask") else 1
        if np.shape(values)[:same] != shape[:same]:
            raise ValueError(f"{name} has shape {np.shape(values)}, but token_ids has {shape}: give as many rows and positions")


def finite_arrays(y: Any) -> Any:
    """Returns the targets of packed rows as arrays of finite numbers.

    Args:
      y: an array or a list; or a dictionary or a tuple with one for each output.

    Raises:
      TypeError: something is no number.
      ValueError: a number is not finite, or rows differ in size.
    """
    if isinstance(y, dict):
        return {name: finite_arrays(part) for name, part in y.items()}
    if isinstance(y, tuple):
        return tuple(finite_arrays(part) for part in y)
    try:
        numbers = np.asarray(y)
    except ValueError:
        raise ValueError("the targets of packed rows should be an array of numbers, got rows of several sizes") from None
    if numbers.dtype.kind in "OUSMm":
        raise TypeError(f"the targets of packed rows should be numbers, got {numbers.dtype} values")
    if not np.isfinite(numbers).all():
        raise ValueError(f"y{np.argwhere(~np.isfinite(numbers))[0].tolist()} is not a finite number")
    return numbers


def check_packed_batches(data: Any) -> None:
    """Raises an error for a dataset of packed dictionaries that cannot be trained on.

    Args:
      data: a `tf.data.Dataset`. Other data are not checked.

    Raises:
      TypeError: the targets are strings.
      ValueError: the dataset gives single rows, or no targets.
    """
    spec = getattr(data, "element_spec", None)
    if not isinstance(data, tf.data.Dataset) or spec is None:
        return
    parts = spec if isinstance(spec, tuple) else (spec,)
    ids = parts[0].get("token_ids") if isinstance(parts[0], dict) else None
    if ids is not None and ids.shape.rank == 1:
        raise ValueError("the dataset gives packed rows one by one: call batch(32) on it, for example")
    if len(parts) < 2:
        raise ValueError("targets are missing: a dataset of packed dictionaries gives (inputs, targets)")
    if len(parts) > 1 and any(part.dtype == tf.string for part in tf.nest.flatten(parts[1])):
        raise TypeError("the dataset has strings as the targets of packed rows: give the places of the labels, as numbers")


def check_packed_weights(sample_weight: Any, rows: int) -> Any:
    """Returns the weights of packed rows as they were given; raises a ValueError if one is negative or no finite number.

    Args:
      sample_weight: a weight for each row; weights of several outputs or positions, in a nest; or None.
      rows: the number of rows.
    """
    for weights in keras.tree.flatten(sample_weight):
        if weights is not None and np.ndim(weights) == 1:
            check_weights(weights, rows)
        elif weights is not None and not (np.isfinite(weights) & (np.asarray(weights) >= 0)).all():
            raise ValueError("sample_weight should hold finite numbers, 0 or more")
    return sample_weight


def checked_batches(data: Any, encode: Callable[[Any], Callable[[Any], Any] | None] = lambda spec: None) -> Any:
    """Returns a dataset of packed batches with encoded targets, which raises an error at a weight that no loss can take.

    Datasets without targets, and other data, are returned as they are.

    Args:
      data: a `tf.data.Dataset` of `(inputs, targets)` or `(inputs, targets, weights)`, or other data.
      encode: a function of the targets' `tf.TypeSpec` to a function, in ops of a graph, that encodes a batch of them. It
        returns None for targets that are encoded already.
    """
    spec = getattr(data, "element_spec", None)
    if not isinstance(data, tf.data.Dataset) or not isinstance(spec, tuple) or len(spec) < 2:
        return data
    encode_batch = encode(spec[1])
    if encode_batch is None and len(spec) < 3:
        return data

    @tf.autograph.experimental.do_not_convert
    def check(inputs: Any, targets: Any, *weights: Any) -> tuple:
        checks = [
            tf.debugging.assert_equal(
                tf.reduce_all(tf.math.is_finite(tf.cast(part, tf.float32)) & (part >= 0)),
                True,
                "sample_weight should hold finite numbers, 0 or more; a batch of the dataset has another one",
            )
            for part in tf.nest.flatten(weights)
        ]
        with tf.control_dependencies(checks):
            targets = targets if encode_batch is None else encode_batch(targets)
            return inputs, targets, *tf.nest.map_structure(tf.identity, weights)

    count = data.cardinality()
    return data.map(check).apply(tf.data.experimental.assert_cardinality(count)) if int(count) >= 0 else data.map(check)


def as_rows_or_indices(spec: Any, count: int, rows: bool) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Returns a function, in ops of a graph, from a batch of targets of one class each to the form that a loss reads.

    Args:
      spec: the `tf.TypeSpec` of the targets: indices `[B]` or `[B, 1]`, or rows `[B, count]`.
      count: the number of classes.
      rows: whether the loss reads rows rather than indices.

    Returns:
      The function, or None if the targets have the form already. The function that makes indices of rows raises an
      `InvalidArgumentError` at a row that is not one-hot.
    """
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        return None
    in_rows = spec.shape.rank == 2 and spec.shape[-1] == count
    if rows == in_rows:
        return None

    def one_hot(targets: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.reshape(tf.cast(targets, tf.int32), [-1]), count)

    def indices(targets: tf.Tensor) -> tf.Tensor:
        best = tf.argmax(targets, -1, tf.int32)
        is_one_hot = tf.reduce_all(tf.equal(tf.one_hot(best, count), tf.cast(targets, tf.float32)))
        message = f"targets of {count} numbers should be one-hot rows, with one 1 and otherwise 0; a batch has another row"
        with tf.control_dependencies([tf.debugging.assert_equal(is_one_hot, True, message)]):
            return tf.identity(best)

    return one_hot if rows else indices
