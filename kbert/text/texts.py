"""What counts as a column of texts, checked before any work starts."""

import numbers

import tensorflow as tf


def is_tensor(value):
    """Whether the value is a TensorFlow tensor, whose strings cannot be looked at one by one."""
    return isinstance(value, tf.RaggedTensor) or tf.is_tensor(value)


def text_list(texts, name="texts"):
    """Returns the texts as a list of UTF-8 bytes, or says which one is not a text.

    >>> text_list(["Good morning.", b"bonjour"])
    [b'Good morning.', b'bonjour']

    Args:
      texts: a list, tuple, NumPy array, pandas column or eager tensor of `str` or UTF-8 `bytes`; one bare string
        counts as a list of one. An empty string is a text like any other.
      name: what to call the argument in an error.

    Raises:
      TypeError: something in it is not a string (its place, type and value are named).
      ValueError: bytes that are not UTF-8, or a string with half a surrogate pair.
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
