"""Random Fourier features of an image and its label together (Rahimi and Recht 2007).

Image channels and label are averaged down to a coarse grid and stacked, so that the Gaussian kernel which
the features stand for compares what is where in both. A finer grid would leave distances to the noise of
single pixels.
"""

from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches

_POOL = {2: nn.functional.adaptive_avg_pool2d, 3: nn.functional.adaptive_avg_pool3d}


@dataclass(frozen=True, eq=False)
class FourierFeatures:
    """cos and sin of random projections.

    Attributes:
        projections: One frequency a column, for coarse patches.
        grid: Cells along each axis of a coarse patch.
    """

    projections: Float[Tensor, "cell frequency"]
    grid: tuple[int, ...]

    @property
    def length(self) -> int:
        """A cosine and a sine for each frequency."""
        return 2 * self.projections.shape[1]

    def of(self, patches: LabelledPatches) -> Float[Tensor, "patch feature"]:
        """Return the features of every patch, each row of norm 1; differentiable."""
        angles = coarse(patches, self.grid) @ self.projections.to(patches)
        return torch.cat([angles.cos(), angles.sin()], 1) / self.projections.shape[1] ** 0.5


def grid_for(size: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the coarse grid: every side divided by one whole number, so that none exceeds ``most``."""
    factor = ceil(max(size) / most)
    return tuple(max(1, side // factor) for side in size)


def coarse(patches: LabelledPatches, grid: tuple[int, ...]) -> Float[Tensor, "patch cell"]:
    """Return patches averaged down to a grid, one row each."""
    return _POOL[len(grid)](patches, grid).flatten(1)


def median_distance(cells: Float[Tensor, "patch cell"]) -> float:
    """Return the median distance between different patches: the usual bandwidth of the kernel."""
    return max(float(torch.nn.functional.pdist(cells).median()), 1e-6)


def draw_features(
    *, cells: int, grid: tuple[int, ...], frequencies: int, bandwidth: float, seed: int
) -> FourierFeatures:
    """Draw the frequencies of a Gaussian kernel of a bandwidth, from a public seed."""
    dice = public_generator(seed, "dp-merf", "frequencies")
    return FourierFeatures(torch.randn((cells, frequencies), generator=dice) / bandwidth, grid)
