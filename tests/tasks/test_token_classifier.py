"""Words with labels in, labels and entities with offsets out, whatever the text is made of and however long it is."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.words import _given_words, read_words
from tests.conftest import SHARED, TINY, VOCABULARY, tiny_tokenizer

LABELS = ["O", "B-animal", "I-animal"]
SENTENCES = [["the", "cat", "sat"], ["a", "good", "dog", "ran"], ["good", "day", "!"], ["the", "bad", "cat", "dog", "ran"]] * 8
TAGS = [
    ["O", "B-animal", "O"],
    ["O", "B-animal", "I-animal", "O"],
    ["O", "O", "O"],
    ["O", "B-animal", "I-animal", "I-animal", "O"],
] * 8
STRANGE = [
    "Élan vital: naïve café — déjà vu!", "你好，世界 🙂", "e\u0301\u0323a\u0301 x\u200dy", "", "   ",
    "\u202eabc\u202c", "a\x00b\ufffdc", "नमस्ते दुनिया", "สวัสดีโลก", "👩\u200d👩\u200d👧 family", "İstanbul’da", "a" * 120,
]  # fmt: skip


@pytest.fixture
def task(encoder, tokenizer):
    return kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 12), labels=LABELS)


def encoder_of(tokenizer):
    return kbert.BertEncoder(kbert.BertConfig(**{**TINY, "vocab_size": tokenizer.vocabulary_size}))


@pytest.fixture(scope="module")
def trained():
    """A tagger that has learned its sentences, which no test changes."""
    keras.utils.set_random_seed(7)
    task = kbert.TokenClassifier(encoder_of(tiny_tokenizer()), kbert.TextPreprocessor(tiny_tokenizer(), 12), labels=LABELS)
    task.compile(learning_rate=1e-2)
    task.fit(SENTENCES, TAGS, epochs=12, batch_size=8, verbose=0)
    return task


def test_it_learns_words_and_gives_labels_and_entities(trained):
    assert trained.predict(SENTENCES[:4]) == TAGS[:4]
    (found,) = trained.classify(["a good dog ran"])
    assert [(e["label"], e["text"], e["start"], e["end"]) for e in found] == [("animal", "good dog", 2, 10)]
    assert 0.5 < found[0]["score"] <= 1
    assert trained.evaluate(SENTENCES, TAGS, return_dict=True, verbose=0)["f1"] == 1
    assert trained.predict(["the cat"]).shape == (1, 4, 3)  # logits of a text


def test_entities_given_in_characters_are_the_same_examples(task):
    spans = [[{"start": 4, "end": 7, "label": "animal"}], [{"start": 2, "end": 10, "label": "animal"}]]
    by_span = task.examples(["the cat sat", "a good dog ran"], spans)
    by_word = task.examples(SENTENCES[:2], TAGS[:2])
    assert by_span.targets.to_list() == by_word.targets.to_list()
    assert by_span.columns[0].to_list() == by_word.columns[0].to_list()


def test_the_first_piece_has_the_words_label_or_all_have(encoder, tokenizer):
    words, tags = [["unable", "cats"]], [["B-animal", "I-animal"]]
    preprocessor = kbert.TextPreprocessor(tokenizer, 12)
    first = kbert.TokenClassifier(encoder, preprocessor, labels=LABELS).examples(words, tags)
    every = kbert.TokenClassifier(encoder, preprocessor, labels=LABELS, label_all_pieces=True).examples(words, tags)
    assert first.targets.to_list() == [[1, -100, 2, -100]]
    assert every.targets.to_list() == [[1, 2, 2, 2]]


def test_given_words_and_their_sentence_as_a_text_have_the_same_entities_and_f1():
    """With punctuation inside the words; spans in characters are counted like tags, by evaluate, fit and figures."""
    tokenizer = kbert.WordPieceTokenizer([*VOCABULARY, *"bcus10", "-", "##0"])
    task = kbert.TokenClassifier(encoder_of(tokenizer), kbert.TextPreprocessor(tokenizer, 24), labels=LABELS)
    words = [["the", "u.s.", "sat"], ["b-c", "ran", "."], ["a", "good", "1,000", "day"], ["the", "cat", "ran", "."]] * 4
    tags = [["O", "B-animal", "O"], ["B-animal", "O", "O"], ["O", "B-animal", "I-animal", "O"], ["O", "B-animal", "O", "O"]] * 4
    texts = [" ".join(row) for row in words]
    spans = [[(4, 8, "animal")], [[0, 3, "animal"]], [{"start": 2, "end": 12, "label": "animal"}], [(3, 7, "animal")]] * 4
    task.compile(learning_rate=1e-2)
    history = task.fit(words, tags, validation_data=(texts, spans), epochs=14, batch_size=8, verbose=0).history
    assert history["val_f1"][-1] == 1 and {"val_precision", "val_recall"} <= set(history)
    for x, y in ((words, tags), (texts, spans)):
        assert task.evaluate(x, y, return_dict=True, verbose=0)["f1"] == task.figures(x, y).scores["f1"] == 1
    for of_words, of_text in zip(task.classify(words), task.classify(texts)):
        assert [(e["text"], e["start"]) for e in of_words] == [(e["text"], e["start"]) for e in of_text]
    assert task.figures(texts[:2], [[(0, 3, "animal")], []]).scores == {"precision": 0, "recall": 0, "f1": 0}


def test_figures_read_what_evaluate_reads(task):
    """The f1 of both, from names, indices, -100, bytes, arrays and tables; and what one refuses the other refuses too."""
    task.compile(run_eagerly=True)
    words = [["the", "cat", "sat", "day"], ["good", "dog"], ["bad"]]
    draw = np.random.default_rng(0)
    of_word = draw.normal(size=(task.encoder.config.hidden_size, 3)) * 9
    task.classifier.kernel.assign(of_word)
    tags = [[*row] for row in task.predict(words, verbose=0)]
    assert {tag for row in tags for tag in row} != {"O"}
    tags[0][1] = "O" if tags[0][1] != "O" else "B-animal"
    numbers = [[LABELS.index(tag) for tag in row] for row in tags]
    partly = [[*tags[0][:2], -100, tags[0][3]], tags[1], [-100]]
    texts = [" ".join(row) for row in words]
    spans = [[(entity["start"], entity["end"], entity["label"]) for entity in row] for row in task.classify(texts, verbose=0)]
    spans[1] = [(0, 4, "animal")]
    given = [
        (words, tags), (words, numbers), (words, [np.array(row) for row in numbers]), (words, partly), (texts, spans),
        (pd.Series(words, index=[4, 2, 0]), pd.Series(tags, index=[4, 2, 0])), ([text.encode() for text in texts], spans),
        ([[word.encode() for word in row] for row in words], tags), (np.array(texts), pd.Series(spans, index=[1, 2, 3])),
    ]  # fmt: skip
    for x, y in given:
        measured = task.evaluate(x, y, return_dict=True, verbose=0)
        assert task.figures(x, y).scores == {name: measured[name] for name in ("precision", "recall", "f1")}
    assert 0 < task.figures(words, partly).scores["f1"] <= 1
    wrong = [
        (words, tags[:2]), (words, [["O"], *tags[1:]]), (words, [[None] * 4, *tags[1:]]), (words, "O"), (words, [7, *tags[1:]]),
        (words, [[0.5] * 4, *tags[1:]]), (words, [[9] * 4, *tags[1:]]), (texts, [None, [], []]), (texts, [[(0, 3, 1)], [], []]),
        (texts, [[(True, 3, "animal")], [], []]), (texts, [{"start": 0, "end": 3, "label": "animal"}, [], []]),
    ]  # fmt: skip
    for x, y in wrong:
        for measure in (task.evaluate, task.figures):
            with pytest.raises((TypeError, ValueError)):
                measure(x, y)


@pytest.mark.parametrize(
    ("spans", "twice"),
    [
        ([(0, 7, "animal"), (4, 7, "animal")], "'cat'"),
        ([(0, 5, "animal"), (5, 7, "animal")], "'cat'"),
        ([(0, 3, "animal"), {"start": 0, "end": 3, "label": "animal"}], None),
        ([(4, 7, "animal"), (0, 3, "animal")], None),
    ],
)
def test_entities_that_would_give_a_word_two_tags_are_refused(task, spans, twice):
    if twice is None:
        assert task.examples(["the cat sat"], [spans]).targets.to_list()[0][1:] in ([0, 0], [1, 0])
        return
    with pytest.raises(ValueError, match=rf"y\[0\] has two entities on the word {twice}.*keep one of them"):
        task.examples(["the cat sat"], [spans])


def test_offsets_always_cut_out_the_entity(task):
    for text, found in zip(STRANGE, task.classify(STRANGE)):
        for entity in found:
            assert text[entity["start"] : entity["end"]] == entity["text"] != ""


@pytest.mark.parametrize("language", ["en", "ar", "zh", "hi", "th", "ru", "el"])
def test_offsets_on_real_texts_of_seven_languages(task, language, shared_data):
    articles = json.loads((shared_data / "xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
    texts = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]][:8]
    for text, found in zip(texts, task.classify(texts)):
        for entity in found:
            assert text[entity["start"] : entity["end"]] == entity["text"] != ""


def test_words_keep_their_places_whatever_they_are(tokenizer):
    words = [["", "un able", "\u200d", "cats", "你好"], [], ["the"]]
    read = read_words(words, tokenizer)
    assert read.splits.numpy().tolist() == [0, 5, 5, 6]
    starts, ends = read.starts.numpy(), read.ends.numpy()
    for number, word in enumerate([*words[0], *words[2]]):
        assert read.texts[0 if number < 5 else 2].decode()[starts[number] : ends[number]] == word
    assert set(read.word.numpy().tolist()) == {1, 3, 4, 5}
    assert read.word[read.is_first].numpy().tolist() == [1, 3, 4, 5]


def test_given_words_are_aligned_in_a_graph_as_outside_one(tokenizer):
    words = [["unable", "cats", ""], [], ["the"]]
    outside = read_words(words, tokenizer)
    inside = tf.function(lambda ragged: _given_words(tokenizer, ragged))(tf.ragged.constant(words, dtype=tf.string))
    assert outside.ids.to_list() == inside[0].to_list()
    for one, other in zip(outside[2:], inside[1:]):
        assert one.numpy().tolist() == other.numpy().tolist()


def test_long_texts_are_read_in_windows_and_nothing_is_lost(trained):
    long = sum(SENTENCES[:20], [])
    assert len(trained.predict([long])[0]) == len(long)
    agree = np.mean([a == b for a, b in zip(trained.predict([long])[0], sum(TAGS[:20], []))])
    assert agree > 0.5
    pieces = trained.examples([long], [sum(TAGS[:20], [])])
    assert pieces.columns[0].nrows() > 1 and max(pieces.columns[0].row_lengths().numpy()) <= 10


def test_a_long_text_in_one_window_or_several_agrees_inside(encoder, tokenizer):
    wide = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=LABELS)
    narrow = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=LABELS, window_stride=3)
    narrow.set_weights(wide.get_weights())
    short = [["the", "cat"] * 5]
    assert wide.predict(short) == narrow.predict(short)


def test_frozen_it_answers_the_same(trained):
    fast = trained.freeze()
    assert fast.predict(SENTENCES[:4]) == trained.predict(SENTENCES[:4])
    texts = ["a good dog ran", "the cat " * 20]
    for a, b in zip(fast.classify(texts), trained.classify(texts)):
        assert [(e["start"], e["end"], e["label"]) for e in a] == [(e["start"], e["end"], e["label"]) for e in b]


def test_validation_reports_entity_scores_to_callbacks(task):
    task.compile(learning_rate=1e-2)
    stop = keras.callbacks.EarlyStopping("val_f1", mode="max", patience=20, restore_best_weights=True)
    history = task.fit(SENTENCES, TAGS, validation_split=0.25, epochs=3, batch_size=8, callbacks=[stop], verbose=0).history
    assert {"val_precision", "val_recall", "val_f1", "val_loss"} <= set(history)
    assert history["val_f1"][-1] == task.evaluate(SENTENCES[24:], TAGS[24:], return_dict=True, verbose=0)["f1"]


def test_it_saves_and_loads(trained, tmp_path):
    trained.save(tmp_path / "task.keras")
    assert kbert.load(tmp_path / "task.keras").predict(SENTENCES[:4]) == TAGS[:4]
    trained.save_to_preset(tmp_path / "folder")
    assert kbert.TokenClassifier.from_preset(tmp_path / "folder", max_length=12).predict(SENTENCES[:4]) == TAGS[:4]


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        ([["a", "b"]], [["O"]], ValueError, r"x\[0\] has 2 words, y\[0\] 1 labels"),
        ([["a"]], [["B-food"]], ValueError, r"y\[0\]\[0\] is 'B-food', which is not one of the labels"),
        ([["a"]], [["O"], ["O"]], ValueError, "1 texts and 2 lists"),
        ([["a", None]], [["O", "O"]], TypeError, r"x\[0\]\[1\] is None"),
        ([], [], ValueError, "there are no texts"),
        (["a cat"], [[{"start": 2, "end": 50, "label": "animal"}]], ValueError, "has 5 characters"),
        (["a cat"], [["O", "O"]], TypeError, "dictionary with start, end and label"),
        (["a cat"], [[(1, 2, "animal")]], ValueError, "white space in the text"),
        (["a cat"], [[("0", 2, "animal")]], TypeError, "whole numbers of characters"),
    ],
)
def test_bad_input_is_named(task, x, y, error, message):
    with pytest.raises(error, match=message):
        task.fit(x, y, verbose=0)


@pytest.mark.parametrize("labels", ["O B-x I-x L-x U-x", "O B I", "O x y", "O x-B x-I"])
def test_tags_of_other_schemes_are_served_as_they_are_classified(encoder, tokenizer, labels):
    task = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 12), labels=labels.split())
    texts = ["the cat ran", "a good day !"]
    served = {name: value.numpy() for name, value in task.serve(tf.constant(texts)).items()}
    answers = task.served_answers(served)
    for answer, expected in zip(answers, task.expected_answers((texts,)), strict=True):
        assert answer.exact == expected.exact
    named = [label for answer in answers for label, *_ in answer.exact]
    assert named and all(named) and len(named) == served["count"].sum()


def test_labels_that_are_no_tags_have_no_entities(encoder, tokenizer):
    task = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 12), labels=["NOUN", "VERB"])
    assert len(task.predict([["cat", "ran"]])[0]) == 2
    with pytest.raises(ValueError, match="'NOUN' is not a BIO"):
        task.classify(["cat ran"])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data of ../shared/data is not here")
def test_restaurant_queries_are_learned_a_little_in_some_steps(minilm):
    words, tags = kbert.read_bio(SHARED / "mit_restaurant" / "train.bio")
    labels = ["O", *sorted({tag for row in tags for tag in row} - {"O"})]
    task = kbert.TokenClassifier.from_preset(minilm, labels=labels, max_length=64)
    task.compile(learning_rate=3e-4)
    task.fit(words[:1200], tags[:1200], batch_size=32, epochs=1, verbose=0)
    test_words, test_tags = kbert.read_bio(SHARED / "mit_restaurant" / "test.bio")
    assert task.evaluate(test_words[:300], test_tags[:300], return_dict=True, verbose=0)["f1"] > 0.4
