"""Entities and their scores equal seqeval's."""

import random
import warnings

import pytest

from kbert.scoring.entities import entities, entity_scores, scores_of_entities


def cases(prefixes, count, seed):
    draw = random.Random(seed)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("city", "food"))]
    for _ in range(count):
        length = draw.randint(1, 9)
        yield tuple([draw.choice(tags) for _ in range(length)] for _ in range(2))


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_default_scores_equal_seqevals_on_random_tags(prefixes):
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for true, predicted in cases(prefixes, 1000, seed=1):
            assert [(kind, start, end - 1) for kind, start, end in entities(true)] == get_entities(true)
            ours = entity_scores([true], [predicted])
            for name, theirs in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
                assert ours[name] == pytest.approx(theirs([true], [predicted]), abs=1e-12)


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_strict_scores_equal_seqevals_on_random_tags(prefixes):
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2, IOBES

    scheme = IOB2 if prefixes == "BI" else IOBES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for true, predicted in cases(prefixes, 1000, seed=2):
            if prefixes == "BIES" and not all(any(tag[0] in "ES" for tag in tags) for tags in (true, predicted)):
                continue  # which scheme it is shows in the tags alone
            theirs = f1_score([true], [predicted], mode="strict", scheme=scheme)
            assert entity_scores([true], [predicted], strict=True)["f1"] == pytest.approx(theirs, abs=1e-12), (true, predicted)


def test_weights_count_texts_several_times():
    expected, answered = [{("x", 0, 1)}, {("x", 0, 2), ("y", 3, 4)}], [{("x", 0, 1)}, {("x", 0, 1)}]
    repeated = [[column[0]] * 2 + [column[1]] * 3 for column in (expected, answered)]
    assert scores_of_entities(expected, answered, [2, 3]) == scores_of_entities(*repeated)


def test_scores_by_type_and_of_nothing():
    scores = entity_scores([["B-a", "O", "B-b"]], [["B-a", "O", "O"]])
    assert scores["by_type"]["a"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    assert scores["by_type"]["b"]["f1"] == 0 and scores["precision"] == 1 and scores["recall"] == 0.5
    assert entity_scores([["O"]], [["O"]])["f1"] == 0
    with pytest.raises(ValueError, match="2 tags has 1"):
        entity_scores([["O", "O"]], [["O"]])
