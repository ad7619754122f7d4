"""What private sums cost: from sampling rate, noise and steps to epsilon at delta, and back.

The figure is the privacy loss distribution of dp-accounting (PLD; Koskela 2020, Doroshenko 2022), rounded
up. Opacus' PRV accountant (Gopi 2021) is the independent witness and Renyi DP (Mironov 2017) the upper
bound. Opacus' gdp accountant is a central-limit approximation, underestimates, and is never used.
Neighbours add or remove one unit; who takes part in a step is drawn by Poisson.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy import stats

from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation

ACCOUNTANT = f"PLD (dp-accounting {version('dp-accounting')})"
SMALLEST_NOISE, LARGEST_NOISE = 0.01, 1e6
SMALLEST_DELTA = 1e-10  # below it the rounding of the Fourier transform is no longer small beside delta
_MOST_STEPS = 10**9
_WHOLE_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024, 2048)
_FRACTIONAL_ORDERS = (*(1 + np.geomspace(1e-3, 0.95, 25)), 2.25, 2.5, 2.75, 3.5, 4.5, 5.5)
_FRACTIONAL_NOISE = 0.2  # above it the series of a fractional order may not converge
_COARSEST = 500.0  # grid interval of losses; e ** interval must be a number
_FEW, _MANY = 1e-9, 1e-25  # chances of so few or so many patches are rounded to the worse side
_MOST_CELLS = 1_000_000  # grid points times atoms of a patient's mixture: about 1.5 s
_PRV_LARGEST = 100.0  # epsilon above which the witness would need gigabytes

Mechanism = tuple[float, float, int]  # sampling rate, noise multiplier, steps


@dataclass(frozen=True, order=True)
class MechanismRun:
    """Equal steps of the Poisson-subsampled Gaussian mechanism.

    Attributes:
        sampling_rate: Chance that a unit takes part in one step, in (0, 1].
        noise_multiplier: Standard deviation of the noise in units of the clip, 0.01 to 1e6.
        steps: How many, at least 1; each is one fresh draw of units and of noise.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        _check_rate_and_steps(self.sampling_rate, self.steps)
        if not SMALLEST_NOISE <= self.noise_multiplier <= LARGEST_NOISE:
            raise ValueError(
                f"noise_multiplier must lie in [{SMALLEST_NOISE:g}, {LARGEST_NOISE:g}], "
                f"got {self.noise_multiplier}"
            )


def epsilon(runs: Sequence[MechanismRun], *, delta: float) -> float:
    """Return the epsilon of all runs together, by PLD, rounded up.

    Guarantees:
        An upper bound for adaptive composition, and independent of the order of the runs.

    Edge cases:
        No runs cost 0. A sampling rate of 1 is the plain Gaussian mechanism. Above about 1e8 the grid
        of losses would be too large, and the bound by Renyi DP is returned.

    Raises:
        ValueError: ``delta`` lies outside [1e-10, 1).
    """
    _check_delta(delta)
    return _pld_epsilon(_merged(runs), delta)


def epsilon_rdp(runs: Sequence[MechanismRun], *, delta: float) -> float:
    """Return an upper bound on epsilon by Renyi DP (Mironov 2017, 2019); 5 to 14 % above PLD as a rule."""
    _check_delta(delta)
    return _rdp_epsilon(_merged(runs), delta)


def epsilon_prv(runs: Sequence[MechanismRun], *, delta: float) -> float:
    """Return the upper estimate of Opacus' PRV accountant (Gopi 2021), which shares no code with PLD.

    Raises:
        ValueError: Epsilon may exceed 100: its grid would take gigabytes.
    """
    _check_delta(delta)
    merged = _merged(runs)
    if not merged:
        return 0.0
    bound = _rdp_epsilon(merged, delta)
    if not bound <= _PRV_LARGEST:
        raise ValueError(f"PRV is bounded to epsilon {_PRV_LARGEST:g}, these runs may cost {bound:.4g}")
    # Imported here: only the witness needs Opacus, which takes seconds to load.
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, rate, steps) for rate, noise, steps in merged]
    with np.errstate(divide="ignore"):  # log(1 - rate) at rate 1
        return max(0.0, float(accountant.get_epsilon(delta, eps_error=max(1e-4, 1e-3 * bound))))


@lru_cache(maxsize=256)
def noise_multiplier(*, epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier whose PLD epsilon is at most ``epsilon``.

    Guarantees:
        The returned multiplier keeps the bound; one smaller by 0.1 % would not.

    Raises:
        ValueError: A value is impossible, or the multiplier would lie outside [0.01, 1e6].
    """
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    _check_delta(delta)
    _check_rate_and_steps(sampling_rate, steps)

    def fits(noise: float) -> bool:
        return _pld_epsilon(((sampling_rate, noise, steps),), delta) <= epsilon

    high = 1.0
    while _rdp_epsilon(((sampling_rate, high, steps),), delta) > epsilon or not fits(high):
        high *= 2
        if high > LARGEST_NOISE:
            raise ValueError(
                f"epsilon {epsilon:g} needs noise above {LARGEST_NOISE:g} clips: nothing is left"
            )
    low = high / 2
    while fits(low):
        high, low = low, low / 2
        if low < SMALLEST_NOISE:
            raise ValueError(
                f"epsilon {epsilon:g} needs noise below {SMALLEST_NOISE:g} clips: not a protection"
            )
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def patient_epsilon(
    runs: Sequence[MechanismRun], *, patches_per_patient: int | None, delta: float
) -> tuple[float | None, str]:
    """Return what patch-level runs mean for a whole patient, with all patches added or removed at once.

    Of a patient's m patches a step draws Binomial(m, q), and the sum moves by at most so many clips: a
    mixture of Gaussians dominates the step (Choquette-Choo 2024, corollary 4.7). Where its PLD is not
    affordable, Renyi DP of the coarser step in which a patient takes part with all m patches or none.

    Args:
        runs: Runs whose unit is the patch.
        patches_per_patient: The most that any one patient has, if anybody knows.
        delta: At which the figure holds for the patient too.

    Returns:
        Epsilon (None where no finite figure is known) and a sentence how it was got.
    """
    _check_delta(delta)
    if patches_per_patient is None:
        return None, "no figure: the most patches that a patient has were not given"
    if not (isinstance(patches_per_patient, int) and 1 <= patches_per_patient <= _MOST_STEPS):
        raise ValueError(f"patches_per_patient must be a whole number from 1, got {patches_per_patient}")
    merged, group = _merged(runs), f"{patches_per_patient} patches per patient, add or remove all"
    if not merged:
        return 0.0, f"nothing was released; {group}"
    figure = _mixture_epsilon(merged, patches_per_patient, delta)
    if math.isfinite(figure):
        return figure, f"group accounting by PLD of a mixture of Gaussians, {group}"
    m = patches_per_patient
    figure = _rdp_epsilon(tuple((1 - (1 - rate) ** m, noise / m, n) for rate, noise, n in merged), delta)
    note = f"upper bound by RDP as if a patient's patches were drawn all or none, {group}"
    return (figure if math.isfinite(figure) else None), note


def spent(
    runs: Sequence[MechanismRun], *, delta: float, unit: PrivacyUnit, patches_per_patient: int | None = None
) -> PrivacySpent:
    """Return the complete figure of all runs; for unit ``patch`` with what it means for a patient."""
    figure, note = None, ""
    if unit is PrivacyUnit.PATCH:
        figure, note = patient_epsilon(runs, patches_per_patient=patches_per_patient, delta=delta)
    return PrivacySpent(
        epsilon=epsilon(runs, delta=delta),
        delta=delta,
        unit=unit,
        relation=Relation.ADD_OR_REMOVE,
        accountant=ACCOUNTANT,
        patient_epsilon=figure,
        patient_note=note,
    )


def _check_delta(delta: float) -> None:
    if not SMALLEST_DELTA <= delta < 1:
        raise ValueError(f"delta must lie in [{SMALLEST_DELTA:g}, 1), got {delta}")


def _check_rate_and_steps(sampling_rate: float, steps: int) -> None:
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"sampling_rate must lie in (0, 1], got {sampling_rate}")
    if not (isinstance(steps, int) and 1 <= steps <= _MOST_STEPS):
        raise ValueError(f"steps must be a whole number from 1 to {_MOST_STEPS}, got {steps!r}")


def _merged(runs: Sequence[MechanismRun]) -> tuple[Mechanism, ...]:
    """Add up the steps of equal mechanisms, and sort: one key for the caches, whatever the order."""
    steps: defaultdict[tuple[float, float], int] = defaultdict(int)
    for run in runs:
        steps[run.sampling_rate, run.noise_multiplier] += run.steps
    return tuple((*mechanism, count) for mechanism, count in sorted(steps.items()))


def _event(merged: tuple[Mechanism, ...]) -> dp_event.DpEvent:
    events: list[dp_event.DpEvent] = []
    for rate, noise, steps in merged:
        plain = dp_event.GaussianDpEvent(noise)
        step = dp_event.PoissonSampledDpEvent(rate, plain) if rate < 1 - 1e-9 else plain
        events.append(dp_event.SelfComposedDpEvent(step, steps))
    return dp_event.ComposedDpEvent(events)


@lru_cache(maxsize=4096)
def _rdp_epsilon(merged: tuple[Mechanism, ...], delta: float) -> float:
    if not merged:
        return 0.0
    converges = all(rate == 1 or noise <= _FRACTIONAL_NOISE for rate, noise, _ in merged)
    orders = (*_FRACTIONAL_ORDERS, *_WHOLE_ORDERS) if converges else _WHOLE_ORDERS
    return float(RdpAccountant(orders).compose(_event(merged)).get_epsilon(delta))


@lru_cache(maxsize=4096)
def _pld_epsilon(merged: tuple[Mechanism, ...], delta: float) -> float:
    if not merged:
        return 0.0
    bound = _rdp_epsilon(merged, delta)
    interval = _grid(merged, bound)
    if interval > _COARSEST:
        return bound
    accountant = PLDAccountant(value_discretization_interval=interval)
    # e ** -loss of a very large loss is 0, and what is divided by it infinite: dp-accounting rounds up.
    with np.errstate(over="ignore"):
        return float(accountant.compose(_event(merged)).get_epsilon(delta))


def _grid(merged: tuple[Mechanism, ...], bound: float) -> float:
    """Return the grid of privacy losses: the error stays near 1e-4 of epsilon, the memory bounded.

    Rounding up by connecting the dots (Doroshenko 2022) costs about interval ** 2 / 2 a step.
    """
    steps = sum(count for _, _, count in merged)
    # Steps at rate 1 make one Gaussian before they meet the grid.
    ratios = [math.sqrt(count if rate == 1 else 1) / noise for rate, noise, count in merged]
    widest = max(0.5 * ratio**2 + 12 * ratio for ratio in ratios)
    fine = min(bound / 1e3, math.sqrt(2e-4 * bound / steps))
    return max(fine, widest / 5e5, bound / 1e6, 1e-8)


@lru_cache(maxsize=512)
def _mixture_epsilon(merged: tuple[Mechanism, ...], patches: int, delta: float) -> float:
    """Refine the grid until its error is below 0.5 % or the work too much; every grid's figure is valid."""
    mixtures = [(*_drawn(patches, rate), noise, steps) for rate, noise, steps in merged]
    atoms = sum(len(counts) for counts, *_ in mixtures)
    ratios: list[float] = []
    events: list[dp_event.DpEvent] = []
    for counts, chances, noise, steps in mixtures:
        plain = len(counts) == 1  # such steps make one Gaussian before they meet the grid, as in _grid
        likely = max(n for n, chance in zip(counts, chances, strict=True) if chance > 1e-20)
        ratios.append(likely * math.sqrt(steps if plain else 1) / noise)
        mixture = dp_event.MixtureOfGaussiansDpEvent(noise, counts, chances)
        step = dp_event.GaussianDpEvent(noise / likely) if plain else mixture
        events.append(dp_event.SelfComposedDpEvent(step, steps))
    widest = max(0.5 * ratio**2 + 12 * ratio for ratio in ratios)
    steps = sum(count for *_, count in mixtures)
    best, points = math.inf, max(min(2000, _MOST_CELLS // atoms), math.ceil(widest / _COARSEST))
    while points * atoms <= _MOST_CELLS:
        accountant = PLDAccountant(value_discretization_interval=widest / points)
        with np.errstate(over="ignore", invalid="ignore"):  # see _pld_epsilon
            best = min(best, float(accountant.compose(dp_event.ComposedDpEvent(events)).get_epsilon(delta)))
        if steps * (widest / points) ** 2 <= 0.01 * best < math.inf:
            break
        points *= 3
    return best


def _drawn(patches: int, rate: float) -> tuple[list[float], list[float]]:
    """Return the counts of a patient's patches in one step and their chances, rounded up where tiny."""
    counts = np.arange(patches + 1)
    chances = stats.binom.pmf(counts, patches, rate)
    first = int(np.flatnonzero(chances > _FEW)[0])
    last = int(np.flatnonzero(chances > _MANY)[-1])
    counts, chances = counts[first : last + 1], chances[first : last + 1]
    chances[0] = stats.binom.cdf(first, patches, rate)
    if last < patches:
        counts, chances = np.append(counts, patches), np.append(chances, stats.binom.sf(last, patches, rate))
    return counts.astype(float).tolist(), (chances / chances.sum()).tolist()
