"""Targets, weights and the names of labels: the same values in every container, or an error that names the row."""

import decimal

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.answer_decoder import right_answers
from kbert.tasks.labels import check_labels, label_index
from kbert.tasks.problems import PROBLEMS
from kbert.tasks.row_weights import balanced_weights, check_weights
from kbert.tasks.targets import plain_targets
from tests.conftest import TINY

NAMES, INDICES = ["good", "bad", "good", "bad"], [1, 0, 1, 0]
ONE_HOT, SEVERAL = np.eye(2)[INDICES], [[0, 1], [1, 0], [1, 1], [0, 0]]


def odd(values, **options):
    return pd.Series(values, index=range(9, 9 - len(values), -1), **options)


def encoded(problem, labels, y):
    return PROBLEMS[problem].encode(labels, plain_targets(y)).tolist()


ONE_LABEL = {
    "generator": lambda: (name for name in NAMES),
    "values of a dictionary": lambda: dict(enumerate(NAMES)).values(),
    "Index": lambda: pd.Index(NAMES),
    "Categorical": lambda: pd.Categorical(NAMES),
    "category": lambda: odd(NAMES, dtype="category"),
    "string": lambda: odd(NAMES, dtype="string"),
    "nullable": lambda: odd(INDICES, dtype="Int64"),
    "boolean": lambda: odd(INDICES, dtype="boolean"),
    "bool": lambda: np.array(INDICES, bool),
    "whole floats": lambda: odd([1.0, 0.0, 1.0, 0.0]),
    "scalars": lambda: [np.int64(1), np.array(0), tf.constant("good"), tf.constant(b"bad")],
    "[N, 1]": lambda: np.array(NAMES)[:, None],
    "one-hot": lambda: ONE_HOT.astype(int),
    "one-hot lists": ONE_HOT.tolist,
    "a table": lambda: pd.DataFrame({"label": NAMES}),
    "one-hot table, in another order": lambda: pd.DataFrame(ONE_HOT[:, ::-1], columns=["good", "bad"]),
    "dummies": lambda: pd.get_dummies(pd.Series(NAMES)),
    "one-hot table without names": lambda: pd.DataFrame(ONE_HOT),
    "structured array": lambda: np.array([(n,) for n in INDICES], dtype=[("label", "i4")]),
    "one-hot columns": lambda: {"good": ONE_HOT[:, 1], "bad": ONE_HOT[:, 0]},
}


@pytest.mark.parametrize("kind", ONE_LABEL)
def test_one_label_a_text(kind):
    assert encoded("single_label_classification", ["bad", "good"], ONE_LABEL[kind]()) == INDICES


SEVERAL_LABELS = {
    "names": lambda: [["good"], ("bad",), {"bad", "good"}, []],
    "floats": lambda: np.array(SEVERAL, float),
    "bool": lambda: np.array(SEVERAL, bool),
    "a table in another order": lambda: pd.DataFrame(SEVERAL, columns=["bad", "good"])[["good", "bad"]],
    "lists in pandas": lambda: odd([["good"], ["bad"], ["bad", "good"], []]),
    "lists in an array": lambda: np.array([["good"], ["bad"], ["bad", "good"], []], object),
    "ragged": lambda: tf.ragged.constant([["good"], ["bad"], ["bad", "good"], []]),
    "dictionaries": lambda: [{"bad": a, "good": b} for a, b in SEVERAL],
}


@pytest.mark.parametrize("kind", SEVERAL_LABELS)
def test_several_labels_a_text(kind):
    assert encoded("multi_label_classification", ["bad", "good"], SEVERAL_LABELS[kind]()) == SEVERAL


NUMBERS = {
    "pandas": lambda: odd([0.5, 2.0]),
    "nullable": lambda: odd([0.5, 2.0], dtype="Float64"),
    "[N, 1]": lambda: np.array([[0.5], [2.0]]),
    "bfloat16": lambda: tf.constant([0.5, 2.0], tf.bfloat16),
    "decimals": lambda: [decimal.Decimal("0.5"), 2],
    "a table": lambda: pd.DataFrame({"anything": [0.5, 2.0]}),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers(kind):
    assert encoded("regression", ["score"], NUMBERS[kind]()) == [[0.5], [2.0]]


def test_several_numbers_by_name():
    table = pd.DataFrame({"q": [2, 4], "p": [1, 3]})
    assert encoded("regression", ["p", "q"], table) == encoded("regression", ["p", "q"], [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("problem", "y", "message"),
    [
        ("single_label_classification", {"good", "bad"}, "y is a set, which has no order"),
        ("single_label_classification", np.array(1), "a target for each text, got ndarray"),
        ("single_label_classification", tf.data.Dataset.range(2), "a target for each text"),
        ("single_label_classification", [1, None], r"y\[1\] is None"),
        ("single_label_classification", odd([1, None]), r"y\[1\] is nan"),
        ("single_label_classification", odd([1, None], dtype="Int64"), r"y\[1\] is <NA>"),
        ("single_label_classification", [0, 0.5], r"y\[1\] is 0.5"),
        ("single_label_classification", [[0.3, 0.7]], r"y\[0\] is \[0.3, 0.7\]"),
        ("single_label_classification", pd.DataFrame(ONE_HOT, columns=["x", "y"]), r"has x, y, but the labels are bad, good"),
        ("multi_label_classification", ["good"], r"y\[0\] is 'good'"),
        ("multi_label_classification", [[0, 1], [0, float("nan")]], r"y\[1\] should hold 0 or 1"),
        ("multi_label_classification", [[0, 1], [0, -100]], r"y\[1\] holds -100, .* Leave the text out, or give 0"),
        ("regression", [[1, 0.5], [1, float("nan")]], r"y\[1\] is .*not a finite number"),
        ("regression", [[1, 1e39], [1, 1]], r"y\[0\] is .*not a finite number"),
        ("regression", [[1, 1], [1, None]], r"y\[1\] is None, which is missing"),
        ("regression", [[1, 1], ["one", 1]], r"y\[1\] is 'one', not a number"),
        ("regression", [[1, 1], [1]], r"y\[1\] is \[1\], but y\[0\] is \[1, 1\]"),
        ("regression", {"bad": [1, 2], "good": [1]}, "bad has 2 rows, good has 1 rows"),
    ],
)
def test_the_row_that_is_wrong_is_named(problem, y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        encoded(problem, ["bad", "good"], y)


def test_weights_in_every_container():
    for weights in ((w for w in [1, 0.5]), odd([1, 0.5]), odd([1, 0.5], dtype="Float64"), [[1], [0.5]], tf.constant([1, 0.5])):
        assert check_weights(weights, 2).tolist() == [1.0, 0.5]
    for weights, message in (
        (odd([1, None]), r"sample_weight\[1\] is nan"),
        (odd([1, None], dtype="Float64"), r"sample_weight\[1\] is nan"),
        (["one", 1], "should be numbers"),
        ([1, -1], r"sample_weight\[1\] is -1"),
        ([1], "each text needs one weight"),
        (np.array(1.0), "each text needs one weight"),
    ):
        with pytest.raises(ValueError, match=message):
            check_weights(weights, 2)


LABELS = {
    "id2label": {0: "ham", 1: "spam"},
    "id2label of a file, in another order": {"1": "spam", "0": "ham"},
    "label2id": {"spam": 1, "ham": 0},
    "numpy's indices": {np.int64(0): "ham", np.int64(1): "spam"},
    "array": np.array(["ham", "spam"]),
    "bytes": np.array(["ham", "spam"], "S"),
    "Index": pd.Index(["ham", "spam"]),
    "Categorical": pd.Categorical(["ham", "spam"]),
    "pandas": odd(["ham", "spam"]),
    "tensor": tf.constant(["ham", "spam"]),
    "tuple": ("ham", "spam"),
    "keys": dict.fromkeys(["ham", "spam"]).keys(),
}


@pytest.mark.parametrize("kind", [*LABELS, "generator"])
def test_names_of_labels_in_every_container(kind):
    names = check_labels(LABELS[kind] if kind in LABELS else (name for name in ["ham", "spam"]))
    assert names == ["ham", "spam"] and {type(name) for name in names} == {str}
    assert check_labels({"1": 0, "0": 1}) == ["1", "0"]  # names that are digits


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"ham", "spam"}, "another order in each process"),
        ({0: "ham", 2: "spam"}, "from 0 to 1"),
        ({"ham": 0.5, "spam": 1}, "from 0 to 1"),
        (np.array("ham"), "a list of names"),
        (["ham", float("nan")], "should be names, got nan"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check_labels(labels)


def test_answers_are_dictionaries_or_tuples():
    one = [{"text": "a", "start": 1}]
    for answer in (one[0], one, ["a", 1], [["a", 1.0]], {"text": ["a"], "answer_start": [1]}, {"text": "a", "answer_start": 1}):
        assert right_answers(answer) == one
    for answer in (None, float("nan"), pd.NA, [], {"text": [], "answer_start": []}):
        assert right_answers(answer) == []


@pytest.fixture(scope="module")
def small_encoder():
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 1}
    return kbert.BertEncoder(kbert.BertConfig(**{**TINY, **still}))


def test_spans_are_dictionaries_lists_or_tuples(small_encoder, tokenizer):
    task = kbert.TokenClassifier(small_encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["O", "B-x", "I-x"])
    texts = ["the good day", "a cat"]
    expected = task.examples(texts, [[{"start": 4, "end": 12, "label": "x"}], []]).targets.to_list()
    assert expected == [[0, 1, 2], [0, 0]]
    for spans in ([(4, 12, "x")], [[4, 12, "x"]], [(4.0, 12.0, "x")], ({"start": np.int64(4), "end": 12.0, "label": "x"},)):
        assert task.examples(texts, [spans, []]).targets.to_list() == expected
    for y, message in (
        ([(4, 12, "x")], r"y\[0\]\[0\] should be a dictionary"),
        ([None, []], r"y\[0\] is None; a text has a list"),
    ):
        with pytest.raises(TypeError, match=message):
            task.examples(texts, [*y, []][:2])


TEXTS = ["the good day", "a bad dog .", "so very good", "the cat sat"]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_target_of_minus_100_counts_as_no_label(small_encoder, tokenizer, label_smoothing):
    task = kbert.TextClassifier(small_encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"], dropout=0.0)
    task.compile(keras.optimizers.SGD(0.0), label_smoothing=label_smoothing, run_eagerly=True)
    y = ["good", -100, 0, -100.0]
    whole = task.evaluate(TEXTS, y, verbose=0, return_dict=True)
    labelled = task.evaluate(TEXTS[::2], ["good", 0], verbose=0, return_dict=True)
    assert whole == pytest.approx(labelled, abs=1e-6)
    weighted = {"class_weight": {"good": 3.0}, "verbose": 0}
    assert task.fit(TEXTS, y, **weighted).history["loss"] == pytest.approx(
        task.fit(TEXTS[::2], ["good", 0], **weighted).history["loss"], abs=1e-5
    )
    assert task.figures(TEXTS, y).scores == pytest.approx(task.figures(TEXTS[::2], ["good", 0]).scores)
    with pytest.raises(ValueError, match="no label: there is nothing to learn"):
        task.fit(TEXTS, [-100] * 4, verbose=0)


def test_a_word_of_minus_100_counts_as_no_label(small_encoder, tokenizer):
    task = kbert.TokenClassifier(small_encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["O", "B-x"], dropout=0.0)
    words = [text.split() for text in TEXTS]
    y = [["B-x", *[-100] * (len(row) - 1)] for row in words]
    assert task.examples(words, y).targets.to_list()[0] == [1, -100, -100]
    task.compile(run_eagerly=True)
    found = task.evaluate(words, y, verbose=0, return_dict=True)
    first = [row[0] for row in task.predict(words)]
    assert found["recall"] == pytest.approx(first.count("B-x") / 4)


STARS = ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("container", [list, np.array, pd.Series, lambda y: np.array(y, float)[:, None]])
def test_numbers_are_the_names_of_labels_that_are_numerals(container):
    assert encoded("single_label_classification", STARS, container([1, 2, 5])) == [0, 1, 4]
    assert encoded("single_label_classification", ["-1", "0", "1"], container([1, 0, -1])) == [2, 1, 0]
    assert encoded("single_label_classification", ["0", "1"], container([1, 0, 1])) == [1, 0, 1]
    with pytest.raises(ValueError, match=r"y\[1\] is 0, which is not one of the labels \['1', .*; a number is a name here"):
        encoded("single_label_classification", STARS, container([1, 0, 5]))


@pytest.mark.parametrize(("labels", "number"), [(["1", "0"], 1), (["2", "0", "1"], 0), (["1", "2", "other"], 1)])
def test_a_number_that_may_be_a_name_or_an_index_is_refused(labels, number):
    with pytest.raises(ValueError, match=f"y.0. is {number}, which may be the label '{number}' or the label at index {number}"):
        encoded("single_label_classification", labels, [number])
    assert label_index(labels, labels[0], "y[0]") == 0 and label_index(["9", "other"], 9, "y[0]") == 0


@pytest.fixture
def of_stars(small_encoder, tokenizer):
    return kbert.TextClassifier(small_encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["1", "2", "3"], dropout=0.0)


def test_every_container_reads_numerals_alike(of_stars):
    of_stars.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    y = [1, 2, 3, 3]
    named = of_stars.evaluate(TEXTS, ["1", "2", "3", "3"], verbose=0)
    packed = of_stars.preprocessor(TEXTS)
    batches = tf.data.Dataset.from_tensor_slices((TEXTS, y)).batch(2)
    for given in ((TEXTS, y), (batches,), (packed, y)):
        assert of_stars.evaluate(*given, verbose=0) == pytest.approx(named, rel=1e-5)
    rows = tf.data.Dataset.from_tensor_slices((packed, y)).batch(2)
    with pytest.raises(ValueError, match="a number in a dataset of packed rows may be a name or an index: give one-hot rows"):
        of_stars.evaluate(rows, verbose=0)


def test_balanced_weights_are_those_of_the_counted_labels(of_stars):
    of_stars.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    y = ["1", "2", "2", "2"]
    assert balanced_weights(np.array([0, 1, 1, -100, 1]), ["1", "2", "3"]) == {"1": 4 / 3, "2": 4 / 9}

    def loss(x, y=None, **options):
        return of_stars.fit(x, y, shuffle=False, verbose=0, **options).history["loss"][0]

    by_hand = {"1": 4 / 3, "2": 4 / 9}
    packed = of_stars.preprocessor(TEXTS)
    for x in (TEXTS, packed):
        assert loss(x, y, class_weight="balanced") == pytest.approx(loss(x, y, class_weight=by_hand), rel=1e-5)
        halves = {"validation_split": 0.5, "class_weight": "balanced"}
        assert loss(x, y, **halves) == pytest.approx(
            loss(x, y, **{**halves, "class_weight": {"1": 2 / 3, "2": 2 / 3}}), rel=1e-5
        )
    with pytest.raises(ValueError, match="'balanced' counts labels in memory, a .*Dataset has none"):
        loss(tf.data.Dataset.from_tensor_slices((TEXTS, y)), class_weight="balanced")


def test_a_number_of_labels_stands_for_their_names():
    with pytest.raises(ValueError, match="give labels or num_labels=2, not both"):
        kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=["a", "b"], num_labels=2)
    with pytest.raises((ValueError, TypeError), match="num_labels"):
        kbert.TextClassifier.from_preset("all-minilm-l6-v2", num_labels=0)
    assert kbert.TextClassifier.from_preset("all-minilm-l6-v2", num_labels=3).labels == ["0", "1", "2"]
