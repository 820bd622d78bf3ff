"""Checks that a column of texts holds texts, before any work starts."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import tensorflow as tf

# One text, or a column of them: a list, tuple, NumPy array or pandas column of strings, or a tensor.
Texts: TypeAlias = "str | bytes | Iterable[str] | Iterable[bytes] | tf.Tensor | tf.RaggedTensor"


def is_tensor(value: object) -> TypeGuard[tf.Tensor]:
    """Returns whether the value is a TensorFlow tensor, whose strings cannot be read one by one inside a graph."""
    return isinstance(value, tf.RaggedTensor) or tf.is_tensor(value)


def text_list(texts: Texts, name: str = "texts") -> list[bytes]:
    """Returns the texts as a list of UTF-8 bytes, and names the first value that is not a text.

    >>> text_list(["Good morning.", b"bonjour"])
    [b'Good morning.', b'bonjour']

    Args:
      texts: a list, tuple, NumPy array, pandas column or eager tensor of `str` or UTF-8 `bytes`. One bare string
        counts as a list of one, and so does an array or a tensor without axes. An empty string is a text like any other.
      name: the name of the argument in an error message.

    Raises:
      TypeError: if a value is not a string. The message names its place, type and value. Also for a table, a set, a tensor of
        a graph, or one with several axes.
      ValueError: if bytes are not UTF-8, or a string holds half a surrogate pair.
    """
    if is_tensor(texts):
        if is_symbolic(texts):
            raise TypeError(f"{name} is a tensor of a graph, whose strings are not there yet: give texts that are in memory")
        kind = tf.as_dtype(texts.dtype)
        if kind != tf.string or not (texts.shape.rank in (0, 1) or texts.shape[1:] == [1]):
            raise TypeError(f"{name} should be a tensor of strings with one axis, got {kind.name} of shape {texts.shape}")
        texts = np.asarray(texts.numpy(), object).reshape(-1)
    if isinstance(texts, (str, bytes)) or is_single(texts):
        texts = [texts]
    if hasattr(texts, "columns"):
        raise TypeError(f'{name} should be one column, got a table of {list(texts.columns)}; pass table["name"]')
    if isinstance(texts, (set, frozenset)):
        raise TypeError(f"{name} is a {type(texts).__name__}, which has no order: give a list")
    if isinstance(texts, dict) or not hasattr(texts, "__iter__"):
        raise TypeError(f"{name} should be a list, array or column of strings, got {type(texts).__name__}: {texts!r:.80}")
    encoded = []
    for place, text in enumerate(texts):
        if not isinstance(text, (str, bytes)) and is_single(text):
            text = text.numpy() if is_tensor(text) else text.item()
        if isinstance(text, str):
            try:
                encoded.append(text.encode("utf-8"))
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{name}[{place}] cannot be written as UTF-8 ({error.reason} at character {error.start}): {text!r:.80}"
                ) from None
        elif isinstance(text, bytes):
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name}[{place}] is not UTF-8 ({error.reason} at byte {error.start}): {text!r:.80}; "
                    "decode it with the encoding it was written in"
                ) from None
            encoded.append(bytes(text))
        else:
            raise TypeError(f"{name}[{place}] is {text!r:.80} ({type(text).__name__}), not a string; {_cure(text)}")
    return encoded


def is_single(value: Any) -> bool:
    """Returns whether a value is an array or an eager tensor without axes, which holds one scalar."""
    if is_tensor(value):
        return value.shape.rank == 0 and not is_symbolic(value)
    return isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0 and value is not np.ma.masked


def is_symbolic(value: Any) -> bool:
    """Returns whether a tensor belongs to a graph, so that its values are not there yet."""
    return not hasattr(value.flat_values if isinstance(value, tf.RaggedTensor) else value, "numpy")


def strings_of(texts: Texts, name: str = "texts") -> tf.Tensor | tf.RaggedTensor:
    """Returns texts as a string tensor: without an axis for one text, `[B]` for a column, with all axes of an array.

    Args:
      texts: as `text_list` takes them, or a string tensor or array of any shape. A tensor may belong to a graph.
      name: the name of the argument in an error message.

    Raises:
      TypeError: if a value is not a string.
      ValueError: if a value is not UTF-8. Tensors are not checked for it.
    """
    if is_tensor(texts):
        if tf.as_dtype(texts.dtype) != tf.string:
            raise TypeError(f"{name} should be strings, got a tensor of {tf.as_dtype(texts.dtype).name}, shape {texts.shape}")
        return texts
    if isinstance(texts, (str, bytes)) or is_single(texts):
        return tf.constant(text_list(texts, name)[0], tf.string)
    if isinstance(texts, np.ndarray) and texts.ndim > 1:
        return tf.reshape(tf.constant(text_list(texts.reshape(-1), name), tf.string), texts.shape)
    return tf.constant(text_list(texts, name), tf.string)


def _cure(value: Any) -> str:
    """Returns advice, for an error message, about a value that stands in the place of a text."""
    missing = value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType")
    if missing or (isinstance(value, numbers.Real) and value != value):
        return "drop that row, or fill it with an empty string"
    if isinstance(value, (list, tuple, np.ndarray, dict)):
        return "give a column of texts, a pair as a tuple of two columns, and targets in a column of their own"
    return "turn it into text with str()"
