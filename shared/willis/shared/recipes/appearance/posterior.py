"""Where a modality's statistics lie, from a noisy answer: Wiener's estimate under the prior's covariance."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.recipes.appearance.statistics import GROUPS, N_STATISTICS

_SQUARES_STD = 0.6  # how far a modality's mean squares may lie from the prior's 1, one standard deviation
_SMALLEST_SPREAD = 0.3
# Factors of the prior's covariance, of which the answer chooses one.
_WIDENINGS = tuple(2.0**power for power in range(8))
_LARGEST_SPREAD = 1.3


def posterior(
    answer: Float[ndarray, " coordinate"],
    precision: float,
    *,
    weight: Float[ndarray, " coordinate"],
    covariance: Float[ndarray, "statistic statistic"],
    distrust: float,
) -> tuple[Float[ndarray, " statistic"], Float[ndarray, " statistic"]]:
    """Return mean and spread of a modality's patches, in the prior's standard deviations.

    The modality's mean is normal about 0 with the prior draws' covariance, ``distrust ** 2`` added to its
    diagonal: a modality may differ from the prior in ways in which prior draws do not differ among
    themselves. Where the answer is likelier under a wider covariance, it is widened (empirical Bayes, one
    factor): a modality far outside is not pulled back. The mean square of a group is normal about 1.

    Guarantees:
        Without precision: mean 0 and spread 1, the prior. A statistic of weight 0 has them always.

    Args:
        answer: Mean of the subjects' vectors; statistics, then groups' squares less 1, times ``weight``.
        precision: 1 over the variance of the noise in each coordinate of it.
        weight: Factor of each coordinate.
        covariance: Of the prior draws' standardised statistics.
        distrust: See above.
    """
    asked = weight > 0
    mean, spread = np.zeros(N_STATISTICS), np.ones(N_STATISTICS)
    if not precision > 0:
        return mean, spread
    told = np.where(asked, answer / np.where(asked, weight, 1), 0).astype(np.float64)
    noise = 1 / (precision * np.where(asked, weight, 1).astype(np.float64) ** 2)
    own = np.flatnonzero(asked[:N_STATISTICS])
    prior = covariance[np.ix_(own, own)] + distrust**2 * np.eye(len(own))
    prior = prior * _widening(prior, noise[own], told[own])
    mean[own] = prior @ np.linalg.solve(prior + np.diag(noise[own]), told[own])
    for number, group in enumerate(GROUPS):
        at = N_STATISTICS + number
        members = np.flatnonzero(asked[group]) + group.start
        if asked[at] and len(members):
            square = 1 + told[at] * _SQUARES_STD**2 / (_SQUARES_STD**2 + noise[at])
            left = square - float(np.mean(mean[members] ** 2))
            spread[members] = np.clip(np.sqrt(max(left, 0)), _SMALLEST_SPREAD, _LARGEST_SPREAD)
    return mean, spread


def _widening(
    prior: Float[ndarray, "statistic statistic"],
    noise: Float[ndarray, " statistic"],
    told: Float[ndarray, " statistic"],
) -> float:
    """Return the factor of the prior's covariance under which the answer is likeliest."""

    def misfit(factor: float) -> float:
        whole = factor * prior + np.diag(noise)
        return float(np.linalg.slogdet(whole)[1] + told @ np.linalg.solve(whole, told))

    return min(_WIDENINGS, key=misfit)
