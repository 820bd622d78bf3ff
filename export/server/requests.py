"""The values of requests: JSON as arrays and as `tf.Example`s, and the error that answers a request which cannot be read."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import tensorflow as tf

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))


class ServingError(Exception):
    """A request that failed. `status` is the name of the gRPC status to return."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def as_array(value: Any, dtype: tf.DType, name: str) -> np.ndarray:
    """Returns the value of an input as an array of the type that the signature asks for.

    Args:
      value: JSON's nested lists, or an array.
      dtype: the type of the signature's input.
      name: the name of the input, for the error.

    Raises:
      ServingError: the value has another type.
    """
    if isinstance(value, np.ndarray):
        if (dtype == tf.string and value.dtype.kind in "OSU") or tf.dtypes.as_dtype(value.dtype) == dtype:
            return value.astype(object) if dtype == tf.string else value
        raise ServingError("INVALID_ARGUMENT", f"input {name} should be {dtype.name}, got {value.dtype}")
    try:
        if dtype == tf.string:
            return np.vectorize(to_bytes, otypes=[object])(np.array(value, object)) if len(value) else np.zeros(0, object)
        array = np.array(value)
        if array.size and array.dtype.kind not in ("iu" if dtype.is_integer else "iuf"):
            raise TypeError(f"got {array.dtype}")
        return array.astype(dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise ServingError("INVALID_ARGUMENT", f"input {name} could not be read as {dtype.name}: {error}") from None


def to_bytes(value: Any) -> bytes:
    """Returns the bytes of a string, or of `{"b64": ...}`, which is how TF Serving's JSON writes bytes.

    Raises:
      TypeError: the value is neither.
      ValueError: the base64 cannot be decoded.
    """
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (ValueError, TypeError) as error:
            raise ValueError(f"b64 is not base64: {error}") from None
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"a string is expected, got {value!r:.40}")
    return value.encode("utf-8") if isinstance(value, str) else value


def tf_example(features: dict[str, Any]) -> bytes:
    """Returns a JSON object of features as a serialized `tf.Example`.

    Args:
      features: a dictionary from the name of a feature to a value or a list of values. Whole numbers, other numbers and strings
        become int64, float and bytes features.

    Raises:
      ServingError: the argument is no dictionary, or a feature mixes types.
    """
    if not isinstance(features, dict):
        raise ServingError("INVALID_ARGUMENT", f"an example should be an object of features, got {features!r:.60}")
    encoded = {}
    for name, values in features.items():
        values = values if isinstance(values, list) else [values]
        try:
            if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
                encoded[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
            elif all(isinstance(value, float) for value in values):
                encoded[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            else:
                encoded[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[to_bytes(value) for value in values]))
        except (TypeError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", f"feature {name}: {error}") from None
    return tf.train.Example(features=tf.train.Features(feature=encoded)).SerializeToString()


def plain(value: Any) -> Any:
    """Returns an output as a value that JSON has; bytes become text."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
