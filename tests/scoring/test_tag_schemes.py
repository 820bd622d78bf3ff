"""Tags of every scheme that marks entities say the same entities, in Python, in the graph and as targets."""

import numpy as np
import pytest
import tensorflow as tf

from kbert.scoring.entities import entities, entity_scores
from kbert.scoring.figures import figures_of_entities
from kbert.scoring.tag_schemes import are_tags, check_tags, read_tags, tags_of_entity
from kbert.tasks.entity_decoder import entities_of_words, entity_types

# A sentence with entities of three words, one word and two words; "a" and "b" are types.
WRITTEN = {
    "BIO": "B-a I-a I-a O B-b B-b I-b",
    "IOB1": "I-a I-a I-a O I-b B-b I-b",
    "BIOES": "B-a I-a E-a O S-b B-b E-b",
    "BILOU": "B-a I-a L-a O U-b B-b L-b",
    "BMES": "B-a M-a E-a O S-b B-b E-b",
    "BMEWO": "B-a M-a E-a O W-b B-b E-b",
    "IOE1": "I-a I-a I-a O E-b I-b I-b",
    "underscores": "B_a I_a I_a O B_b B_b I_b",
    "lower case": "b-a i-a i-a o b-b b-b i-b",
    "letters behind": "a-B a-I a-I O b-B b-B b-I",
    "special labels": "B-a I-a I-a [SEP] B-b B-b I-b",
    "later pieces": "B-a I-a I-a X B-b B-b I-b",
}
EXPECTED = [("a", 0, 3), ("b", 4, 5), ("b", 5, 7)]
OTHERS = {
    "no type": ("B I I O B B I", [("entity", 0, 3), ("entity", 4, 5), ("entity", 5, 7)]),
    "no type, ends": ("B I L O U B L", [("entity", 0, 3), ("entity", 4, 5), ("entity", 5, 7)]),
    "no letter": ("a a a O b b b", [("a", 0, 3), ("b", 4, 7)]),
    "no letter, a dash": ("E-mail E-mail E-mail O web web web", [("E-mail", 0, 3), ("web", 4, 7)]),
    "a dash in the type": ("B-geo-loc I-geo-loc O", [("geo-loc", 0, 2)]),
}
ALL = {**{name: (text, EXPECTED) for name, text in WRITTEN.items()}, **OTHERS}


@pytest.mark.parametrize(("text", "expected"), ALL.values(), ids=ALL)
def test_a_sentence_in_each_scheme_has_its_entities_in_python_and_in_the_graph(text, expected):
    tags = text.split()
    assert entities(tags) == expected
    assert entity_scores([tags], [tags], strict=text == WRITTEN["BIO"])["f1"] == 1
    labels = sorted(set(tags) | {"O"})
    check_tags(labels)
    best = np.eye(len(labels), dtype=np.float32)[[labels.index(tag) for tag in tags]]
    decoded = entities_of_words(labels, tf.zeros([len(tags)], tf.int32), tf.constant(best))
    types = entity_types(labels)
    answer = zip(decoded.kind.numpy(), decoded.first.numpy(), decoded.last.numpy())
    assert [(types[kind], first, last + 1) for kind, first, last in answer] == expected


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BILOU", "BMES", "underscores", "lower case", "letters behind"])
def test_an_entity_is_written_in_the_scheme_of_the_labels(scheme):
    tags = WRITTEN[scheme].split()
    read = read_tags(["O", *tags])
    assert tags_of_entity(read, "a", 3) == tags[:3]
    assert tags_of_entity(read, "b", 1) == tags[4:5] and tags_of_entity(read, "b", 2) == tags[5:]


def test_labels_that_are_no_tags_are_refused_with_the_reason():
    assert not are_tags(["NOUN", "VERB"]) and not are_tags(["LABEL_0", "LABEL_1"])
    with pytest.raises(ValueError, match="'NOUN' is not a BIO.*nor a type beside O.*predict"):
        check_tags(["NOUN", "VERB"])
    with pytest.raises(ValueError, match="'MISC' is not a tag of the scheme of 'B-PER'"):
        check_tags(["O", "B-PER", "MISC"])


def test_the_labels_say_the_scheme_of_few_tags():
    tags, labels = ["o", "i-x"], ["o", "b-x", "i-x"]
    figures = figures_of_entities(
        [["a", "b"]], [tags], [[{"label": "x", "text": "b", "start": 2, "end": 3, "score": 1}]], labels
    )
    assert figures.scores == {"precision": 1, "recall": 1, "f1": 1}


def test_strict_scores_of_types_without_letters_are_their_scores():
    assert entity_scores([["a", "a", "O"]], [["a", "a", "O"]], strict=True)["f1"] == 1
    assert entity_scores([["B-a", "I-a"]], [["I-a", "I-a"]], strict=True)["f1"] == 0
