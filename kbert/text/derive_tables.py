"""Writes `bert_characters.json.gz`, a table of what the reference does to each Unicode code point.

    python -m kbert.text.derive_tables

The reference is the `tokenizers` package's BERT pipeline. Each of its steps is run, alone, on every Unicode scalar value. So
the table does not depend on this Python's `unicodedata`: with Python 3.11's version of Unicode, 503 code points would differ
from the reference. `normalizer.py` composes the steps again for any choice of options.
"""

from __future__ import annotations

import gzip
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

TARGET = pathlib.Path(__file__).with_name("bert_characters.json.gz")

# The versions of Unicode that the reference's steps follow, found by probing characters that each version added. The versions
# differ because the categories come from one Rust crate, the decompositions from another and the lower case from Rust itself.
UNICODE = {"categories": "8.0", "decompositions": "before 13.0", "lower case": "17.0"}


def scalar_values() -> Iterator[str]:
    """Yields every Unicode scalar value as a one-character string: 1,112,064 of them."""
    for code_point in range(0x110000):
        if not 0xD800 <= code_point <= 0xDFFF:
            yield chr(code_point)


def ranges(code_points: Iterable[int]) -> list[list[int]]:
    """Folds sorted code points into inclusive `[first, last]` pairs."""
    folded: list[list[int]] = []
    for code_point in code_points:
        if folded and folded[-1][1] == code_point - 1:
            folded[-1][1] = code_point
        else:
            folded.append([code_point, code_point])
    return folded


def derive() -> dict[str, Any]:
    """Runs every step of the reference on every code point and returns the tables as one dictionary."""
    import tokenizers
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    clean = BertNormalizer(**{**off, "clean_text": True})
    chinese = BertNormalizer(**{**off, "handle_chinese_chars": True})
    accents = BertNormalizer(**{**off, "strip_accents": True})
    lower = BertNormalizer(**{**off, "lowercase": True})
    split = BertPreTokenizer()

    deleted, space, cjk, punctuation, gap = [], [], [], [], []
    stripped, lowered = {}, {}
    for character in scalar_values():
        code_point = ord(character)
        cleaned = clean.normalize_str(character)
        if cleaned == "":
            deleted.append(code_point)
        elif cleaned == " " != character:
            space.append(code_point)
        if chinese.normalize_str(character) != character:
            cjk.append(code_point)
        if (changed := accents.normalize_str(character)) != character:
            stripped[character] = changed
        if (changed := lower.normalize_str(character)) != character:
            lowered[character] = changed
        pieces = [piece for piece, _ in split.pre_tokenize_str(f"a{character}b")]
        if len(pieces) == 3:
            punctuation.append(code_point)
        elif len(pieces) == 2:
            gap.append(code_point)
    return {
        "source": f"tokenizers {tokenizers.__version__}, BertNormalizer and BertPreTokenizer",
        "unicode": UNICODE,
        "deleted": ranges(deleted),
        "space": ranges(space),
        "cjk": ranges(cjk),
        "punctuation": ranges(punctuation),
        "gap": ranges(gap),
        "without_accents": stripped,
        "lowercase": lowered,
    }


def main() -> None:
    """Writes the table beside this module and prints its size."""
    text = json.dumps(derive(), ensure_ascii=True, separators=(",", ":"))
    # mtime=0: the same tables give the same bytes.
    TARGET.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
