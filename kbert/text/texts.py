"""Checks that a column of texts holds texts, before any work starts."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import TypeAlias, TypeGuard

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
        counts as a list of one. An empty string is a text like any other.
      name: the name of the argument in an error message.

    Raises:
      TypeError: if a value is not a string. The message names its place, type and value.
      ValueError: if bytes are not UTF-8, or a string holds half a surrogate pair.
    """
    if isinstance(texts, (str, bytes)):
        texts = [texts]
    if is_tensor(texts):
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise TypeError(
                f"{name} should be a tensor of strings with one axis, got {texts.dtype.name} of shape {texts.shape}"
            )
        texts = texts.numpy()
    if hasattr(texts, "columns"):
        raise TypeError(f'{name} should be one column, got a table of {list(texts.columns)}; pass table["name"]')
    if isinstance(texts, dict) or not hasattr(texts, "__iter__"):
        raise TypeError(f"{name} should be a list, array or column of strings, got {type(texts).__name__}: {texts!r:.80}")
    encoded = []
    for place, text in enumerate(texts):
        if isinstance(text, str):
            try:
                encoded.append(text.encode("utf-8"))
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{name}[{place}] cannot be written as UTF-8 ({error.reason} at character {error.start}): {text!r:.80}"
                ) from error
        elif isinstance(text, bytes):
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name}[{place}] is not UTF-8 ({error.reason} at byte {error.start}): {text!r:.80}; "
                    "decode it with the encoding it was written in"
                ) from error
            encoded.append(bytes(text))
        else:
            missing = text is None or type(text).__name__ == "NAType" or (isinstance(text, numbers.Real) and text != text)
            raise TypeError(
                f"{name}[{place}] is {text!r:.80} ({type(text).__name__}), not a string; "
                + ("drop that row, or fill it with an empty string" if missing else "turn it into text with str()")
            )
    return encoded
