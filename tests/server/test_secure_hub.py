"""The coordinator of a secure sum: the sum it gets, its noise, and who may drop out and when."""

import math

import numpy as np
import pytest
from harness.hub_trial import (
    ALL,
    Round,
    draw_units,
    losing,
    plain_sum,
    terms,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from willis.server.secure_hub import STEPS
from willis.shared.errors import QuorumMissed, UpdateRefused
from willis.shared.secure_sum.noise import discrete_gaussian
from willis.shared.secure_sum.privacy import honest_multiplier

UNLIKELY = 1e-6  # right noise fails a test so often


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_the_sum_is_exact_to_the_step(n):
    agreed = terms(n)
    units = draw_units(agreed, seed=n)
    result = Round(agreed).run(units)
    assert result.survivors == agreed.sites
    steps = result.total / result.step
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_array_equal(steps, plain_sum(agreed, units, agreed.sites))


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 6), st.integers(0, 2**31), st.floats(0.3, 100), st.floats(1e-3, 1e3))
def test_the_sum_is_exact_for_any_terms(n, seed, noise, clip):
    agreed = terms(n, noise_multiplier=noise, clip_norm=clip, length=3, units=4)
    units = {name: [unit * clip for unit in mine] for name, mine in draw_units(agreed, seed=seed).items()}
    result = Round(agreed).run(units)
    # The witness divides in another order: a coordinate within 1e-6 of a half step may round to either side.
    np.testing.assert_allclose(result.total / result.step, plain_sum(agreed, units, agreed.sites), atol=1)
    real = sum(
        (unit * min(1.0, clip / np.linalg.norm(unit)) for mine in units.values() for unit in mine),
        np.zeros(3),
    )
    np.testing.assert_allclose(result.total, real, atol=0.002 * clip * 3 * n)


@pytest.mark.parametrize("step", range(5))
def test_a_site_that_drops_at_any_step_is_recovered(step):
    agreed = terms(4)
    units = draw_units(agreed)
    result = Round(agreed, change=losing({"c": step})).run(units)
    # Whose masked sum came (it went silent at step 3 or later) counts; whose did not, does not.
    assert result.survivors == (("a", "b", "d") if step <= 2 else ("a", "b", "c", "d"))
    np.testing.assert_array_equal(result.total / result.step, plain_sum(agreed, units, result.survivors))


@pytest.mark.parametrize("steps", [(0, 2), (1, 2), (2, 2), (2, 3), (0, 4), (3, 4), (1, 3)])
def test_two_of_six_that_drop_at_different_steps_are_recovered(steps):
    agreed = terms(6)
    units = draw_units(agreed)
    drops = dict(zip("be", steps, strict=True))
    result = Round(agreed, change=losing(drops)).run(units)
    assert result.survivors == tuple(name for name in agreed.sites if drops.get(name, 5) > 2)
    np.testing.assert_array_equal(result.total / result.step, plain_sum(agreed, units, result.survivors))


@pytest.mark.parametrize("step", range(5))
def test_below_the_quorum_the_step_says_so_and_nothing_is_opened(step):
    play = Round(terms(4), change=losing({"b": step, "c": step}))
    with pytest.raises(QuorumMissed, match=rf"step {step} .*2 of 4 sites sent a {STEPS[step]}.*\['b', 'c'\]"):
        play.run(draw_units(terms(4)))


def test_an_answer_that_comes_after_all_mends_a_missed_quorum():
    agreed = terms(4)
    play = Round(agreed)
    for name in "ab":
        play.send(0, name, play.sites[name].advertise())
    with pytest.raises(QuorumMissed):
        play.hub.cards()
    assert play.hub.awaited() == ("c", "d")
    play.send(0, "c", play.sites["c"].advertise())
    assert [card.site for card in play.hub.cards().cards] == ["a", "b", "c"]
    assert play.hub.awaited() == ("a", "b", "c")
    with pytest.raises(UpdateRefused, match="d is not asked for a sealed shares"):
        play.hub.take("d", b"")
    with pytest.raises(ValueError, match="cannot end in step 1"):
        play.hub.survivors()


def test_no_units_at_all_is_a_sum_of_zero():
    assert not Round(terms(3)).run({name: [] for name in ALL}).total.any()


@pytest.mark.parametrize("drops", [{}, {"c": 0}, {"c": 2}, {"c": 3}], ids=str)
def test_the_noise_of_the_sum_has_the_variance_it_says(drops):
    agreed = terms(4, quorum=3, colluders=1, length=1_500, noise_multiplier=3.0)
    units = draw_units(agreed, per_site=1)
    result = Round(agreed, noise=discrete_gaussian, change=losing(drops)).run(units)
    noise = result.total / result.step - plain_sum(agreed, units, result.survivors)
    spread = float(((noise * result.step / result.noise_std) ** 2).sum())
    assert UNLIKELY < stats.chi2.cdf(spread, agreed.length) < 1 - UNLIKELY
    # What it says: of n survivors, two (quorum less colluders) make up what the accountant is told.
    n = len(result.survivors)
    assert result.noise_std == pytest.approx(3.0 * math.sqrt(n / 2), rel=1e-9)
    assert honest_multiplier(agreed, honest=2) >= 3.0


def test_noise_differs_from_coordinate_to_coordinate_and_round_to_round():
    agreed = terms(3, length=50)
    nothing = {name: [] for name in ALL}
    first, second = (Round(agreed, noise=discrete_gaussian).run(nothing).total for _ in range(2))
    assert len(set(first) | set(second)) == 100
