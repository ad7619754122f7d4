"""Weights of draws whose means are those of a noisy answer: by hand, and beside closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.recipes.cloud.tilt import beyond_reach, effective, moved_by_noise, tilt


def test_tilt_of_two_draws_by_hand():
    # Features -1 and 1: weights (1 -+ m) / 2 have mean m.
    weights = tilt(np.array([[-1.0], [1.0]]), np.array([0.5]), np.array([0.0]), least_draws=1)
    np.testing.assert_allclose(weights, [0.25, 0.75], atol=1e-4)


def test_tilt_agrees_with_the_normal_posterior():
    # Draws N(0, 1), answer m, variance v: the relaxed mean is m / (1 + v), in closed form.
    draws = np.random.default_rng(0).standard_normal((4000, 1))
    for answer, variance in ((0.8, 0.5), (-0.5, 0.1), (1.0, 3.0)):
        weights = tilt(draws, np.array([answer]), np.array([variance]), least_draws=10)
        assert weights @ draws[:, 0] == pytest.approx(answer / (1 + variance), abs=0.04)


def test_two_features_that_say_the_same_are_believed_as_one_of_half_the_variance():
    draws = np.random.default_rng(1).standard_normal((500, 1))
    once = tilt(draws, np.array([0.7]), np.array([0.2]), least_draws=2)
    twice = tilt(np.repeat(draws, 2, 1), np.array([0.7, 0.7]), np.array([0.4, 0.4]), least_draws=2)
    np.testing.assert_allclose(once, twice, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.floats(0, 5), st.integers(2, 60))
def test_tilt_leaves_enough_draws(answer, variance, least):
    draws = np.random.default_rng(2).standard_normal((80, 3))
    weights = tilt(draws, np.array(answer), np.full(3, variance), least_draws=least)
    assert weights.sum() == pytest.approx(1)
    assert effective(weights) >= least * (1 - 1e-6)


def test_no_information_leaves_equal_weights():
    draws = np.random.default_rng(2).standard_normal((50, 3))
    np.testing.assert_allclose(tilt(draws, np.ones(3), np.full(3, np.inf), least_draws=5), 1 / 50)


def test_an_answer_out_of_reach_pulls_less_the_further_it_lies():
    draws = np.random.default_rng(3).uniform(-1, 1, (1000, 1))

    def moved(answer: float) -> float:
        at = np.array([answer])
        weights = tilt(draws, at, 0.04 + beyond_reach(draws, at), least_draws=5)
        return float(weights @ draws[:, 0] - draws.mean())

    assert moved(0.9) > 0.6
    assert moved(0.9) > moved(2.0) > moved(4.0) > moved(16.0) >= 0
    assert moved(16.0) < 0.01
    np.testing.assert_allclose(beyond_reach(draws, np.array([0.5])), 0)


def test_what_noise_moves_agrees_with_many_noisy_answers():
    rng = np.random.default_rng(4)
    draws = rng.standard_normal((2000, 2))
    values = np.stack([draws[:, 0], draws.sum(1)], 1)
    noise, variance = np.array([0.01, 0.04]), np.array([0.5, 0.6])
    moved = []
    for _ in range(60):
        answer = draws.mean(0) + np.sqrt(noise) * rng.standard_normal(2)
        moved.append(tilt(draws, answer, variance, least_draws=2) @ values)
    wanted = moved_by_noise(draws, values, noise=noise, variance=variance)
    np.testing.assert_allclose(np.std(moved, 0), wanted, rtol=0.3)  # 60 answers: 9 % standard error
