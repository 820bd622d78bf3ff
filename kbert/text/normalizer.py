"""The reference's text clean-up as one table for tensorflow-text's `FastBertNormalizer` op.

The reference (the `tokenizers` package's BERT pipeline) treats each code point by itself. It deletes the code point, makes it a
space, puts spaces around it, or replaces it by its decomposition without accents, in lower case. So the whole clean-up fits
into one map from a code point to a string, and TensorFlow, TF Serving and LiteRT all have the op that applies such a map.

The properties of the code points come from `bert_characters.json.gz`, which `derive_tables.py` writes. They do not change with
the Unicode version of the user's Python.
"""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf

_CHARACTERS = pathlib.Path(__file__).with_name("bert_characters.json.gz")
_ABSENT = -1  # the value of a code point that the trie does not hold; the op leaves it alone
_MAPPED = 0x40000000  # the bit of a value that points to a replacement


@functools.lru_cache(maxsize=1)
def reference_characters() -> dict[str, Any]:
    """Returns the reference's properties of characters: a dictionary of ranges and maps, which `derive_tables.derive` made."""
    return json.loads(gzip.decompress(_CHARACTERS.read_bytes()))


def tensorflow_text() -> ModuleType:
    """Imports tensorflow-text. If that fails, the ImportError says which release to install."""
    try:
        import tensorflow_text
    except ImportError as error:
        minor = ".".join(tf.__version__.split(".")[:2])
        raise ImportError(
            f"kbert needs tensorflow-text to read text, and it cannot be imported ({error}). Install the release that "
            f'belongs to TensorFlow {tf.__version__}: pip install "tensorflow-text=={minor}.*,!=2.21.0". There are wheels '
            "for Linux and for macOS on arm64; on Windows, use WSL."
        ) from None
    return tensorflow_text


def make_normalizer(model: bytes) -> Any:
    """Returns a `FastBertNormalizer` for the bytes of a table, which are one constant in every graph that is exported."""
    with tf.init_scope():
        return tensorflow_text().FastBertNormalizer(model_buffer=tf.constant(np.frombuffer(model, np.uint8)))


def _members(table: dict[str, Any], name: str) -> np.ndarray:
    """Returns whether each code point is in a set of the table, bool `[0x110000]`."""
    inside: np.ndarray = np.zeros(0x110000, bool)
    for first, last in table[name]:
        inside[first : last + 1] = True
    return inside


@functools.lru_cache(maxsize=2)
def words_of_one_character(tokenize_chinese_chars: bool = True) -> np.ndarray:
    """Returns which characters are words of their own wherever they stand: punctuation and CJK ideographs.

    >>> always_words = words_of_one_character()
    >>> [bool(always_words[ord(character)]) for character in "!a\u4e2d"]
    [True, False, True]

    Args:
      tokenize_chinese_chars: whether ideographs are among them.

    Returns:
      bool `[0x110000]`, one for each code point.
    """
    table = reference_characters()
    punctuation = _members(table, "punctuation")
    return punctuation | _members(table, "cjk") if tokenize_chinese_chars else punctuation


@functools.lru_cache(maxsize=8)
def normalizer_model(
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    isolated: str = "",
    alphabet: frozenset[str] | None = None,
    clean_text: bool = True,
) -> bytes:
    """Returns the normalizer table for `tft.FastBertNormalizer(model_buffer=...)`, as bytes.

    >>> len(normalizer_model(lowercase=True)), len(normalizer_model(lowercase=True, alphabet=frozenset("abc")))
    (1316240, 66660)

    Args:
      lowercase: whether text is lower-cased.
      strip_accents: whether text is decomposed (NFD) and nonspacing marks are dropped. None does so if `lowercase` is true, as
        the reference does.
      tokenize_chinese_chars: whether spaces are put around CJK ideographs.
      isolated: characters that become words of their own, whatever the reference does with them.
      alphabet: the characters of a vocabulary's tokens, or None to map every character. A word with any character outside the
        alphabet is [UNK], so that one such character can stand for all of them. The table is then a tenth as large if most
        ideographs are outside.
      clean_text: whether control characters, U+0000 and U+FFFD are deleted.

    Returns:
      A flatbuffer `FastBertNormalizerModel`. Making one takes about 0.1 s, and the last 8 are cached.
    """
    table = reference_characters()
    strip_accents = lowercase if strip_accents is None else strip_accents
    decompose = table["without_accents"] if strip_accents else {}
    lower = table["lowercase"] if lowercase else {}
    none: np.ndarray = np.zeros(0x110000, bool)
    deleted, space = (_members(table, name) if clean_text else none for name in ("deleted", "space"))
    cjk = _members(table, "cjk") if tokenize_chinese_chars else none
    punctuation, gap = _members(table, "punctuation"), _members(table, "gap")

    unknown = None if alphabet is None else next(c for c in map(chr, range(0xA000, 0xD800)) if c not in alphabet)

    def is_unknown(characters: str) -> bool:
        return alphabet is not None and any(c not in alphabet for c in characters)

    def replacement(code_point: int) -> str:
        character = chr(code_point)
        # The reference's order: Chinese characters before the decomposition, punctuation after it and after lower case.
        characters = "".join(lower.get(c, c) for c in decompose.get(character, character))
        if unknown and is_unknown(characters) and not any(punctuation[ord(c)] or gap[ord(c)] for c in characters):
            characters = unknown
        spaced = "".join(f" {c} " if punctuation[ord(c)] else " " if gap[ord(c)] else c for c in characters)
        return re.sub(" +", " ", f" {spaced} " if cjk[code_point] else spaced)

    pool = _StringPool()
    values: np.ndarray = np.full(0x110000, _ABSENT, np.int64)
    changed = {ord(c) for c in decompose} | {ord(c) for c in lower}
    for code_point in np.flatnonzero(cjk | punctuation | gap).tolist():
        if code_point in changed:
            continue
        if gap[code_point]:
            values[code_point] = pool.add(" ")
        else:
            values[code_point] = pool.add(f" {unknown} ") if is_unknown(chr(code_point)) else pool.spaced(chr(code_point))
    for code_point in changed:
        values[code_point] = pool.add(replacement(code_point))
    values[space] = pool.add(" ")
    values[deleted] = pool.add("")
    if unknown and not clean_text:  # the op that cuts words into pieces crashes at U+0000, which no token has
        values[0] = pool.add(unknown)
    for character in isolated:
        values[ord(character)] = pool.add(f" {character} ")
    return _flatbuffer(values, pool.bytes())


@functools.lru_cache(maxsize=1)
def character_model() -> bytes:
    """Returns a normalizer table that turns every character into one byte, so that a normalized text has a byte a character.

    The offsets that the op returns with this table map characters to bytes. The table takes 4 kB. Unlike `tf.strings.length`
    and `tf.strings.unicode_decode`, the op runs in LiteRT.
    """
    pool = _StringPool()
    values: np.ndarray = np.full(0x110000, _ABSENT, np.int64)
    values[0x80:] = pool.add("x")
    return _flatbuffer(values, pool.bytes(), zero=pool.add("x"))


def isolating_model(characters: Sequence[str]) -> bytes:
    """Returns a normalizer table that puts spaces around some characters, deletes U+0001, and leaves all others alone.

    Args:
      characters: those that become words of their own.
    """
    pool = _StringPool()
    values: np.ndarray = np.full(0x110000, _ABSENT, np.int64)
    values[1] = pool.add("")
    for character in characters:
        values[ord(character)] = pool.add(f" {character} ")
    return _flatbuffer(values, pool.bytes())


class _StringPool:
    """All replacement strings, one after the other. A value of the table is the place and the length of one."""

    def __init__(self) -> None:
        self._bytes = bytearray(b" ")
        self._values = {" ": _MAPPED | 1}

    def add(self, text: str) -> int:
        """Returns the value of a replacement, which is added to the pool if it is new."""
        if text not in self._values:
            encoded = text.encode("utf-8")
            if len(encoded) > 63:
                raise ValueError(f"a replacement of {len(encoded)} bytes does not fit the table (at most 63): {text!r}")
            self._values[text] = _MAPPED | len(self._bytes) << 6 | len(encoded)
            self._bytes += encoded + b" "
        return self._values[text]

    def spaced(self, character: str) -> int:
        """Adds a character between two spaces and returns its value. Neighbours in the pool share a space, which saves a
        fifth."""
        encoded = character.encode("utf-8") + b" "
        self._bytes += encoded
        return _MAPPED | (len(self._bytes) - len(encoded) - 1) << 6 | len(encoded) + 1

    def bytes(self) -> bytes:
        """Returns the whole pool."""
        return bytes(self._bytes)


def _flatbuffer(values: np.ndarray, pool: bytes, zero: int | None = None) -> bytes:
    """Serializes a table in the op's layout, which tensorflow-text's `fast_bert_normalizer_model.fbs` defines.

    Args:
      values: the value of each code point, int64 `[0x110000]`.
      pool: the replacement strings that the values point into.
      zero: the value of U+0000 if it is not `values[0]`.

    Returns:
      The bytes of a `FastBertNormalizerModel`.
    """
    builder = flatbuffers.Builder(1 << 21)
    pool_at = builder.CreateNumpyVector(np.frombuffer(pool, np.uint8))
    trie_at = builder.CreateNumpyVector(_double_array(values))
    builder.StartObject(4)
    builder.PrependBoolSlot(0, True, False)
    builder.PrependUOffsetTRelativeSlot(1, trie_at, 0)
    # U+0000 has no bytes for the trie to walk, so it has a field of its own.
    builder.PrependInt32Slot(2, int(values[0]) if zero is None else zero, -1)
    builder.PrependUOffsetTRelativeSlot(3, pool_at, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _double_array(values: np.ndarray) -> np.ndarray:
    """Lays out a darts-clone double array over the UTF-8 bytes of every code point whose value is not `_ABSENT`.

    The op walks the units as S. Yata's darts-clone library does.

    A unit is `label | has_leaf << 8 | offset << 10`; the child of unit `i` for byte `b` is unit `i ^ offset ^ b`, which must
    carry label `b`. The leaf of a unit is at `i ^ offset` and is `0x80000000 | value`. Every byte after the first is one of
    64 continuation bytes, so the children of a node take 64 units. Nodes with equal children share them: the private planes,
    all of which are deleted, take one block in place of two thousand.

    Args:
      values: the value of each code point, int64 `[0x110000]`.

    Returns:
      The units, uint32, a multiple of 256.
    """
    leaf_values, leaf_of = np.unique(values, return_inverse=True)
    leaf_of = np.where(values == _ABSENT, -1, leaf_of.reshape(-1))
    blocks: dict[tuple[str, bytes], int] = {}  # content -> number; a block's content is 64 leaves, or 64 numbers of blocks

    def block(kind: str, content: np.ndarray) -> int:
        if (content < 0).all():
            return -1
        return blocks.setdefault((kind, content.tobytes()), len(blocks))

    by_last = np.array([block("leaves", row) for row in leaf_of.reshape(-1, 64)])  # one for each code point >> 6
    # A code point has one encoding, the shortest: below 0x800 there is no third byte, below 0x10000 no fourth.
    longer = np.where(np.arange(by_last.size) < 0x800 >> 6, -1, by_last)
    by_third = np.array([block("blocks", row) for row in longer.reshape(-1, 64)])  # >> 12
    longest = np.pad(np.where(np.arange(by_third.size) < 0x10000 >> 12, -1, by_third), (0, 48), constant_values=-1)
    by_second = np.array([block("blocks", row) for row in longest.reshape(-1, 64)])  # >> 18

    first_block, first_leaf = 512, 512 + 64 * len(blocks)
    size = first_leaf + len(leaf_values)
    units: np.ndarray = np.zeros(-(-size // 256) * 256, np.int64)  # look-ups are not bounds-checked

    def fill(position: np.ndarray, label: np.ndarray, content: np.ndarray, leaves: bool) -> None:
        """Writes a unit for each entry of `content` that is not -1: a leaf, or the number of a block."""
        present = content >= 0
        position, label, content = position[present], label[present], content[present]
        target = first_leaf + content if leaves else (first_block + 64 * content) ^ 0x80
        units[position] = label | (0x100 if leaves else 0) | (position ^ target) << 10

    root, continuation = 256, np.arange(64)
    units[0] = root << 10
    ascii_codes = np.arange(1, 128)
    fill(root ^ ascii_codes, ascii_codes, leaf_of[1:128], leaves=True)
    for lead, children in ((0xC0, by_last[:32]), (0xE0, by_third[:16]), (0xF0, by_second)):
        # 0xC0 and 0xC1 would begin a second encoding of ASCII.
        labels = np.arange(lead + 2 if lead == 0xC0 else lead, lead + len(children))
        fill(root ^ labels, labels, children[labels - lead], leaves=False)
    for (kind, content), number in blocks.items():
        entries = np.frombuffer(content, leaf_of.dtype)
        fill(first_block + 64 * number + continuation, 0x80 | continuation, entries, leaves=kind == "leaves")
    units[first_leaf:size] = 0x80000000 | np.where(leaf_values == _ABSENT, 0, leaf_values)
    return units.astype(np.uint32)
