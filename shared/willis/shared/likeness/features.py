"""``randconv``: features of labelled patches from random convolutions, without downloads.

The convolutions run over image channels and label together, so that a label that does not fit its image is
seen; an encoder of images alone is blind to it. Nothing is learned but a scale, on real training patches.

They see levels, contrast and what lies where better than fine texture: a mild blur of the images hardly moves
them. Read the grey levels of ``morpho13`` and MS-SSIM beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.likeness.frechet import TrainingScale
from willis.shared.likeness.patches import check_patches

DIRECTIONS = 24
_WIDTHS = (16, 32, 32, 32)  # channels of the four levels
_LEAST_VARIANCE = 1e-9  # of the largest; below it a direction is rounding
_AT_ONCE = 64
_CONVOLUTION = {2: nn.functional.conv2d, 3: nn.functional.conv3d}
_POOL = {2: nn.functional.avg_pool2d, 3: nn.functional.avg_pool3d}

Kernels = Sequence[Float[Tensor, "..."]]  # each (outputs, inputs, *side)


@dataclass(frozen=True)
class RandomFeatures:
    """An extractor with random kernels from a seed, and the scale of real training patches.

    Four levels of convolutions of side 3 with leaky ReLU (0.2), halved between levels while the shortest side
    has 4 pixels; of every level each channel's mean and standard deviation. Those 224 figures are taken in
    standard deviations of the training patches, cut at 4, and whitened to the 24 directions in which the
    training patches vary most.

    Attributes:
        kernels: Of the four levels.
        scale: Of the 224 figures.
        middle: Mean of the scaled figures over the training patches.
        whitening: From scaled figures to directions, each of variance 1 over the training patches.
    """

    kernels: Kernels
    scale: TrainingScale
    middle: Float[Tensor, " figure"]
    whitening: Float[Tensor, "figure direction"]

    @classmethod
    def fitted_on(cls, training: Float[Tensor, "patch channel *space"], *, seed: int) -> "RandomFeatures":
        """Draw the kernels and take the scale from real training patches.

        Args:
            training: Real labelled patches, 2-D or 3-D, any number of image channels.
            seed: Names the kernels; figures of two seeds are not comparable.

        Raises:
            ValueError: Patches are unfit, too few, or vary in fewer than 24 directions.
        """
        check_patches(training, place="training patches")
        if not len(training) > DIRECTIONS:
            raise ValueError(
                f"random features are whitened on at least {DIRECTIONS + 1} training patches, "
                f"got {len(training)}: give more real patches"
            )
        kernels = _kernels(training.shape[1], training.ndim - 2, seed=seed)
        raw = _level_statistics(training, kernels)
        scale = TrainingScale.fitted_on(raw)
        scaled = scale.of(raw)
        middle = scaled.mean(0)
        return cls(kernels, scale, middle, _whitening(scaled - middle))

    def of(self, patches: Float[Tensor, "patch channel *space"]) -> Float[Tensor, "patch 24"]:
        """Return the features of patches, each from its patch alone.

        Raises:
            ValueError: Patches are unfit, or have other channels or axes than the training patches.
        """
        check_patches(patches)
        channels, dimensions = self.kernels[0].shape[1], self.kernels[0].ndim - 2
        if not (patches.shape[1] == channels and patches.ndim - 2 == dimensions):
            raise ValueError(
                f"patches must be {dimensions}-D with {channels} channels as the training patches, "
                f"got {tuple(patches.shape)}"
            )
        scaled = self.scale.of(_level_statistics(patches, self.kernels))
        return (scaled - self.middle) @ self.whitening


def _kernels(channels: int, dimensions: int, *, seed: int) -> Kernels:
    """Draw kernels with the variance that keeps a leaky unit's output about as large (He 2015, eq. 10)."""
    dice = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn((outputs, inputs, *[3] * dimensions), generator=dice)
        * (2 / (inputs * 3**dimensions)) ** 0.5
        for inputs, outputs in pairwise((channels, *_WIDTHS))
    )


@torch.no_grad()
def _level_statistics(
    patches: Float[Tensor, "patch channel *space"], kernels: Kernels
) -> Float[Tensor, "patch figure"]:
    return torch.cat([_block_statistics(block.float().cpu(), kernels) for block in patches.split(_AT_ONCE)])


def _block_statistics(
    hidden: Float[Tensor, "patch channel *space"], kernels: Kernels
) -> Float[Tensor, "patch figure"]:
    dimensions, found = hidden.ndim - 2, []
    for kernel in kernels:
        hidden = nn.functional.leaky_relu(_CONVOLUTION[dimensions](hidden, kernel, padding=1), 0.2)
        flat = hidden.flatten(2).double()
        found += [flat.mean(2), flat.std(2, correction=0)]
        if min(hidden.shape[2:]) >= 4:
            hidden = _POOL[dimensions](hidden, 2)
    return torch.cat(found, 1)


def _whitening(centred: Float[Tensor, "patch figure"]) -> Float[Tensor, "figure direction"]:
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = values[-DIRECTIONS:]
    if not bool((kept > _LEAST_VARIANCE * values[-1].clamp(min=_LEAST_VARIANCE)).all()):
        varied = int((values > _LEAST_VARIANCE * values[-1].clamp(min=_LEAST_VARIANCE)).sum())
        raise ValueError(
            f"training patches must vary in {DIRECTIONS} directions, got {varied}: "
            "are they copies of a few patches? give more different ones"
        )
    return vectors[:, -DIRECTIONS:] / kept.sqrt()
