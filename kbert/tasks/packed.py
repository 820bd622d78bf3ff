"""Packed dictionaries: their values are checked before Keras, which would wrap or drop them, takes them as they are."""

from __future__ import annotations

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
      TypeError: no whole numbers.
      ValueError: a number that is out of its range, which int32 or the table of tokens has.
    """
    if not isinstance(inputs, dict):
        return
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


def checked_batches(data: Any) -> Any:
    """Returns a dataset of `(inputs, targets, weights)` that ends in an error at a weight that is negative or not finite.

    Other datasets, and other data, are returned as they are.
    """
    spec = getattr(data, "element_spec", None)
    if not isinstance(data, tf.data.Dataset) or not isinstance(spec, tuple) or len(spec) < 3:
        return data

    @tf.autograph.experimental.do_not_convert
    def check(inputs: Any, targets: Any, weights: Any) -> tuple:
        checks = [
            tf.debugging.assert_equal(
                tf.reduce_all(tf.math.is_finite(tf.cast(part, tf.float32)) & (part >= 0)),
                True,
                "sample_weight should hold finite numbers, 0 or more; a batch of the dataset has another one",
            )
            for part in tf.nest.flatten(weights)
        ]
        with tf.control_dependencies(checks):
            return inputs, targets, tf.nest.map_structure(tf.identity, weights)

    count = data.cardinality()
    return data.map(check).apply(tf.data.experimental.assert_cardinality(count)) if int(count) >= 0 else data.map(check)
