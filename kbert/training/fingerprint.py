"""Computes digests of the parts of a computation, so that a kept result is not taken for that of another computation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Keras numbers the names of layers, so they depend on the layers that a process built before. `trainable` stands at layers
# without weights too; `trainable_flags` says which layers are trained.
LEFT_OUT = ("name", "trainable", "shared_object_id", "build_config")


def fingerprint(**parts: Any) -> dict[str, str]:
    """Returns a digest of each part, by its name, so that a message can say which part differs.

    >>> fingerprint(texts=["a", "b"])["texts"] == fingerprint(texts=["b", "a"])["texts"]
    False
    >>> fingerprint(labels=[{"a", "b"}])["labels"] == fingerprint(labels=[{"a", "c"}])["labels"]
    False

    Args:
      **parts: nests of strings, numbers, arrays, tensors, ragged tensors, variables, and configurations of Keras's. The names
        of layers in a configuration do not count.
    """
    return {name: digest(part) for name, part in parts.items()}


def differing(parts: Mapping[str, str], others: Any) -> list[str]:
    """Returns the names of the digests in `parts` that differ from those in `others`, or are missing there."""
    others = others if isinstance(others, Mapping) else {}
    return [name for name, value in parts.items() if others.get(name) != value]


def digest(value: Any) -> str:
    """Returns a digest of a nest of values; see `fingerprint`."""
    result = hashlib.sha256()
    _add(result, value)
    return result.hexdigest()


def _add(result: Any, value: Any) -> None:
    if isinstance(value, tf.RaggedTensor):
        value = ("ragged", value.values, value.row_splits)
    if isinstance(value, (set, frozenset)):  # of several labels, in another order in each process
        value = ("set", sorted(digest(item) for item in value))
    if isinstance(value, Mapping):
        counts = value if set(value) == {"name"} else [key for key in value if key not in LEFT_OUT]  # a dtype policy is a name
        value = ("mapping", [(key, value[key]) for key in counts])
    if isinstance(value, (list, tuple)):
        result.update(f"[{len(value)}:".encode())
        for item in value:
            _add(result, item)
    elif isinstance(value, (np.ndarray, np.generic, tf.Tensor, tf.Variable, keras.Variable)):
        array = np.asarray(keras.ops.convert_to_numpy(value) if not isinstance(value, (np.ndarray, np.generic)) else value)
        result.update(f"{array.dtype}{array.shape}:".encode())
        if array.dtype == object:
            _add(result, array.tolist())
        else:
            result.update(np.ascontiguousarray(array).tobytes())
    elif isinstance(value, bytes):
        result.update(b"b" + str(len(value)).encode() + b":" + value)
    else:
        text = json.dumps(value, default=lambda other: getattr(other, "__qualname__", type(other).__qualname__))
        result.update(f"{len(text)}:{text}".encode())
