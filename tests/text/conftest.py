"""Tokenizers with vocabularies that show differences: an [UNK] hides what became of its characters."""

import pytest

import kbert
from kbert.files.vocabulary import read_vocabulary


@pytest.fixture(scope="session")
def uncased(minilm):
    return kbert.WordPieceTokenizer(minilm / "vocab.txt")


@pytest.fixture(scope="session")
def rich_vocabulary(minilm):
    """The published vocabulary and every character of the first planes' scripts, alone and as a suffix."""
    tokens = dict.fromkeys(read_vocabulary(minilm / "vocab.txt"))
    for code_point in [*range(0x21, 0x3000), *range(0xFB00, 0xFF00)]:
        tokens.update(dict.fromkeys([chr(code_point), f"##{chr(code_point)}"]))
    return list(tokens)


@pytest.fixture(scope="session")
def cased(rich_vocabulary):
    return kbert.WordPieceTokenizer(rich_vocabulary, lowercase=False)


@pytest.fixture(scope="session")
def rich_uncased(rich_vocabulary):
    return kbert.WordPieceTokenizer(rich_vocabulary, lowercase=True)
