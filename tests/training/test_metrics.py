"""Metrics against scikit-learn and scipy, losses against their definition."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score

from kbert.scoring.correlation import pearson, spearman
from kbert.training.losses import SmoothedCrossentropy
from kbert.training.metrics import MacroF1


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_is_sklearns(seed):
    random = np.random.default_rng(seed)
    labels, size = int(random.integers(2, 7)), int(random.integers(1, 60))
    true, logits = random.integers(0, labels, size), random.standard_normal((size, labels)).astype("float32")
    metric = MacroF1(labels)
    for part in np.array_split(np.arange(size), 3):
        if len(part):
            metric.update_state(true[part], logits[part])
    assert float(metric.result()) == pytest.approx(f1_score(true, logits.argmax(-1), average="macro"), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_of_several_labels_is_sklearns(seed):
    random = np.random.default_rng(seed)
    labels, size = int(random.integers(2, 7)), int(random.integers(5, 60))
    true, logits = random.integers(0, 2, (size, labels)), random.standard_normal((size, labels)).astype("float32")
    metric = MacroF1(labels)
    metric.update_state(true, logits)
    assert float(metric.result()) == pytest.approx(f1_score(true, logits > 0, average="macro", zero_division=0), abs=1e-6)


def test_macro_f1_starts_anew():
    metric = MacroF1(2)
    metric.update_state([0, 1], [[1.0, 0.0], [1.0, 0.0]])
    metric.reset_state()
    metric.update_state([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    assert float(metric.result()) == 1


@pytest.mark.parametrize("seed", range(20))
def test_correlations_are_scipys(seed):
    random = np.random.default_rng(seed)
    a = random.integers(0, 6, 30).astype(float)  # with ties
    b = a + random.standard_normal(30) * 3
    assert pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_correlation_with_a_constant_is_0():
    assert pearson([1.0, 1.0], [1.0, 2.0]) == spearman([1.0, 1.0], [1.0, 2.0]) == 0


def test_smoothed_crossentropy_is_that_of_smoothed_targets():
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], "float32")
    targets = np.array([[0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3], [0.2 / 3, 0.2 / 3, 0.8 + 0.2 / 3]])
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(targets * logs).sum(-1).mean()
    assert float(SmoothedCrossentropy(0.2)(np.array([0, 2]), logits)) == pytest.approx(expected, rel=1e-5)
