"""Recipe ``appearance``: what is inferred from a noisy answer, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.recipes.appearance.posterior import posterior
from willis.shared.recipes.appearance.question import LENGTH
from willis.shared.recipes.appearance.statistics import (
    N_STATISTICS,
)


def test_a_modality_far_outside_is_not_pulled_back_by_hand() -> None:
    # Told 5 with noise 1 under a prior of variance f: log(f + 1) + 25 / (f + 1) is least at f = 24; of the
    # powers of two, 32 gives 4.254 and 16 gives 4.304.
    weight = np.zeros(LENGTH)
    weight[0] = 1
    answer = np.zeros(LENGTH)
    answer[0] = 5
    covariance = np.eye(N_STATISTICS)
    mean, _ = posterior(answer, 1.0, weight=weight, covariance=covariance, distrust=0.0)
    assert mean[0] == pytest.approx(5 * 32 / 33)
    answer[0] = 1  # log(f + 1) + 1 / (f + 1) grows from f = 1 on
    mean, _ = posterior(answer, 1.0, weight=weight, covariance=covariance, distrust=0.0)
    assert mean[0] == pytest.approx(1 / 2)


def test_wiener_shrinkage_of_one_coordinate_by_hand() -> None:
    # Told 0.6 / 0.5 = 1.2 of prior variance 1, with noise of variance 1 / (3 x 0.5 ** 2) = 4 / 3.
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[0], answer[0] = 0.5, 0.6
    mean, spread = posterior(answer, 3.0, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)
    assert mean[0] == pytest.approx(1.2 / (1 + 4 / 3))
    assert not mean[1:].any()
    np.testing.assert_array_equal(spread, 1)


def test_what_is_not_asked_is_inferred_from_nothing_and_correlated_statistics_help_each_other() -> None:
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[[1, 2]] = 1.0
    answer[1] = answer[2] = 1.0
    alike = np.eye(N_STATISTICS)
    alike[1, 2] = alike[2, 1] = 0.99
    alone = posterior(answer, 1.0, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)[0]
    both = posterior(answer, 1.0, weight=weight, covariance=alike, distrust=0.0)[0]
    assert alone[1] == pytest.approx(0.5)
    assert both[1] == pytest.approx(1.99 / 2.99)  # by the eigenvector (1, 1): 1.99 / (1.99 + 1)


def test_the_spread_is_what_the_squares_leave_beside_the_mean_by_hand() -> None:
    # Exact answers: mean 0.6, mean square 1 - 0.28 = 0.72, less 0.36: 0.36, so 0.6.
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[[0, N_STATISTICS]] = 1.0
    answer[0], answer[N_STATISTICS] = 0.6, -0.28
    mean, spread = posterior(answer, 1e12, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)
    assert mean[0] == pytest.approx(0.6)
    assert spread[0] == pytest.approx(0.6)


@given(st.floats(1e-3, 1e3), st.floats(0, 2))
def test_noise_only_ever_shrinks(precision: float, distrust: float) -> None:
    generator = np.random.default_rng(0)
    weight = np.ones(LENGTH)
    answer = generator.standard_normal(LENGTH)
    covariance = np.eye(N_STATISTICS)
    mean, spread = posterior(answer, precision, weight=weight, covariance=covariance, distrust=distrust)
    assert bool((np.abs(mean) <= np.abs(answer[:N_STATISTICS]) + 1e-9).all())
    assert bool((np.sign(mean) == np.sign(answer[:N_STATISTICS])).all())
    assert bool(((spread >= 0.3) & (spread <= 1.3)).all())
