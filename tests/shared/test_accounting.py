"""Accounting: two independent accountants, an exact mechanism, hand arithmetic and monotony."""

import math
import re
import time

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from willis.shared.accounting import (
    MechanismRun,
    epsilon,
    epsilon_prv,
    epsilon_rdp,
    noise_multiplier,
    patient_epsilon,
    spent,
)
from willis.shared.privacy import PrivacyUnit

DELTA = 1e-5

rates = st.floats(0.01, 0.95)
noises = st.floats(0.8, 20)
counts = st.integers(1, 500)


def analytic_gaussian(noise: float, delta: float) -> float:
    """Balle and Wang 2018, theorem 8, at sensitivity 1: the exact epsilon of one Gaussian release."""

    def excess(eps: float) -> float:
        low = stats.norm.cdf(0.5 / noise - eps * noise)
        return float(low - math.exp(eps) * stats.norm.cdf(-0.5 / noise - eps * noise) - delta)

    return optimize.brentq(excess, 0, 200)  # pyright: ignore[reportReturnType]


def test_golden_value_of_the_design():
    # evaluation.md: sigma 4, q 0.25, 200 steps at delta 1e-5: PLD 3.95, PRV 3.96; RDP 4.29 (dp-accounting's
    # own orders, 4.30 with whole orders only).
    run = [MechanismRun(0.25, 4, 200)]
    assert epsilon(run, delta=DELTA) == pytest.approx(3.95, abs=0.005)
    assert epsilon_prv(run, delta=DELTA) == pytest.approx(3.96, abs=0.01)
    assert epsilon_rdp(run, delta=DELTA) == pytest.approx(4.29, abs=0.015)


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.9])
@pytest.mark.parametrize(("noise", "steps"), [(1.0, 20), (4.0, 200), (8.0, 40)])
def test_two_accountants_agree_and_renyi_lies_above(rate, noise, steps):
    run = [MechanismRun(rate, noise, steps)]
    figure = epsilon(run, delta=DELTA)
    assert epsilon_prv(run, delta=DELTA) == pytest.approx(figure, rel=0.01)
    assert figure * 0.999 < epsilon_rdp(run, delta=DELTA) < figure * 1.8


def test_two_accountants_agree_on_unlike_runs():
    runs = [MechanismRun(0.25, 4, 50), MechanismRun(0.5, 6, 20), MechanismRun(1, 10, 3)]
    assert epsilon_prv(runs, delta=DELTA) == pytest.approx(epsilon(runs, delta=DELTA), rel=0.01)


@pytest.mark.parametrize("noise", [0.7, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_one_step_of_everybody_is_the_analytic_gaussian(noise, delta):
    assert epsilon([MechanismRun(1, noise, 1)], delta=delta) == pytest.approx(
        analytic_gaussian(noise, delta), rel=1e-3
    )


def test_steps_of_everybody_add_up_as_gaussians_do():
    # n releases with noise sigma are one with sigma / sqrt(n): 9 at 6 are one at 2.
    assert epsilon([MechanismRun(1, 6, 9)], delta=DELTA) == pytest.approx(
        analytic_gaussian(2, DELTA), rel=1e-3
    )


@pytest.mark.parametrize("delta", [1e-5, 1e-10])
def test_the_transform_loses_nothing_at_small_delta(delta):
    # A rate of 1 - 1e-8 goes through the Fourier transform; the truth is within a hair of rate 1.
    near = epsilon([MechanismRun(1 - 1e-8, 4, 100)], delta=delta)
    assert near == pytest.approx(analytic_gaussian(0.4, delta), rel=2e-3)


def test_the_chosen_grid_is_fine_enough():
    for run in (MechanismRun(0.25, 4, 200), MechanismRun(0.01, 1, 5000), MechanismRun(0.25, 4, 1)):
        fine = PLDAccountant(value_discretization_interval=5e-5)
        step = dp_event.PoissonSampledDpEvent(
            run.sampling_rate, dp_event.GaussianDpEvent(run.noise_multiplier)
        )
        truth = fine.compose(step, run.steps).get_epsilon(DELTA)
        assert truth * (1 - 1e-4) <= epsilon([run], delta=DELTA) <= truth * 1.001


def test_nothing_costs_nothing():
    assert epsilon([], delta=DELTA) == epsilon_rdp([], delta=DELTA) == epsilon_prv([], delta=DELTA) == 0
    assert patient_epsilon([], patches_per_patient=7, delta=DELTA)[0] == 0


def test_equal_mechanisms_merge_and_order_does_not_matter():
    parts = [MechanismRun(0.25, 4, 30), MechanismRun(0.5, 9, 2), MechanismRun(0.25, 4, 70)]
    whole = [MechanismRun(0.5, 9, 2), MechanismRun(0.25, 4, 100)]
    assert epsilon(parts, delta=DELTA) == epsilon(parts[::-1], delta=DELTA) == epsilon(whole, delta=DELTA)


@settings(max_examples=5, deadline=None)
@given(rates, noises, counts)
def test_more_steps_a_higher_rate_or_less_noise_cost_more(rate, noise, steps):
    figure = epsilon([MechanismRun(rate, noise, steps)], delta=DELTA)
    room = 1e-3 * figure + 1e-9
    assert epsilon([MechanismRun(rate, noise, 2 * steps)], delta=DELTA) >= figure - room
    assert epsilon([MechanismRun(rate * 1.05, noise, steps)], delta=DELTA) >= figure - room
    assert epsilon([MechanismRun(rate, noise * 1.1, steps)], delta=DELTA) <= figure + room
    assert epsilon_rdp([MechanismRun(rate, noise, steps)], delta=DELTA) >= figure - room


@settings(max_examples=4, deadline=None)
@given(st.floats(0.3, 10), rates, counts)
def test_calibrated_noise_keeps_the_bound_and_is_the_least(target, rate, steps):
    noise = noise_multiplier(epsilon=target, delta=DELTA, sampling_rate=rate, steps=steps)
    assert epsilon([MechanismRun(rate, noise, steps)], delta=DELTA) <= target
    assert epsilon([MechanismRun(rate, noise * 0.997, steps)], delta=DELTA) > target


def test_calibration_inverts_the_analytic_gaussian():
    for noise in (0.8, 2.0, 7.0):
        target = analytic_gaussian(noise, 1e-3)
        got = noise_multiplier(epsilon=target, delta=1e-3, sampling_rate=1, steps=1)
        assert noise * 0.9995 <= got <= noise * 1.002


def test_calibration_is_quick_and_remembered():
    arguments = {"epsilon": 2.71, "delta": DELTA, "sampling_rate": 0.13, "steps": 1234}
    started = time.perf_counter()
    first = noise_multiplier(**arguments)
    assert time.perf_counter() - started < 5
    started = time.perf_counter()
    assert noise_multiplier(**arguments) == first
    assert time.perf_counter() - started < 0.01


def test_tiny_noise_is_bounded_and_never_underestimated():
    # Everybody, sigma 0.01, 10^9 steps: mu = sqrt(10^9) / 0.01, and epsilon > mu^2 / 2 for every delta < 1/2.
    assert epsilon([MechanismRun(1, 0.01, 10**9)], delta=DELTA) > 0.5 * 1e9 / 1e-4
    assert math.isfinite(epsilon([MechanismRun(0.5, 0.01, 10**9)], delta=DELTA))
    with pytest.raises(ValueError, match="PRV is bounded to epsilon 100"):
        epsilon_prv([MechanismRun(0.25, 0.1, 200)], delta=DELTA)


def test_patient_figure_has_the_design_s_orders():
    # method.md: patch epsilon 3 is patient 52 with 10 patches each and 7,413 with 200, worst case.
    noise = noise_multiplier(epsilon=3, delta=DELTA, sampling_rate=0.016, steps=1000)
    run = [MechanismRun(0.016, noise, 1000)]
    ten, how = patient_epsilon(run, patches_per_patient=10, delta=DELTA)
    many, _ = patient_epsilon(run, patches_per_patient=200, delta=DELTA)
    assert ten == pytest.approx(52, rel=0.1)
    assert many == pytest.approx(7413, rel=0.2)
    assert "mixture of Gaussians, 10 patches per patient" in how


def test_a_patient_of_one_patch_is_the_patch():
    run = [MechanismRun(0.2, 3, 50)]
    figure, _ = patient_epsilon(run, patches_per_patient=1, delta=DELTA)
    assert figure == pytest.approx(epsilon(run, delta=DELTA), rel=0.01)


def test_a_patient_always_drawn_is_a_gaussian_with_more_sensitivity():
    # m patches, all in every step: the sum moves by m clips, so the noise counts as sigma / m. 20 / 5 = 4.
    figure, _ = patient_epsilon([MechanismRun(1, 20, 4)], patches_per_patient=5, delta=DELTA)
    assert figure == pytest.approx(analytic_gaussian(2, DELTA), rel=0.01)


def test_patient_figure_lies_between_its_bounds():
    # Above the patch's own figure; below that of a patient whose patches are drawn all or none.
    run, m = MechanismRun(0.1, 5, 20), 6
    figure, _ = patient_epsilon([run], patches_per_patient=m, delta=DELTA)
    all_or_none = MechanismRun(1 - 0.9**m, run.noise_multiplier / m, run.steps)
    assert figure is not None
    assert epsilon([run], delta=DELTA) < figure < epsilon([all_or_none], delta=DELTA)


def test_patient_figure_where_the_mixture_is_too_much_work():
    run = [MechanismRun(0.016, 1.0, 1000)]
    figure, how = patient_epsilon(run, patches_per_patient=100_000, delta=DELTA)
    assert "upper bound by RDP" in how
    # 1,600 patches a step on average move the sum so many clips: 1000 steps of 1600 ** 2 / 2 at least.
    assert figure is not None
    assert figure > 1000 * 1600**2 / 2


def test_spent_is_complete():
    subject = spent([MechanismRun(0.25, 4, 200)], delta=DELTA, unit=PrivacyUnit.SUBJECT)
    assert subject.epsilon == pytest.approx(3.95, abs=0.005)
    assert subject.accountant.startswith("PLD (dp-accounting 0.6")
    assert (subject.patient_epsilon, subject.patient_note) == (None, "")
    unknown = spent([MechanismRun(0.25, 4, 200)], delta=DELTA, unit=PrivacyUnit.PATCH)
    assert unknown.patient_epsilon is None
    assert "were not given" in unknown.sentence()
    known = spent([MechanismRun(0.25, 4, 200)], delta=DELTA, unit=PrivacyUnit.PATCH, patches_per_patient=4)
    assert known.patient_epsilon is not None
    assert known.patient_epsilon > known.epsilon


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ({"sampling_rate": 0.0}, "sampling_rate must lie in (0, 1], got 0.0"),
        ({"sampling_rate": 1.5}, "got 1.5"),
        ({"sampling_rate": math.nan}, "got nan"),
        ({"noise_multiplier": 0.0}, "got 0.0"),
        ({"noise_multiplier": 1e-3}, "got 0.001"),
        ({"noise_multiplier": math.nan}, "got nan"),
        ({"noise_multiplier": math.inf}, "got inf"),
        ({"steps": 0}, "got 0"),
        ({"steps": 2.5}, "got 2.5"),
    ],
)
def test_an_impossible_run_is_refused(bad, shown):
    good = {"sampling_rate": 0.5, "noise_multiplier": 1.0, "steps": 1}
    with pytest.raises(ValueError, match=re.escape(shown)):
        MechanismRun(**(good | bad))


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"epsilon": math.nan}, "got nan"),
        ({"epsilon": 1e9}, "needs noise below 0.01"),
        ({"epsilon": 1e-8, "steps": 10**9}, "needs noise above 1e+06"),
        ({"delta": 0.0}, "delta must lie in [1e-10, 1), got 0.0"),
        ({"delta": 1.0}, "got 1.0"),
        ({"delta": math.nan}, "got nan"),
        ({"sampling_rate": -0.1}, "got -0.1"),
        ({"steps": -3}, "got -3"),
    ],
)
def test_an_impossible_calibration_is_refused(bad, shown):
    good = {"epsilon": 1.0, "delta": DELTA, "sampling_rate": 0.5, "steps": 10}
    with pytest.raises(ValueError, match=re.escape(shown)):
        noise_multiplier(**(good | bad))


@pytest.mark.parametrize("m", [0, -1, 2.5])
def test_an_impossible_number_of_patches_is_refused(m):
    with pytest.raises(ValueError, match=f"got {m}"):
        patient_epsilon([MechanismRun(0.5, 1, 1)], patches_per_patient=m, delta=DELTA)
