"""What the prior's parameters do to the statistics of a patch: many public draws and a regression on them.

A statistic of one patch holds what its parameters made of it and the chance of one draw. The regression
(ridge on values, squares and products of two, the penalty by leave-one-out) keeps the first and drops the
second, so that what is chosen later is chosen for its parameters and not for a lucky draw; what it
explains, left out, says how much a statistic tells about the parameters at all, and so what it is worth
asking for.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.recipes.cloud.parameters import ParameterSpace, public_dice
from willis.shared.recipes.cloud.statistics import patch_statistics

_FURTHEST = 3.0  # public standard deviations at which a patch's statistic is cut
_CHUNK = 256
_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
_CHIEF = 16  # parameters whose products are looked at
_LEAST_EXPLAINED = 0.05  # a feature of which the parameters explain less is not asked for


@dataclass(frozen=True, eq=False)
class Simulation:
    """Public draws of the prior, understood.

    Attributes:
        vectors: The draws' parameters.
        mean: Of every statistic over the draws.
        std: Standard deviation of every statistic over the draws; positive.
        expected: Features (see :func:`features`) that a vector's patches have in the mean, by regression.
        explained: Share of each feature's variance over patches that the parameters explain, left out.
    """

    vectors: Float[ndarray, "draw parameter"]
    mean: Float[ndarray, " statistic"]
    std: Float[ndarray, " statistic"]
    expected: Float[ndarray, "draw feature"]
    explained: Float[ndarray, " feature"]

    @property
    def weight(self) -> Float[ndarray, " feature"]:
        """What each feature is multiplied by before it is sent: the root of what it explains, or 0."""
        return np.sqrt(np.where(self.explained >= _LEAST_EXPLAINED, self.explained, 0))

    @property
    def size(self) -> float:
        """Root mean square length of a vector's expected features, weighed."""
        return max(float(np.sqrt(np.mean(np.sum((self.weight * self.expected) ** 2, 1)))), 1e-3)


def features(
    statistics: Float[ndarray, "patch statistic"],
    mean: Float[ndarray, " statistic"],
    std: Float[ndarray, " statistic"],
) -> Float[ndarray, "patch feature"]:
    """Return statistics in public standard deviations, and their squares, each within fixed bounds.

    A statistic is cut at 3 deviations; one that is not defined counts as the public mean. Squares are
    (z ** 2 - 1) / sqrt(2), of mean 0 and deviation 1 for a normal z: with the means they tell the spread.
    """
    z = np.clip(np.nan_to_num((statistics - mean) / std, nan=0.0), -_FURTHEST, _FURTHEST)
    return np.concatenate([z, (z**2 - 1) / np.sqrt(2)], axis=1)


@lru_cache(maxsize=4)
def simulated(space: ParameterSpace, *, seed: int, draws: int) -> Simulation:
    """Draw the prior at random parameters and regress its patches' features on them; the same every time."""
    generator = public_dice(seed, "tuned-prior", "simulations")
    vectors = space.draw(draws, generator)
    parts = [
        patch_statistics(space.patches(vectors[first : first + _CHUNK], generator))
        for first in range(0, draws, _CHUNK)
    ]
    statistics = np.concatenate(parts)
    mean, std = moments(statistics)
    expected, explained = _regress(space, vectors, features(statistics, mean, std))
    return Simulation(vectors, mean, std, expected, explained)


def moments(
    statistics: Float[ndarray, "patch statistic"],
) -> tuple[Float[ndarray, " statistic"], Float[ndarray, " statistic"]]:
    """Return mean and positive standard deviation of every statistic where it is defined; else 0 and 1."""
    defined = np.isfinite(statistics)
    count = np.maximum(defined.sum(0), 1)
    values = np.where(defined, statistics, 0)
    mean = values.sum(0) / count
    std = np.sqrt((np.where(defined, statistics - mean, 0) ** 2).sum(0) / count)
    return mean, np.where(std > 1e-6, std, 1.0)


def _regress(
    space: ParameterSpace,
    vectors: Float[ndarray, "draw parameter"],
    wanted: Float[ndarray, "draw feature"],
) -> tuple[Float[ndarray, "draw feature"], Float[ndarray, " feature"]]:
    """Return ridge predictions and what they explain: of values and squares, then also of products.

    Products are taken of those parameters alone that explain most by themselves: all of them would be more
    than there are draws.
    """
    unit = space.unit(vectors)[:, space.high > space.low]
    alone = np.concatenate([np.ones((len(unit), 1)), unit, unit**2 - 1 / 3], axis=1)
    slopes = np.linalg.lstsq(alone.T @ alone + np.eye(alone.shape[1]), alone.T @ wanted)[0]
    matters = (slopes[1:].reshape(2, -1, wanted.shape[1]) ** 2).sum((0, 2))
    chief = np.argsort(-matters, kind="stable")[:_CHIEF]
    first, second = np.triu_indices(len(chief), 1)
    together = unit[:, chief[first]] * unit[:, chief[second]]
    return _ridge(np.concatenate([alone, together], axis=1), wanted)


def _ridge(
    known: Float[ndarray, "draw product"], wanted: Float[ndarray, "draw feature"]
) -> tuple[Float[ndarray, "draw feature"], Float[ndarray, " feature"]]:
    """Return predictions and what they explain, left out; each feature at the penalty that does best."""
    left, values, _ = np.linalg.svd(known, full_matrices=False)
    within = left.T @ wanted
    total = ((wanted - wanted.mean(0)) ** 2).sum(0)
    best = np.full(wanted.shape[1], np.inf)
    expected = np.zeros_like(wanted)
    for penalty in _PENALTIES:
        kept = values**2 / (values**2 + penalty)
        fitted = left @ (kept[:, None] * within)
        leverage = np.minimum(left**2 @ kept, 0.999)
        error = (((wanted - fitted) / (1 - leverage)[:, None]) ** 2).sum(0)
        better = error < best
        best = np.where(better, error, best)
        expected[:, better] = fitted[:, better]
    explained = np.where(total > 1e-9, 1 - best / np.where(total > 1e-9, total, 1), 0)
    return expected, np.clip(explained, 0, 1)
