"""The fused AdamW makes the steps of the published formula, and a schedule without an end is said."""

import warnings

import keras
import numpy as np
import pytest

from kbert.training.optimizer import AdamW, WarmupLinearDecay, start_schedule


def test_adamw_makes_the_steps_of_the_formula():
    random = np.random.default_rng(0)
    weights, gradient = random.standard_normal((2, 2, 3)).astype(np.float32)
    gradient *= 1e-6  # as small as epsilon, which then counts
    kernel, bias = keras.Variable(weights, name="kernel"), keras.Variable(weights[0], name="bias")
    optimizer = AdamW(learning_rate=0.1)
    first, second, expected = 0.0, 0.0, [weights, weights[0]]
    for step in (1, 2):
        optimizer.apply([gradient, gradient[0]], [kernel, bias])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)  # Kingma & Ba 2015, section 2: epsilon beside the raw root
        update = rate * first / (np.sqrt(second) + 1e-6)
        expected = [expected[0] * (1 - 0.1 * 0.01) - update, expected[1] - update[0]]
    for variable, value in zip((kernel, bias), expected):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4)


def test_a_schedule_without_an_end_is_said():
    optimizer = AdamW(WarmupLinearDecay(1e-3))
    with pytest.warns(UserWarning, match="does not say how many batches"):
        start_schedule(optimizer, None, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_schedule(optimizer, 10, 0)
