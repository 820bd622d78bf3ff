"""Puts the library's messages in the words of the command line: arguments become flags, and hints to call methods go."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Phrases of the library for people who write Python, and their replacements on the command line.
PHRASES = (
    ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
    (". Train it with fit(), or leave labels out", "; it is trained for yours"),
    ("; train it with fit() before you trust its answers", "; it is to be trained"),
    ("; a preset folder is opened by from_preset", ""),
    ("; this is said once", ""),
    ("call fit() first", "run kbert finetune first"),
    ("; predict() gives the labels of words whatever they are called", ""),
    ("give some hundred as texts=[...]", "give some hundred with --texts"),
    ("and word_column is", "and --text is"),
    ("and tag_column is", "and --label is"),
    ("stride should be at least 0", "--window-stride should be at least 0"),
)
# Hints for people who write Python: the method that writes a kind of file, and the argument beside a flag.
METHODS = re.compile(r" \([a-z_]+\([^()]*\) writes it[^()]*\)| \((?:encoding|names|tag_column)=[^()]*\)")
QUOTED = r"""(?<!\w)(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))"""  # a user's value in quotation marks, or cut off
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
        text = _replaced(rf"(?<![\w./-]){name}=(?=\S)", f"{flag} ", text)
        if "_" in name:  # a word with _ is no word of a sentence
            text = _replaced(rf"(?<![\w./-]){name}(?![\w(./])", flag, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _replaced(pattern: str, replacement: str, text: str) -> str:
    """Returns a text with a pattern replaced, except inside quotation marks, which hold the user's own words."""
    return re.sub(rf"({QUOTED})|{pattern}", lambda found: found[1] or replacement, text)
