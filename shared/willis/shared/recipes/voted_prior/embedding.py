"""A public embedding of labelled patches, without downloads: random convolutions and the statistics.

A stack of convolutions with random weights from a public seed, which sees image and label together; of
every level each channel's mean and standard deviation. Those are standardised on prior draws, cut, and
whitened to a few directions; beside them stand the statistics of ``statistics``, in the prior's own
standard deviations. Each of the two parts has mean square 1 on prior draws, so that neither drowns the other.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.cloud.statistics import STATISTICS, patch_statistics

_WIDTHS = (2, 16, 32, 32, 32)  # channels in, then of every level
_DIRECTIONS = 24
_CUT = 4.0
_AT_ONCE = 64
_CONVOLUTION = {2: nn.functional.conv2d, 3: nn.functional.conv3d}
_POOL = {2: nn.functional.avg_pool2d, 3: nn.functional.avg_pool3d}
N_CONVOLVED = 2 * sum(_WIDTHS[1:])
LENGTH = _DIRECTIONS + len(STATISTICS)
SHAPES: Mapping[str, tuple[int, ...]] = {
    "convolved_mean": (N_CONVOLVED,),
    "convolved_std": (N_CONVOLVED,),
    "whitening": (N_CONVOLVED, _DIRECTIONS),
    "statistics_mean": (len(STATISTICS),),
    "statistics_std": (len(STATISTICS),),
}


@torch.no_grad()
def convolved(patches: LabelledPatches, *, seed: int) -> Float[ndarray, "patch feature"]:
    """Return mean and standard deviation of every channel at every level of the random convolutions.

    Sides shrink by half between levels, as long as one of them has 4 pixels left. It is one channel of the
    image, the first, that is seen beside the label.
    """
    dimensions = patches.ndim - 2
    both = patches.float()[:, [0, -1]]
    weights = _weights(dimensions, seed)
    parts = []
    for first in range(0, len(both), _AT_ONCE):
        hidden, found = both[first : first + _AT_ONCE], []
        for weight in weights:
            hidden = nn.functional.leaky_relu(_CONVOLUTION[dimensions](hidden, weight, padding=1), 0.2)
            flat = hidden.flatten(2)
            found += [flat.mean(2), flat.std(2, correction=0)]
            if min(hidden.shape[2:]) >= 4:
                hidden = _POOL[dimensions](hidden, 2)
        parts.append(torch.cat(found, 1))
    return torch.cat(parts).double().numpy() if parts else np.empty((0, N_CONVOLVED))


def fit_embedding(patches: LabelledPatches, *, seed: int) -> dict[str, Float[ndarray, "..."]]:
    """Return the arrays of an embedding (``SHAPES``), standardised and whitened on public patches."""
    features, statistics = convolved(patches, seed=seed), patch_statistics(patches)
    known = np.isfinite(statistics)
    count = np.maximum(known.sum(0), 1)
    middle = np.where(known, statistics, 0).sum(0) / count
    spread = np.sqrt((np.where(known, statistics - middle, 0) ** 2).sum(0) / count)
    mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
    _, values, directions = np.linalg.svd(np.clip((features - mean) / std, -_CUT, _CUT), full_matrices=False)
    whitening = np.zeros((N_CONVOLVED, _DIRECTIONS))
    kept = min(_DIRECTIONS, int((values > 1e-6 * values[0]).sum()))
    whitening[:, :kept] = directions[:kept].T / values[:kept] * np.sqrt(len(features))
    return {
        "convolved_mean": mean,
        "convolved_std": std,
        "whitening": whitening,
        "statistics_mean": middle,
        "statistics_std": np.where(spread > 1e-6, spread, 1.0),
    }


def embed(
    patches: LabelledPatches, arrays: Mapping[str, Float[ndarray, "..."]], *, seed: int
) -> Float[ndarray, "patch direction"]:
    """Return the embedding of every patch, of root mean square length about sqrt(2) on prior draws."""
    scaled = (convolved(patches, seed=seed) - arrays["convolved_mean"]) / arrays["convolved_std"]
    whitened = np.clip(scaled, -_CUT, _CUT) @ arrays["whitening"]
    z = (patch_statistics(patches) - arrays["statistics_mean"]) / arrays["statistics_std"]
    z = np.clip(np.nan_to_num(z, nan=0.0), -_CUT, _CUT)
    return np.concatenate([whitened / np.sqrt(_DIRECTIONS), z / np.sqrt(len(STATISTICS))], axis=1)


def _weights(dimensions: int, seed: int) -> list[Tensor]:
    """Draw kernels of side 3 with the variance that keeps a leaky unit's output about as large (He 2015)."""
    dice = public_generator(seed, "random convolutions", dimensions)
    kernels = []
    for inputs, outputs in pairwise(_WIDTHS):
        shape = (outputs, inputs, *[3] * dimensions)
        kernels.append(torch.randn(shape, generator=dice) * (2 / (inputs * 3**dimensions)) ** 0.5)
    return kernels
