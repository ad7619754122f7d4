"""From a noisy mean to the next atlas: every number is trusted as far as it rises above the known noise.

Bins are alike, so their differences from the atlas so far are sums of contrasts: what all have in common,
what grows with the label's area, what goes with a bright lower half, and so on. Each contrast has a variance
in each band of frequencies, found by expectation-maximisation (empirical Bayes), that does not grow towards
finer bands; and the posterior mean is taken. A band that holds nothing but noise stays nearly where it was.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.atlas.layout import MOST, N_EMPTY, Layout, weights
from willis.shared.recipes.atlas.profile import profile_means
from willis.shared.recipes.contract import PooledMean
from willis.shared.update import Arrays

_BAND_ENDS = (3, 8, 16, 32, 64, 128, 256)  # waves between them share their variances
_EM_STEPS = 60
_SMALLEST = 1e-8  # variance of a contrast
_LEAST_SHARE = 0.03
_SHARE_VARIANCE = 0.05**2  # of a bin's share about the public one
_RATIO_VARIANCE = 0.5**2  # of a spread or power, over what is usual, about that
_LEAST_RATIO = 0.05

Table = Float[ndarray, "bin wave"]


def refined(state: Arrays, answer: PooledMean, layout: Layout, *, number: int) -> dict[str, np.ndarray]:
    """Return the atlas after round ``number``'s answer; nearly unchanged where that is all noise."""
    before = {name: np.asarray(array, np.float64) for name, array in state.items()}
    parts = layout.unpack(np.asarray(answer.mean, np.float64), number=number)
    std = {name: answer.std / weight for name, weight in weights(number).items()}
    share = before["share"] + _trust(_SHARE_VARIANCE, std["share"]) * parts["share"]
    share = np.maximum(share, _LEAST_SHARE) / np.maximum(share, _LEAST_SHARE).sum()
    empty, labelled = share[:N_EMPTY], share[N_EMPTY:]
    of_empty = posterior(parts["image"][:N_EMPTY], empty, std=std["image"])
    of_labelled = posterior(parts["image"][N_EMPTY:], labelled, std=std["image"])
    after = {
        "share": share,
        "image": before["image"] + np.concatenate([of_empty, of_labelled]),
        "border": before["border"] + posterior(parts["border"], labelled, std=std["border"]),
    }
    after["profile"] = before["profile"] + (parts["profile"] - before["profile"]) / number
    after["added"] = before["added"]
    for name in ("warp_spread", "power"):
        ratio = before[name] + _trust(_RATIO_VARIANCE, std[name]) * parts[name]
        after[name] = ratio.clip(_LEAST_RATIO, MOST) if number > 1 else before[name]
    return {name: array.astype(np.float32) for name, array in after.items()}


def _trust(variance: float, std: float) -> float:
    return variance / (variance + std**2)


def posterior(sums: Table, share: Float[ndarray, " bin"], *, std: float) -> Table:
    """Return the posterior mean of the bins' differences.

    Args:
        sums: Differences times shares, plus noise; waves from slow to fast.
        share: Of each bin.
        std: Of the noise.

    Edge cases:
        No noise: the differences themselves.
    """
    if not std > 0:
        return sums / share[:, None]
    contrasts = _contrasts(len(share))
    seen = share[:, None] * contrasts.T
    result, bound = np.empty_like(sums), np.full(len(contrasts), np.inf)
    starts = [0, *(end for end in _BAND_ENDS if end < sums.shape[1])]
    for start, end in zip(starts, [*starts[1:], sums.shape[1]], strict=True):
        mean, variance = _posterior(sums[:, start:end], seen, std, bound=bound)
        result[:, start:end] = contrasts.T @ mean
        bound = variance if start > 0 else bound
    return result


def _posterior(
    sums: Table, seen: Float[ndarray, "bin contrast"], std: float, *, bound: Float[ndarray, " contrast"]
) -> tuple[Float[ndarray, "contrast wave"], Float[ndarray, " contrast"]]:
    """Return the contrasts' mean given the sums, and the variances within the bound that explain them."""
    certain, slope = seen.T @ seen / std**2, seen.T @ sums / std**2
    variance = np.minimum(max(_SMALLEST, float((sums**2).mean() / (seen**2).mean())), bound)
    mean = np.zeros_like(slope)
    for _ in range(_EM_STEPS):
        spread = np.linalg.inv(certain + np.diag(1 / variance))
        mean = spread @ slope
        variance = np.clip((mean**2).mean(1) + np.diag(spread), _SMALLEST, bound)
    return mean, variance


def _contrasts(bins: int) -> Float[ndarray, "contrast bin"]:
    """Return orthonormal contrasts: constant, linear, curved over areas, times same, opposed over halves."""
    halves = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    areas = np.linalg.qr(np.vander(np.arange(bins // 2), increasing=True))[0].T
    return np.kron(areas, halves)


def lacking(
    profile: Float[ndarray, " place"], draws: LabelledPatches, *, std: float
) -> Float[ndarray, " place"]:
    """Return the grey across the border that an atlas' draws, made without any, lack.

    Args:
        profile: Mean over all patches of the sum at each place, as answered.
        draws: From the atlas.
        std: Of the profile's noise.
    """
    means, present = (table.mean(0).double().numpy() for table in profile_means(draws[:, 0], draws[:, 1]))
    have = np.maximum(present, _LEAST_SHARE)
    missing, noise = (profile - means) / have, (std / have) ** 2
    variance = max(0.0, float(((missing**2) - noise).mean()))
    return (missing * variance / (variance + noise + _SMALLEST)).astype(np.float32)
