"""Accuracy, precision, recall and F1 of classes equal scikit-learn's."""

import numpy as np
import pytest

from kbert.scoring.classes import Confusion, f1_by_label
from kbert.scoring.figures import figures_of_classes, figures_of_labels, figures_of_numbers

LABELS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_classes_are_scikit_learns(seed):
    from sklearn import metrics

    draw = np.random.default_rng(seed)
    true, answers = draw.integers(0, 3, 40), draw.integers(0, 4, 40)
    confusion = Confusion.of(true, answers, LABELS)
    np.testing.assert_array_equal(confusion.counts, metrics.confusion_matrix(true, answers, labels=range(4)))
    assert confusion.accuracy == pytest.approx(metrics.accuracy_score(true, answers))
    assert confusion.macro_f1 == pytest.approx(metrics.f1_score(true, answers, average="macro"))
    by_class = metrics.precision_recall_fscore_support(true, answers, labels=range(4), zero_division=0)
    np.testing.assert_allclose(confusion.by_class(), by_class[:3])


def test_f1_of_several_labels_is_scikit_learns():
    from sklearn import metrics

    draw = np.random.default_rng(0)
    true, answers = draw.integers(0, 2, (30, 4)), draw.integers(0, 2, (30, 4))
    np.testing.assert_allclose(f1_by_label(true, answers), metrics.f1_score(true, answers, average=None))
    assert f1_by_label(np.zeros((2, 1)), np.zeros((2, 1))).tolist() == [0]


def test_mistakes_say_what_was_given_and_what_was_answered():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    (mistake,) = figures_of_classes(["x", "y", "z"], ["a", "b", "b"], np.array([0, 1, 1]), probabilities, ["a", "b"]).mistakes
    assert (mistake.text, mistake.true, mistake.answer) == ("z", "b", "a") and mistake.score == pytest.approx(0.6)

    figures = figures_of_labels(
        [("x", "y"), ("z", "w")], [["b", "a"], []], np.array([[1, 1], [0, 0]]), probabilities[:2], ["a", "b"]
    )
    assert figures.scores["all_labels_right"] == 0 and [row[2] for row in figures.rows] == [1, 1]
    first, second = figures.mistakes
    assert (first.text, first.true, first.answer) == (("x", "y"), ["b", "a"], ["a"]) and first.score == pytest.approx(0.9)
    assert (second.true, second.answer) == ([], ["b"])

    figures = figures_of_numbers(["x", "y"], np.array([1.0, 2.0]), np.array([1.5, 4.0], np.float32))
    assert figures.scores == {"pearson": pytest.approx(1), "spearman": pytest.approx(1), "mean_absolute_error": 1.25}
    assert [mistake.score for mistake in figures.mistakes] == [0.5, 2]
