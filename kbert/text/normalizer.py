"""The reference's text clean-up as one table for tensorflow-text's `FastBertNormalizer` op.

The reference (the `tokenizers` package's BERT pipeline) treats each code point by itself: delete it, make it a space, put
spaces around it, or replace it by its decomposition without accents, in lower case. So all of it fits into one map from a code
point to a string, and the op that applies such a map exists in TensorFlow, in TF Serving and in LiteRT alike.

The properties of the code points come from `bert_characters.json.gz` (written by `derive_tables.py`), so that they do not change
with the Unicode version of the user's Python.
"""

import functools
import gzip
import json
import pathlib
import re

import flatbuffers
import numpy as np
import tensorflow as tf

_CHARACTERS = pathlib.Path(__file__).with_name("bert_characters.json.gz")
_ABSENT = -1  # the op leaves a code point alone that the trie does not hold
_MAPPED = 0x40000000


@functools.lru_cache(maxsize=1)
def reference_characters():
    """The reference's properties of characters: a dictionary of ranges and maps, see `derive_tables.derive`."""
    return json.loads(gzip.decompress(_CHARACTERS.read_bytes()))


def tensorflow_text():
    """Imports tensorflow-text, or says what to install."""
    try:
        import tensorflow_text
    except ImportError as error:
        minor = ".".join(tf.__version__.split(".")[:2])
        raise ImportError(
            f"kbert needs tensorflow-text to read text, and it cannot be imported ({error}). Install the release that "
            f'belongs to TensorFlow {tf.__version__}: pip install "tensorflow-text=={minor}.*,!=2.21.0". There are wheels '
            "for Linux and for macOS on arm64; on Windows, use WSL."
        ) from error
    return tensorflow_text


def make_normalizer(model):
    """The op for a table, whose bytes become one constant wherever it is exported."""
    with tf.init_scope():
        return tensorflow_text().FastBertNormalizer(model_buffer=tf.constant(np.frombuffer(model, np.uint8)))


def _members(table, name):
    inside = np.zeros(0x110000, bool)
    for first, last in table[name]:
        inside[first : last + 1] = True
    return inside


@functools.lru_cache(maxsize=8)
def normalizer_model(lowercase=True, strip_accents=None, tokenize_chinese_chars=True, isolated="", alphabet=None):
    """The normalizer table for `tft.FastBertNormalizer(model_buffer=...)`, as bytes.

    >>> len(normalizer_model(lowercase=True)), len(normalizer_model(lowercase=True, alphabet=frozenset("abc")))
    (1316240, 66660)

    Args:
      lowercase: lower-case the text.
      strip_accents: decompose (NFD) and drop nonspacing marks; `None` does so when `lowercase` is true, as the
        reference does.
      tokenize_chinese_chars: put spaces around CJK ideographs.
      isolated: characters to make words of their own in place of what the reference does with them.
      alphabet: a frozenset of the characters of a vocabulary's tokens. A word with any other character is [UNK], whichever it is: one
        stands for all of those, which takes a tenth of the bytes where most ideographs are among them.

    Returns:
      A flatbuffer `FastBertNormalizerModel`, made in about 0.1 s and kept.
    """
    table = reference_characters()
    strip_accents = lowercase if strip_accents is None else strip_accents
    decompose = table["without_accents"] if strip_accents else {}
    lower = table["lowercase"] if lowercase else {}
    deleted, space = _members(table, "deleted"), _members(table, "space")
    cjk = _members(table, "cjk") if tokenize_chinese_chars else np.zeros(0x110000, bool)
    punctuation, gap = _members(table, "punctuation"), _members(table, "gap")

    unknown = None if alphabet is None else next(c for c in map(chr, range(0xA000, 0xD800)) if c not in alphabet)

    def is_unknown(characters):
        return alphabet is not None and any(c not in alphabet for c in characters)

    def replacement(code_point):
        character = chr(code_point)
        # The reference's order: Chinese characters before the decomposition, punctuation after it and after lower case.
        characters = "".join(lower.get(c, c) for c in decompose.get(character, character))
        if is_unknown(characters) and not any(punctuation[ord(c)] or gap[ord(c)] for c in characters):
            characters = unknown
        spaced = "".join(f" {c} " if punctuation[ord(c)] else " " if gap[ord(c)] else c for c in characters)
        return re.sub(" +", " ", f" {spaced} " if cjk[code_point] else spaced)

    pool = _StringPool()
    values = np.full(0x110000, _ABSENT, np.int64)
    changed = {ord(c) for c in decompose} | {ord(c) for c in lower}
    for code_point in np.flatnonzero(cjk | punctuation | gap):
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
    for character in isolated:
        values[ord(character)] = pool.add(f" {character} ")
    return _flatbuffer(values, pool.bytes())


@functools.lru_cache(maxsize=1)
def character_model():
    """A table that turns every character of more than one byte into one byte: what is left counts characters.

    The offsets that the op returns with it map characters to bytes. It takes 4 kB, and unlike `tf.strings.length` and
    `tf.strings.unicode_decode` it runs in LiteRT.
    """
    pool = _StringPool()
    values = np.full(0x110000, _ABSENT, np.int64)
    values[0x80:] = pool.add("x")
    return _flatbuffer(values, pool.bytes(), zero=pool.add("x"))


class _StringPool:
    """The replacement strings, one after the other; a value points into it."""

    def __init__(self):
        self._bytes = bytearray(b" ")
        self._values = {" ": _MAPPED | 1}

    def add(self, text):
        if text not in self._values:
            encoded = text.encode("utf-8")
            if len(encoded) > 63:
                raise ValueError(f"a replacement of {len(encoded)} bytes does not fit the table (at most 63): {text!r}")
            self._values[text] = _MAPPED | len(self._bytes) << 6 | len(encoded)
            self._bytes += encoded + b" "
        return self._values[text]

    def spaced(self, character):
        """The character between two spaces. Neighbours in the pool share a space, which saves a fifth."""
        encoded = character.encode("utf-8") + b" "
        self._bytes += encoded
        return _MAPPED | (len(self._bytes) - len(encoded) - 1) << 6 | len(encoded) + 1

    def bytes(self):
        return bytes(self._bytes)


def _flatbuffer(values, pool, zero=None):
    """Serializes the table in the op's layout: tensorflow-text's `fast_bert_normalizer_model.fbs` (FACTS T4)."""
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


def _double_array(values):
    """Lays out a darts-clone double array over the UTF-8 bytes of every code point whose value is not `_ABSENT`.

    A unit is `label | has_leaf << 8 | offset << 10`; the child of unit `i` for byte `b` is unit `i ^ offset ^ b`, which must
    carry label `b`; the leaf of a unit is at `i ^ offset` and is `0x80000000 | value`. Every byte after the first is one of
    64 continuation bytes, so the children of a node take 64 units, and nodes with equal children share them: the private
    planes, all deleted, take one block in place of two thousand.
    """
    leaf_values, leaf_of = np.unique(values, return_inverse=True)
    leaf_of = np.where(values == _ABSENT, -1, leaf_of.reshape(-1))
    blocks = {}  # content -> number; a block's content is 64 leaves, or 64 numbers of blocks

    def block(kind, content):
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
    units = np.zeros(-(-size // 256) * 256, np.int64)  # look-ups are not bounds-checked

    def fill(position, label, content, leaves):
        """Writes units for the entries of `content` that are there."""
        there = content >= 0
        position, label, content = position[there], label[there], content[there]
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
        content = np.frombuffer(content, leaf_of.dtype)
        fill(first_block + 64 * number + continuation, 0x80 | continuation, content, leaves=kind == "leaves")
    units[first_leaf:size] = 0x80000000 | np.where(leaf_values == _ABSENT, 0, leaf_values)
    return units.astype(np.uint32)
