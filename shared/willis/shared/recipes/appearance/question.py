"""What a subject is asked: how its patches look, counted from the prior's draws, in a vector of bounded norm.

A statistic is counted from the prior's mean, in the prior's standard deviation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.appearance.statistics import GROUPS, N_STATISTICS, measure

LENGTH = N_STATISTICS + len(GROUPS)
FURTHEST = 3.0  # standard deviations of the prior's that a patch's statistic counts at most


@dataclass(frozen=True, eq=False)
class AppearanceQuestion:
    """One subject's mean statistics and squares, counted from the prior's mean.

    Attributes:
        centre: Public mean of each statistic over the prior's draws.
        scale: Public standard deviation of it, or ``recipe.reach`` / 3; 0 where it is not asked for.
        weight: Factor of every coordinate.
        covariance: Of the prior draws' standardised statistics.
        distrust: See :func:`filled`.
    """

    centre: Float[ndarray, " statistic"]
    scale: Float[ndarray, " statistic"]
    weight: Float[ndarray, " coordinate"]
    covariance: Float[ndarray, "statistic statistic"]
    distrust: float

    @property
    def length(self) -> int:
        """One coordinate a statistic, one a group of them."""
        return LENGTH

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the subject's vector, of norm at most 1."""
        if len(patches) == 0:
            return torch.zeros(LENGTH)
        values = np.stack([measured(patch) for patch in patches.numpy()])
        found = features(standardised(values, self.centre, self.scale))
        asked = self.scale > 0
        found[:N_STATISTICS][asked] = filled(
            found[:N_STATISTICS][asked], self.covariance[np.ix_(asked, asked)], distrust=self.distrust
        )
        vector = self.weight * np.nan_to_num(found)
        return torch.from_numpy(vector / max(1.0, float(np.linalg.norm(vector)) * (1 + 1e-6))).float()


def standardised(
    values: Float[ndarray, "*patch statistic"],
    centre: Float[ndarray, " statistic"],
    scale: Float[ndarray, " statistic"],
) -> Float[ndarray, "*patch statistic"]:
    """Count statistics from the centre in scales, at most 3; NaN where missing or not asked for."""
    asked = np.where(scale > 0, scale, np.nan)
    return np.clip((values - centre) / asked, -FURTHEST, FURTHEST)


def features(scores: Float[ndarray, "patch statistic"]) -> Float[ndarray, " coordinate"]:
    """Return means over patches, then by group the mean square less 1; NaN for what no patch tells."""
    squares = [_mean(scores[:, group].reshape(-1, 1) ** 2 - 1) for group in GROUPS]
    return np.concatenate([_mean(scores), *squares])


def filled(
    means: Float[ndarray, " statistic"], covariance: Float[ndarray, "statistic statistic"], *, distrust: float
) -> Float[ndarray, " statistic"]:
    """Fill in what a subject's patches do not tell by what the prior expects of it, given what they tell.

    A subject without wide vessels says nothing about wide vessels. Were that counted as "as in the prior",
    the pooled mean would be pulled to the prior by as many subjects as say nothing.

    Args:
        means: Of a subject's patches; NaN where none tells.
        covariance: Of the prior draws.
        distrust: Standard deviation added to it, see :func:`~willis.shared.recipes.appearance.posterior`.
    """
    told = np.isfinite(means)
    if told.all() or not told.any():
        return np.nan_to_num(means)
    certain = covariance[np.ix_(told, told)] + max(distrust, 1e-3) ** 2 * np.eye(int(told.sum()))
    expected = covariance[np.ix_(~told, told)] @ np.linalg.solve(certain, means[told])
    whole = means.copy()
    whole[~told] = np.clip(expected, -FURTHEST, FURTHEST)
    return whole


def _mean(scores: Float[ndarray, "patch statistic"]) -> Float[ndarray, " statistic"]:
    told = np.isfinite(scores)
    return np.where(told.any(0), np.where(told, scores, 0).sum(0) / np.maximum(told.sum(0), 1), np.nan)


def covariance_of(scores: Float[ndarray, "patch statistic"]) -> Float[ndarray, "statistic statistic"]:
    """Mean products of the scores, each over the draws that tell both, made positive semi-definite."""
    told, values = np.isfinite(scores).astype(np.float64), np.nan_to_num(scores)
    products = values.T @ values / np.maximum(told.T @ told, 1)
    along, axes = np.linalg.eigh(products)
    return (axes * np.maximum(along, 0)) @ axes.T


def measured(patch: Float[ndarray, " channel *space"]) -> Float[ndarray, " statistic"]:
    """Return the statistics of one patch, its label the last channel."""
    return measure(patch[0], patch[-1] > 0).values
