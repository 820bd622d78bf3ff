"""The library's messages in the words of the command line: an argument is a flag, and nobody is told to call a method."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What the library says to those who write Python, and what it is on the command line.
PHRASES = (
    ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
    (". Train it with fit(), or leave labels out", "; it is trained for yours"),
    ("; train it with fit() before you trust its answers", "; it is to be trained"),
    ("; a preset folder is opened by from_preset", ""),
    ("; this is said once", ""),
    ("call fit() first", "run kbert finetune first"),
)
# What is said to those who write Python: how a kind of file is written, and the argument beside the flag that has its name.
METHODS = re.compile(r" \([a-z_]+\([^()]*\) writes it[^()]*\)| \((?:encoding|names|tag_column)=[^()]*\)")
LONGEST = 1500  # characters of an error


def in_flags(message: object, flags: Iterable[str]) -> str:
    """Returns a message as one line, with the names of the library's arguments as flags.

    >>> in_flags("3 texts are longer than max_length=24 and are cut; this is said once", ["max_length"])
    '3 texts are longer than --max-length 24 and are cut'

    Args:
      message: a warning or an error.
      flags: the names of the command's options, as Python has them.
    """
    text = " ".join(str(message).split())
    for phrase, replacement in PHRASES:
        text = text.replace(phrase, replacement)
    text = METHODS.sub("", text)
    for name in flags:
        flag = f"--{name.replace('_', '-')}"
        text = re.sub(rf"(?<![\w-]){name}=(?=\S)", f"{flag} ", text)
        if "_" in name:  # a word with _ is no word of a sentence
            text = re.sub(rf"(?<![\w./-]){name}(?![\w(./])", flag, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
