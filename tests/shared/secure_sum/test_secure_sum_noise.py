"""The noise of a secure sum and its price."""

import math

import numpy as np
import pytest
from harness.sum_terms import terms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from willis.shared.accounting import noise_multiplier
from willis.shared.secure_sum.noise import discrete_gaussian
from willis.shared.secure_sum.privacy import (
    ROUNDING_SLACK,
    epsilon_if_honest,
    epsilon_table,
    honest_multiplier,
    sum_slack,
    sum_std,
)
from willis.shared.secure_sum.terms import least_quorum

UNLIKELY = 1e-6  # a right sampler fails a test so often


def mass(scale: float, reach: int) -> np.ndarray:
    """Chances of the discrete Gaussian on -reach to reach."""
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * scale**2))
    return weights / weights.sum()


@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_the_sampler_draws_the_discrete_gaussian(scale):
    reach, n = 4 * math.ceil(scale), 8_000
    draws = np.clip(discrete_gaussian(n, scale), -reach, reach)
    counts = np.bincount(draws + reach, minlength=2 * reach + 1)
    expected = mass(scale, reach) * n
    often = expected > 5
    seen = [*counts[often], counts[~often].sum()]
    hoped = [*expected[often], expected[~often].sum()]
    assert stats.chisquare(seen, np.array(hoped) * n / sum(hoped)).pvalue > UNLIKELY


def test_noise_of_a_large_scale_has_its_variance_and_whole_numbers_of_both_parities():
    scale, n = 2.0**20 + 0.25, 8_000
    draws = discrete_gaussian(n, scale)
    assert draws.dtype == np.int64
    spread = float(((draws / scale) ** 2).sum())
    assert UNLIKELY < stats.chi2.cdf(spread, n) < 1 - UNLIKELY
    assert stats.binomtest(int((draws % 2).sum()), n).pvalue > UNLIKELY
    assert not np.array_equal(draws[:50], discrete_gaussian(50, scale))


@pytest.mark.parametrize(("n", "scale"), [(0, 1.0), (1, 0.0), (1, math.nan), (1, math.inf)])
def test_impossible_noise_is_refused(n, scale):
    with pytest.raises(ValueError, match=r"at least 1|must lie"):
        discrete_gaussian(n, scale)


@pytest.mark.parametrize(("honest", "share_std"), [(2, 0.5), (3, 0.6), (4, 0.8), (6, 1.0)])
def test_a_sum_of_discrete_gaussians_is_one_within_tau(honest, share_std):
    # The witness: the sum's chances by convolution, against those of one discrete Gaussian of its variance.
    reach = 30
    one = mass(share_std, reach)
    summed = one
    for _ in range(honest - 1):
        summed = np.convolve(summed, one)
    middle = len(summed) // 2
    span = math.ceil(4 * share_std * math.sqrt(honest))  # where double precision has digits
    single = mass(share_std * math.sqrt(honest), middle)[middle - span : middle + span + 1]
    gap = np.abs(np.log(summed[middle - span : middle + span + 1] / single)).max()
    assert gap <= sum_slack(honest, share_std=share_std)
    assert gap > 1e-12  # the sum is not one: the bound has something to bound


def test_a_continuous_gaussian_rounded_at_random_is_discrete_within_theta():
    # Step 2 of the price for a small r, by quadrature.
    v, r = 1.5, 0.5
    theta = 2 * sum(math.exp(-2 * (math.pi * r * k) ** 2) for k in range(1, 5))
    x = np.linspace(-12, 12, 20_001)
    weights = np.exp(-((np.arange(-20, 21)[:, None] - x) ** 2) / (2 * r**2))
    density = stats.norm.pdf(x, scale=math.sqrt(v**2 - r**2)) * (x[1] - x[0])
    rounded = (weights / weights.sum(axis=0)) @ density
    gap = np.abs(np.log(rounded / mass(v, 20)))[20 - 5 : 20 + 6].max()
    assert 1e-4 < gap <= math.log((1 + theta) / (1 - theta))


def test_at_our_scale_the_slack_does_not_show():
    assert sum_slack(100, share_std=2.0**20) == 0.0  # exp(-10 ** 13) is no float64
    assert 1e9 * 1e7 * ROUNDING_SLACK < 1e-119
    assert sum_slack(1, share_std=1.0) == 0.0


@given(
    st.floats(0.3, 1e4), st.integers(2, 8), st.integers(0, 3), st.floats(1e-3, 1e3), st.integers(1, 50_000)
)
@settings(deadline=None, max_examples=60)
def test_those_counted_on_make_up_the_noise_that_is_paid_for(noise, n, colluders, clip, length):
    quorum = least_quorum(n, colluders=colluders) if colluders < n else n + 1
    if quorum > n:
        return
    agreed = terms(
        sites=tuple("abcdefgh"[:n]),
        quorum=quorum,
        colluders=colluders,
        noise_multiplier=noise,
        clip_norm=clip,
        length=length,
        units=10,
    )
    assert noise <= honest_multiplier(agreed, honest=agreed.honest) <= noise * (1 + 1e-9)
    assert sum_std(agreed, survivors=agreed.honest) == pytest.approx(noise * clip, rel=1e-9)


def test_epsilon_by_colluders_is_the_pilots():
    # Four sites, all counted on, epsilon 3 at delta 1e-5: 3.00, 3.53, 4.46, 6.71 at 0 to 3 colluders.
    sigma = noise_multiplier(epsilon=3.0, delta=1e-5, sampling_rate=1.0, steps=1)
    agreed = terms(quorum=4, colluders=0, noise_multiplier=sigma)
    table = epsilon_table(agreed, sampling_rate=1.0, steps=1, delta=1e-5)
    assert [row.honest for row in table] == [1, 2, 3, 4]
    assert [row.epsilon for row in table] == pytest.approx([6.71, 4.46, 3.53, 3.00], abs=0.01)
    assert table[0].noise_multiplier == pytest.approx(sigma / 2, rel=1e-6)


def test_sizing_for_one_colluder_and_one_drop_out_keeps_epsilon():
    sigma = noise_multiplier(epsilon=3.0, delta=1e-4, sampling_rate=1.0, steps=1)
    agreed = terms(quorum=3, colluders=1, noise_multiplier=sigma)
    table = epsilon_table(agreed, sampling_rate=1.0, steps=1, delta=1e-4)
    assert table[1].epsilon <= 3.0 < table[0].epsilon
    with pytest.raises(ValueError, match="honest must lie in 1 to 4, got 5"):
        epsilon_if_honest(agreed, honest=5, sampling_rate=1.0, steps=1, delta=1e-4)
    with pytest.raises(ValueError, match="at least"):
        sum_slack(0, share_std=1.0)
