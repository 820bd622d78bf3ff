"""The layout of a pretraining example as a tf.Example, that of Google's `create_pretraining_data.py`.

| feature | of each example |
|---|---|
| `input_ids`, `input_mask`, `segment_ids` | int64 `[L]`: the packed pair with its hidden tokens, padded to `L` |
| `masked_lm_positions`, `masked_lm_ids` | int64 `[M]`: where tokens are hidden, and which; zeros behind the last |
| `masked_lm_weights` | float32 `[M]`: 1.0 for a hidden token, 0.0 behind the last |
| `next_sentence_labels` | int64 `[1]`: 0 where the second segment follows the first, otherwise 1 |
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kbert.training.losses import NO_LABEL

# Our names of the inputs, and the features that hold them.
INPUTS = {
    "token_ids": "input_ids",
    "padding_mask": "input_mask",
    "segment_ids": "segment_ids",
    "mask_positions": "masked_lm_positions",
}


def serialized(packed: dict[str, tf.Tensor], hidden: tf.Tensor, labels: np.ndarray, mask_rate: float) -> tf.Tensor:
    """Returns masked pairs as serialized tf.Examples, string `[B]`.

    They are made by ops, for Python's protocol buffers take ten times as long.

    Args:
      packed: the dictionary that `mask_tokens` gives, int32 `[B, L]` with a static `L`.
      hidden: the labels that it gives, int32 `[B, M]`.
      labels: the labels of the pairs, int32 `[B]`.
      mask_rate: the share of tokens that was hidden. It bounds the number of predictions, the same for all examples of a file.
    """
    size, length = packed["token_ids"].shape
    most = math.ceil(mask_rate * length) + 1
    positions = packed["mask_positions"]
    # Hidden tokens in the order of the text, as Google's script writes them, and zeros behind.
    order = tf.argsort(tf.where(hidden != NO_LABEL, positions, length), 1, stable=True)[:, :most]
    hidden, positions = (tf.gather(values, order, batch_dims=1) for values in (hidden, positions))
    is_hidden = tf.cast(hidden != NO_LABEL, tf.int32)
    padding = [[0, 0], [0, most - order.shape[1]]]
    features = {
        "input_ids": packed["token_ids"],
        "input_mask": packed["padding_mask"],
        "segment_ids": packed["segment_ids"],
        "masked_lm_positions": tf.pad(positions * is_hidden, padding),
        "masked_lm_ids": tf.pad(hidden * is_hidden, padding),
        "masked_lm_weights": tf.pad(tf.cast(is_hidden, tf.float32), padding),
        "next_sentence_labels": tf.constant(labels)[:, None],
    }
    entries = []
    for name, values in features.items():
        if values.dtype == tf.float32:
            feature = _messages("Feature", float_list=_messages("FloatList", value=values))
        else:
            feature = _messages("Feature", int64_list=_messages("Int64List", value=tf.cast(values, tf.int64)))
        entries.append(_messages("Features.FeatureEntry", key=tf.fill([size, 1], name), value=feature))
    return _messages("Example", features=_messages("Features", feature=tf.concat(entries, 1)))[:, 0]


def _messages(kind: str, **fields: tf.Tensor) -> tf.Tensor:
    """Returns serialized protocol buffers, string `[B, 1]`.

    Args:
      kind: the message's name in the package `tensorflow`.
      **fields: the values of each field, `[B, n]`.
    """
    rows = next(iter(fields.values())).shape[0]
    sizes = tf.constant([[values.shape[1] for values in fields.values()]] * rows, tf.int32)
    return tf.io.encode_proto(sizes, list(fields.values()), list(fields), f"tensorflow.{kind}")[:, None]


def parser(length: int, predictions: int) -> Callable[[tf.Tensor], tuple[dict, dict]]:
    """Returns a function of serialized tf.Examples `[B]` that gives the inputs and labels of a `Pretrainer`.

    Args:
      length: `L`, the positions of an example.
      predictions: `M`, the room for hidden tokens.
    """

    def fixed(size: int, dtype: tf.DType = tf.int64) -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature([size], dtype)

    spec = {name: fixed(length) for name in ("input_ids", "input_mask", "segment_ids")}
    spec.update({name: fixed(predictions) for name in ("masked_lm_positions", "masked_lm_ids")})
    spec.update(masked_lm_weights=fixed(predictions, tf.float32), next_sentence_labels=fixed(1))

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> tuple[dict, dict]:
        features = tf.io.parse_example(serialized, spec)
        inputs = {name: tf.cast(features[feature], tf.int32) for name, feature in INPUTS.items()}
        is_hidden = features["masked_lm_weights"] > 0
        hidden = tf.where(is_hidden, tf.cast(features["masked_lm_ids"], tf.int32), NO_LABEL)
        return inputs, {"mlm_logits": hidden, "nsp_logits": tf.cast(features["next_sentence_labels"][:, 0], tf.int32)}

    return parse


def sizes_of(file: pathlib.Path) -> tuple[int, int]:
    """Returns the positions and the predictions of a file's examples, which its first example says.

    Args:
      file: a TFRecord file, gzipped if its name ends in `.gz`.

    Raises:
      ValueError: the file could not be read, or its first record is no example of this layout.
    """
    compression = "GZIP" if file.suffix == ".gz" else ""
    try:
        first = next(tf.data.TFRecordDataset(str(file), compression).take(1).as_numpy_iterator(), None)
        features = tf.train.Example.FromString(first or b"").features.feature
        length, predictions = (len(features[name].int64_list.value) for name in ("input_ids", "masked_lm_positions"))
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise ValueError(f"{file} could not be read as TFRecords of examples: {error}") from None
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ValueError(f"{file} holds no tf.Examples: {error}") from None
    if not length or not predictions:
        raise ValueError(
            f"{file} has no examples with input_ids and masked_lm_positions, as create_pretraining_data writes them"
        )
    return length, predictions
