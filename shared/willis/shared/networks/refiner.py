"""The refiner: a prior draw with its exact label in, the same label under another image out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.build import public_generator
from willis.shared.study import Study

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_REACH = (1, 2, 4)  # dilation of each level: together they see 15 pixels


class Refiner(nn.Module):
    """A residual on the image, in the manner of SimGAN's refiner (Shrivastava 2017, section 2).

    It starts as the identity: its gain is zero (ReZero, Bachlechner 2020). The label passes through
    untouched, so it is exact and the prior's; the refiner sees it, and can make the target dark where the
    prior made it bright.

    Args:
        channels: Image channels and the label.
        width: Channels of the hidden levels.
        dimensions: 2 or 3.
        dice: Of the first weights.
    """

    def __init__(self, *, channels: int, width: int, dimensions: int, dice: torch.Generator) -> None:
        super().__init__()
        widths = (channels + 1, *[width] * (len(_REACH) - 1))
        self.levels = nn.ModuleList(
            _Level(inputs, width, dimensions, reach=reach, dice=dice)
            for inputs, reach in zip(widths, _REACH, strict=True)
        )
        self.to_image = _Change(width + channels, channels - 1, dimensions, dice=dice)

    def forward(
        self, patches: Float[Tensor, "patch channel *space"], texture: Float[Tensor, "patch 1 *space"]
    ) -> Float[Tensor, "patch channel *space"]:
        """Return the patches with their images changed, within [-1, 1].

        Args:
            patches: Prior draws.
            texture: One normal variate a pixel: grain that the prior's scanner did not make.
        """
        hidden = torch.cat([patches, texture], dim=1)
        for level in self.levels:
            hidden = level(hidden)
        change = self.to_image(torch.cat([hidden, patches], dim=1))
        return torch.cat([(patches[:, :-1] + change).clamp(-1, 1), patches[:, -1:]], dim=1)


class _Level(nn.Module):
    """A dilated convolution, normalised per patch."""

    def __init__(
        self, inputs: int, outputs: int, dimensions: int, *, reach: int, dice: torch.Generator
    ) -> None:
        super().__init__()
        self.convolution = _convolution(inputs, outputs, dimensions, reach=reach, dice=dice)
        self.normalisation = nn.GroupNorm(min(8, outputs), outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.normalisation(self.convolution(hidden)), 0.2)


class _Change(nn.Module):
    """What is added to the image: a convolution times a gain for each image channel."""

    def __init__(self, inputs: int, outputs: int, dimensions: int, *, dice: torch.Generator) -> None:
        super().__init__()
        self.convolution = _convolution(inputs, outputs, dimensions, reach=1, dice=dice)
        self.gain = nn.Parameter(torch.zeros(outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        change = self.convolution(hidden)
        return change * self.gain.reshape(-1, *[1] * (change.ndim - 2))


def build_refiner(study: Study, *purpose: object) -> Refiner:
    """Return the study's refiner, the identity, with weights drawn from its public seed.

    Args:
        study: Its patch, generator width and seed.
        purpose: Other words, other weights.
    """
    return Refiner(
        channels=study.patch.n_channels,
        width=study.networks.generator_width,
        dimensions=study.patch.dimensions,
        dice=public_generator(study.seed, "refiner", *purpose),
    )


def _convolution(
    inputs: int, outputs: int, dimensions: int, *, reach: int, dice: torch.Generator
) -> nn.Module:
    """A convolution that keeps the patch's size, with weights after He 2015 from these dice and no others."""
    layer = nn.utils.skip_init(
        _CONVOLUTION[dimensions], inputs, outputs, kernel_size=3, padding=reach, dilation=reach
    )
    weights = dict(layer.named_parameters())
    nn.init.kaiming_normal_(weights["weight"], a=0.2, generator=dice)
    nn.init.zeros_(weights["bias"])
    return layer
