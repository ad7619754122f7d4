r"""What a secure sum costs: epsilon for every number of honest sites, with whole-number noise accounted for.

Three steps lead from what is released (a sum of discrete Gaussians) to what the accountant knows (a
continuous one). Each says that two distributions on the whole numbers differ, coordinate by coordinate, by a
factor within exp(+-slack):

1. The sum of h draws of N_Z(0, s^2) is N_Z(0, h s^2) to within tau = 10 sum_{k=1}^{h-1} exp(-2 pi^2 s^2 k /
   (k + 1)) (Kairouz, Liu and Steinke 2021, theorem on sums of discrete Gaussians, from their bound for two).
2. N_Z(0, v^2) is a continuous N(0, v^2 - r^2) rounded at random to a whole number, z with chance in
   proportion to exp(-(z - x)^2 / 2 r^2), to within log((1 + theta) / (1 - theta)), theta = 2 sum_{k>=1}
   exp(-2 pi^2 r^2 k^2) (Poisson's summation; Peikert 2010, theorem 3.1). The rounding does not care for a
   shift by a whole number, so it is post-processing of the continuous Gaussian mechanism with v^2 - r^2.
3. Ratios multiply over d coordinates and T rounds: (epsilon, delta) of the continuous mechanism becomes
   (epsilon + 2 eta, exp(eta) delta), eta = T d (tau + 3 theta). Sampling by Poisson mixes both sides alike.

With r = 4 steps, and noise of 2 ** 20 steps a site, eta is below 1e-120 for any vector that the terms allow
and a billion rounds: it is computed and added, and does not show.
"""

import math
from dataclasses import dataclass

from willis.shared.accounting import MechanismRun
from willis.shared.accounting import epsilon as continuous_epsilon
from willis.shared.secure_sum.fixed_point import SMOOTHING, FixedPoint
from willis.shared.secure_sum.terms import SumTerms

ROUNDING_SLACK = 7 * math.exp(-2 * (math.pi * SMOOTHING) ** 2)
"""3 theta, rounded up: the slack of step 2 a coordinate; about 1e-136."""


@dataclass(frozen=True)
class HonestEpsilon:
    """What the sums of a study cost if so many of the sites in each are honest.

    Attributes:
        honest: Sites that stay to the end and keep their noise to themselves.
        noise_multiplier: Standard deviation of their noise together, in units of the clip.
        epsilon: At the delta asked for.
    """

    honest: int
    noise_multiplier: float
    epsilon: float


def sum_slack(honest: int, *, share_std: float) -> float:
    """Return tau of Kairouz, Liu and Steinke 2021: how far a sum of discrete Gaussians is from one of them.

    Args:
        honest: How many are summed, at least 1; one alone is exact.
        share_std: Standard deviation of each in steps, at least 1/2.
    """
    if not (honest >= 1 and share_std >= 0.5):
        raise ValueError(f"1 share and 1/2 step at least, got {honest} shares of {share_std} steps")
    twice = 2 * (math.pi * share_std) ** 2
    return 10 * sum(math.exp(-twice * k / (k + 1)) for k in range(1, honest))


def honest_multiplier(terms: SumTerms, *, honest: int) -> float:
    """Return the noise multiplier of so many honest sites, as the accountant takes it.

    Guarantees:
        At ``terms.honest`` sites it is at least ``terms.noise_multiplier``.
    """
    if not 1 <= honest <= len(terms.sites):
        raise ValueError(f"honest must lie in 1 to {len(terms.sites)}, got {honest}")
    numbers = FixedPoint.of(terms)
    return math.sqrt(honest * numbers.share_std**2 - SMOOTHING**2) / numbers.bound


def sum_std(terms: SumTerms, *, survivors: int) -> float:
    """Return the standard deviation of the noise in a sum over so many sites, in units of the vector.

    It is that of all of them, above what the accountant is told wherever more than ``terms.honest`` stay.
    """
    numbers = FixedPoint.of(terms)
    return math.sqrt(survivors) * numbers.share_std * numbers.step


def epsilon_if_honest(
    terms: SumTerms, *, honest: int, sampling_rate: float, steps: int, delta: float
) -> HonestEpsilon:
    """Return the epsilon of equal sums if so many of the sites in each are honest.

    Args:
        terms: Of one of the sums.
        honest: From 1 to all sites; below ``terms.honest`` more collude than was agreed.
        sampling_rate: Chance that a unit takes part in one sum.
        steps: How many sums.
        delta: At which.
    """
    multiplier = honest_multiplier(terms, honest=honest)
    share_std = FixedPoint.of(terms).share_std
    eta = steps * terms.length * (sum_slack(honest, share_std=share_std) + ROUNDING_SLACK)
    run = MechanismRun(sampling_rate=sampling_rate, noise_multiplier=multiplier, steps=steps)
    return HonestEpsilon(
        honest, multiplier, continuous_epsilon([run], delta=delta * math.exp(-eta)) + 2 * eta
    )


def epsilon_table(
    terms: SumTerms, *, sampling_rate: float, steps: int, delta: float
) -> tuple[HonestEpsilon, ...]:
    """Return :func:`epsilon_if_honest` for one honest site up to all of them."""
    return tuple(
        epsilon_if_honest(terms, honest=honest, sampling_rate=sampling_rate, steps=steps, delta=delta)
        for honest in range(1, len(terms.sites) + 1)
    )
