"""Ids equal the reference's on every Unicode code point."""

import itertools

import pytest
import tensorflow as tf
from tokenizers import normalizers, pre_tokenizers

from kbert.text.derive_tables import derive, scalar_values
from kbert.text.normalizer import make_normalizer, normalizer_model, reference_characters, tensorflow_text
from tests.text.reference import differing, reference

CHARACTERS = list(scalar_values())
TEMPLATES = ["X", "aXb", "XX", "eX\u0301a"]


def test_all_scalar_values_are_swept():
    assert len(CHARACTERS) == 1_112_064


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("case", ["uncased", "rich_uncased", "cased"])
def test_ids_equal_the_reference_on_every_code_point(case, template, request):
    tokenizer = request.getfixturevalue(case)
    texts = [template.replace("X", character) for character in CHARACTERS]
    if template != "X":  # one text for each character is swept above; words, which do not know each other, take less time
        texts = [" ".join(texts[start : start + 16]) for start in range(0, len(texts), 16)]
    assert differing(tokenizer, reference(tokenizer), texts) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "chinese"), list(itertools.product([True, False], [None, True, False], [True, False]))
)
def test_words_equal_the_reference_for_every_option(lowercase, strip_accents, chinese):
    """Words are compared as strings, so that no vocabulary can hide a difference."""
    normalizer = make_normalizer(normalizer_model(lowercase, strip_accents, chinese))
    splitter = tensorflow_text().WhitespaceTokenizer()
    theirs = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    split = pre_tokenizers.BertPreTokenizer()
    # What none of the steps touches stays as it is; all code points are swept with the default options above.
    texts = [f"a{character}b" for character in CHARACTERS if ord(character) < 0x3400 or 0xA000 <= ord(character) < 0x20000]
    ours = splitter.tokenize(normalizer.normalize(tf.constant([text.encode() for text in texts]))).to_list()
    wrong = [
        text
        for text, words in zip(texts, ours)
        if words != [word.encode() for word, _ in split.pre_tokenize_str(theirs.normalize_str(text))]
    ]
    assert wrong == []


@pytest.mark.slow
def test_shipped_tables_are_what_the_reference_says_now():
    derived = derive()
    shipped = reference_characters()
    assert {name: value for name, value in derived.items() if name != "source"} == {
        name: value for name, value in shipped.items() if name != "source"
    }
    assert shipped["unicode"]["categories"] == "8.0"


def test_unicode_versions_are_the_stated_ones():
    table = reference_characters()
    inside = lambda name, code_point: any(a <= code_point <= b for a, b in table[name])  # noqa: E731
    assert inside("deleted", 0x2066) and not inside("deleted", 0x8E2)  # Cf of Unicode 6.3, of 9.0
    assert table["lowercase"]["\ua7ce"] == "\ua7cf"  # a pair of Unicode 17.0
    assert "\U00011938" not in table["without_accents"]  # decomposes since Unicode 13.0


def test_tables_are_small_and_quickly_made():
    import time
    from pathlib import Path

    import kbert.text.normalizer as module

    assert Path(module.__file__).with_name("bert_characters.json.gz").stat().st_size < 1_000_000
    reference_characters()
    started = time.perf_counter()
    model = normalizer_model.__wrapped__(True, None, True)
    assert time.perf_counter() - started < 1
    assert len(model) < 1_500_000
    started = time.perf_counter()
    smaller = normalizer_model.__wrapped__(True, None, True, alphabet=frozenset("abcdefghijklmnopqrstuvwxyz中国"))
    assert time.perf_counter() - started < 2
    assert len(smaller) < 80_000


def test_tables_do_not_depend_on_pythons_unicode(monkeypatch):
    import unicodedata

    def refuse(*_):
        raise AssertionError("unicodedata was asked")

    expected = normalizer_model(True, None, True)
    with monkeypatch.context() as hidden:  # pytest itself needs it again
        for name in ("normalize", "category", "combining"):
            hidden.setattr(unicodedata, name, refuse)
        assert normalizer_model.__wrapped__(True, None, True) == expected
