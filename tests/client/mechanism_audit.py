"""What an auditor sees of the training step: a canary subject whose gradient is large and known.

The critic is linear, so the gradient of -f over a bag of ones is minus the vector of ones; every other
subject is zero and has no gradient. What the step returns, scaled back to the sum and projected on that
direction, is N(1, sigma^2) with the canary and N(0, sigma^2) without it: the Gaussian mechanism.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from torch import nn

from willis.client import critic_step
from willis.client.randomness import SecretRandom
from willis.client.store import FORMAT, Index, PatchStore
from willis.shared.study import Study

SUBJECTS, SIGNIFICANCE = 8, 1e-6


class LinearCritic(nn.Module):
    """f(x) = <w, x>."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(pixels))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return patches.flatten(1) @ self.weight


@dataclass(frozen=True)
class Sight:
    """What many steps returned, in units of the clip.

    Attributes:
        along: On the canary's direction, one number a step.
        across: On all directions at right angles to it, (step, direction).
    """

    along: np.ndarray
    across: np.ndarray


def canary_store(study: Study, *, canary: bool) -> PatchStore:
    """A store of zeros, with one subject of ones where the canary takes part."""
    shape = (SUBJECTS, study.patch.per_subject, study.patch.n_channels, *study.patch.size)
    patches = np.zeros(shape, np.float16)
    if canary:
        patches[0] = 1
    index = Index(
        format=FORMAT,
        key="0" * 64,
        spec=study.patch,
        spec_digest="0" * 64,
        n_subjects=SUBJECTS,
        patches=f"patches-{'0' * 16}.npy",
    )
    return PatchStore(index, patches.reshape(-1, *shape[2:]))


def watch(study: Study, *, canary: bool, sigma: float, steps: int, key: bytes) -> Sight:
    """Take private critic steps, as training does, and look at what they return."""
    pixels = study.patch.n_channels * math.prod(study.patch.size)
    critic, store = LinearCritic(pixels), canary_store(study, canary=canary)
    fakes = torch.zeros((2, study.patch.n_channels, *study.patch.size))
    chance = critic_step.Chance.keyed(SecretRandom(key))
    seen = []
    for _ in range(steps):
        (gradient,) = critic_step.private_critic_gradient(
            critic,
            fakes,
            store=store,
            study=study,
            declared_subjects=SUBJECTS,
            noise_multiplier=sigma,
            chance=chance,
        )
        scale = study.privacy.sampling_rate * SUBJECTS / study.privacy.clip_norm
        seen.append(-gradient.double().numpy() * scale)
    matrix = np.array(seen)
    along = matrix.sum(1) / math.sqrt(pixels)
    return Sight(along, matrix - along[:, None] / math.sqrt(pixels))


def epsilon_at_least(with_canary: np.ndarray, without: np.ndarray, *, delta: float) -> float:
    """Lower bound on epsilon from two samples that are normal, wrong with chance ``SIGNIFICANCE``.

    The two means and the larger standard deviation give a bound on mu = shift / deviation; a Gaussian
    mechanism of that mu has at least the returned epsilon (Balle and Wang 2018, theorem 8).
    """
    n = len(with_canary)
    deviation = math.sqrt((with_canary.var(ddof=1) + without.var(ddof=1)) / 2)
    largest = deviation * math.sqrt((2 * n - 2) / chi2.ppf(SIGNIFICANCE / 2, 2 * n - 2))
    shift = with_canary.mean() - without.mean() - norm.ppf(1 - SIGNIFICANCE / 2) * largest * math.sqrt(2 / n)
    if shift <= 0:
        return 0.0
    return gaussian_epsilon(min(shift / max(largest, 1e-9), 60.0), delta)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism with sensitivity over deviation ``mu``."""

    def excess(epsilon: float) -> float:
        log_second = epsilon + norm.logcdf(-mu / 2 - epsilon / mu)
        return float(norm.cdf(mu / 2 - epsilon / mu)) - math.exp(log_second) - delta

    if excess(0.0) <= 0:
        return 0.0
    root = brentq(excess, 0.0, mu * mu / 2 + 12 * mu + 50)
    assert isinstance(root, float)
    return root


def noise_ratio_is_odd(sight: Sight, sigma: float) -> bool:
    """Chi-squared test of the noise's variance, two-sided; also sees noise that is 1 % off its claim."""
    values = sight.across
    # One direction is projected out of every step.
    freedom = values.shape[0] * (values.shape[1] - 1)
    statistic = float((values**2).sum() / sigma**2)
    chance = float(chi2.cdf(statistic, freedom))
    return min(chance, 1 - chance) < SIGNIFICANCE / 2


def noise_repeats(sight: Sight, sigma: float) -> bool:
    """Chi-squared test of the differences between neighbouring steps: fresh noise has twice the variance."""
    steps = np.diff(sight.across, axis=0)[::2]
    freedom = steps.shape[0] * (steps.shape[1] - 1)
    return float(chi2.cdf(float((steps**2).sum() / (2 * sigma**2)), freedom)) < SIGNIFICANCE
