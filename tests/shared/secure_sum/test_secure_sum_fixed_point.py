"""Whole numbers of a secure sum: rounded units keep the bound, sums come back exactly."""

import math
from fractions import Fraction

import numpy as np
import pytest
from harness.sum_terms import terms
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import StudyError, UpdateRefused
from willis.shared.secure_sum import masks
from willis.shared.secure_sum.fixed_point import FixedPoint


def test_step_by_hand():
    # Two honest sites make up 2 clips of noise: each has 2 / sqrt(2) = 1.414, so 2 ** 20 steps of 2 ** -20.
    numbers = FixedPoint.of(terms())
    assert numbers.step == 2.0**-20
    assert numbers.bound == 2.0**20
    assert numbers.share_std == pytest.approx(math.sqrt(2) * 2**20, rel=1e-9)
    assert numbers.radius == pytest.approx(1 - math.sqrt(20) * 2.0**-21, rel=1e-8)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_rounded_unit_keeps_the_bound_in_integers(data):
    length = data.draw(st.sampled_from([1, 2, 7, 300]))
    agreed = terms(
        length=length,
        clip_norm=data.draw(st.floats(1e-3, 1e3)),
        noise_multiplier=data.draw(st.floats(0.3, 3e3)),
        units=1,
    )
    numbers = FixedPoint.of(agreed)
    scale = data.draw(st.sampled_from([1e-300, 1e-9, 1e-2, 1.0, 1e3, 1e30, 1e300]))
    values = np.random.default_rng(data.draw(st.integers(0, 10**9))).uniform(-1, 1, length)
    values[: data.draw(st.integers(0, length))] *= data.draw(st.floats(-1, 1))
    rounded = numbers.rounded(values * scale)
    squared = sum(int(value) ** 2 for value in rounded)  # Python's integers: no rounding, no overflow
    assert squared <= Fraction(numbers.bound) ** 2


def test_the_largest_terms_fit():
    many = tuple(sorted(f"site-{k}" for k in range(100)))
    agreed = terms(sites=many, quorum=51, length=10_000_000, noise_multiplier=1e6, units=1_000)
    numbers = FixedPoint.of(agreed)
    assert numbers.largest < 2**53
    assert 0.9989 < numbers.radius / agreed.clip_norm < 1
    assert numbers.share_std < 2**52


def test_a_vector_at_the_worst_halves_keeps_the_bound():
    # Every coordinate is at a half step, so all of them may round away from zero.
    numbers = FixedPoint.of(terms(length=10_000, noise_multiplier=1e4))
    level = math.floor(numbers.radius / numbers.step / 100) - 0.5
    rounded = numbers.rounded(np.full(10_000, level * numbers.step))
    assert sum(int(value) ** 2 for value in rounded) <= Fraction(numbers.bound) ** 2


def test_rounding_is_the_nearest_step_where_the_clip_does_not_bite():
    numbers = FixedPoint.of(terms(length=3))
    vector = np.array([0.25, -0.1, 3 * 2.0**-20])
    np.testing.assert_array_equal(numbers.rounded(vector), [2**18, round(-0.1 * 2**20), 3])


def test_clip_scales_down():
    numbers = FixedPoint.of(terms(length=2))
    np.testing.assert_allclose(numbers.rounded(np.array([30.0, 40.0])) * numbers.step, [0.6, 0.8], atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_counts_as_nothing(bad):
    assert not FixedPoint.of(terms(length=3)).rounded(np.array([0.1, bad, 0.2])).any()


def test_more_units_than_agreed_are_summed_for_a_refusal_would_count_them():
    numbers = FixedPoint.of(terms(length=2, units=2))
    total = numbers.total([np.array([1.0, 0.0])] * 3)
    np.testing.assert_allclose(total * numbers.step, [3.0, 0.0], rtol=2e-3)


def test_too_many_agreed_units_or_coordinates_are_refused():
    numbers = FixedPoint.of(terms(length=2, units=2))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        numbers.rounded(np.zeros(3))
    many = tuple(sorted(f"site-{k}" for k in range(100)))
    with pytest.raises(StudyError, match="could sum to"):
        FixedPoint.of(terms(sites=many, quorum=51, noise_multiplier=0.01, units=1_000_000))


def test_a_sum_comes_back_exactly_and_a_mask_left_in_it_is_seen():
    numbers = FixedPoint.of(terms(length=3))
    steps = np.array([0, -7, 5])
    np.testing.assert_array_equal(numbers.real(steps.view(np.uint64)), steps * numbers.step)
    with pytest.raises(UpdateRefused, match="a mask is left"):
        numbers.real(masks.self_mask(bytes(32), context="x", length=3))
