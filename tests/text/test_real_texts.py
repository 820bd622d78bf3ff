"""Ids and offsets equal the reference's on real texts of nine languages."""

import pytest

from tests.text.reference import REAL_TEXTS, differing, differing_offsets, read_texts, reference


@pytest.mark.parametrize("name", REAL_TEXTS)
@pytest.mark.parametrize("case", ["uncased", "cased"])
def test_ids_and_offsets_equal_the_reference(name, case, request):
    tokenizer = request.getfixturevalue(case)
    texts = read_texts(name, None if name == "bbc" else request.getfixturevalue("shared_data"))
    assert len(texts) > 900
    theirs = reference(tokenizer)
    assert differing(tokenizer, theirs, texts) == []
    assert differing_offsets(tokenizer, theirs, texts) == []
