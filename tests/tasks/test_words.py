"""What words are trained on, whatever they are made of, is what the same sentence is read as where it is a text."""

import random

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.scoring.tag_schemes import later_labels
from kbert.tasks.entity_decoder import entities_of_pieces, entities_of_words, entity_answers, texts_between
from kbert.tasks.words import labels_of_given_words, labels_of_pieces, read_words
from tests.conftest import VOCABULARY

LETTERS = [f"{mark}{letter}" for letter in "bcu10tw" for mark in ("", "##")]
TOKENIZER = kbert.WordPieceTokenizer(list(dict.fromkeys([*VOCABULARY, *LETTERS, "-", "/", "wo", "##wo"])))
WORDS = ["the", "cat", "U.S.", "two-week", "1,000", "unable", "cats", "b.c.", "a/b", ".", "un able", "it's", "x", "你好", "'"]
SCHEMES = {
    "BIO": "BI", "IOB1": "IB", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "without letters": "",
}  # fmt: skip


def labels_of(letters):
    return ["O", *([f"{letter}-{kind}" for letter in letters for kind in "xy"] if letters else "xy")]


def answers_of(labels, read, entities, starts, ends):
    (answer,) = entity_answers(labels, read.texts, entities, starts, ends)
    return [(entity["label"], entity["text"], entity["start"], entity["end"]) for entity in answer]


@pytest.mark.parametrize("all_pieces", [False, True])
@pytest.mark.parametrize("letters", SCHEMES.values(), ids=SCHEMES)
def test_a_model_that_learned_given_words_reads_the_same_entities_in_the_text(letters, all_pieces):
    labels, draw = labels_of(letters), random.Random(1)
    for _ in range(40):
        # What ends an entity goes on within a word; where a given word has a space inside, its text does not show the word.
        words = draw.choices(
            [word for word in WORDS if " " not in word or not set(letters) & set("ESLU")], k=draw.randint(1, 7)
        )
        tags = draw.choices(labels, k=len(words))
        read = read_words([words], TOKENIZER)
        of_word = tf.constant(labels_of_given_words(labels, read, 0, tags), tf.int32)
        best = tf.one_hot(of_word, len(labels))
        found = entities_of_words(labels, tf.zeros_like(of_word), best)
        expected = answers_of(labels, read, found, tf.gather(read.starts, found.first), tf.gather(read.ends, found.last))

        targets = labels_of_pieces(labels, read, of_word, TOKENIZER, all_pieces).numpy()
        anything = np.array([draw.randrange(len(labels)) for _ in targets])  # where nothing was learned
        logits = tf.one_hot(np.where(targets < 0, anything, targets), len(labels)) * 9
        ids, starts, ends = TOKENIZER.tokenize_with_offsets([" ".join(words)])
        assert ids.to_list() == read.ids.to_list()
        found = entities_of_pieces(
            labels, TOKENIZER.vocabulary, ids.values, ids.value_rowids(), logits, starts.values, ends.values
        )
        given = answers_of(labels, read, found, tf.gather(starts.values, found.first), tf.gather(ends.values, found.last))
        assert given == expected, (words, tags)


@pytest.mark.parametrize(
    ("labels", "later"),
    [
        (["O", "B-x", "I-x"], [0, 2, 2]),
        (["O", "B-x", "B-y", "I-y"], [0, 1, 3, 3]),  # an x has one word
        (["O", "B-x", "I-x", "E-x", "S-x"], [0, 2, 2, 3, 2]),
        (["O", "B-x", "I-x", "L-x", "U-x"], [0, 2, 2, 3, 2]),
        (["O", "x", "y"], [0, 1, 2]),
        (["B", "I", "O"], [1, 1, 2]),
        (["NOUN", "VERB"], [0, 1]),
    ],
)
def test_no_later_part_of_a_word_begins_an_entity(labels, later):
    assert later_labels(labels) == later


@pytest.mark.parametrize(
    ("all_pieces", "labels", "tags", "targets"),
    [
        (False, ["O", "B-x", "I-x"], ["B-x", "B-x", "O"], [1, -100, 1, 2, 2, 2, 0, -100]),
        (True, ["O", "B-x", "I-x"], ["B-x", "I-x", "O"], [1, 2, 2, 2, 2, 2, 0, 0]),
        (False, ["NOUN", "VERB"], ["NOUN", "VERB", "NOUN"], [0, -100, 1, -100, -100, -100, 0, -100]),
        (True, ["NOUN", "VERB"], ["NOUN", "VERB", "NOUN"], [0, 0, 1, 1, 1, 1, 0, 0]),
    ],
)
def test_targets_of_pieces(all_pieces, labels, tags, targets):
    read = read_words([["unable", "b.c.", "cats"]], TOKENIZER)
    of_word = tf.constant([labels.index(tag) for tag in tags], tf.int32)
    assert labels_of_pieces(labels, read, of_word, TOKENIZER, all_pieces).numpy().tolist() == targets


def test_a_word_without_a_label_has_no_piece_with_one():
    read = read_words([["b.c.", "cats"]], TOKENIZER)
    for all_pieces in (False, True):
        targets = labels_of_pieces(["O", "B-x", "I-x"], read, tf.constant([-100, 0]), TOKENIZER, all_pieces).numpy()
        assert (targets[:4] == -100).all() and targets[4] == 0


def test_the_texts_of_entities_are_pythons_slices():
    texts = ["It rains in 東京 🙂 today.", "", "a\0b é"]
    parts = [(0, 0, 2), (0, 12, 16), (0, 3, 3), (2, 1, 2), (2, 0, 5)]
    row, start, end = (tf.constant(values, tf.int32) for values in zip(*parts))
    found = [text.decode() for text in texts_between(tf.constant(texts), row, start, end).numpy()]
    assert found == [texts[text][first:after] for text, first, after in parts]
    none = tf.zeros([0], tf.int32)
    assert texts_between(tf.zeros([0], tf.string), none, none, none).shape == [0]


def test_the_texts_of_many_entities_of_a_large_text_take_no_copies_of_it():
    start = tf.range(0, 1_000_000, 10)  # with a copy of the text for each, a hundred gigabytes
    found = texts_between(tf.constant(["good \ufffd cat" * 100_000]), tf.zeros_like(start), start, start + 4)
    assert found.shape == [100_000]
    assert found[-1] == b"good"
