"""The critics of Kossen 2021: strided convolutions, a normalisation, and minibatch discrimination."""

from itertools import pairwise
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.first_weights import drawn

Normalisation = Literal["none", "instance", "batch"]
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_NUMBERS_A_KERNEL = 5  # C of Salimans 2016, section 3.2


class _GroupStatistics(nn.Module):
    """Normalise every channel over the patches of a group: instance normalisation where a group is one."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *[1] * dimensions))
        self.bias = nn.Parameter(torch.zeros(channels, *[1] * dimensions))

    def forward(self, hidden: Tensor, together: int) -> Tensor:
        groups = hidden.unflatten(0, (-1, together)).transpose(1, 2)  # group, channel, patch, *space
        normal = nn.functional.instance_norm(groups.flatten(2)).reshape(groups.shape)
        return normal.transpose(1, 2).flatten(0, 1) * self.weight + self.bias


class MinibatchDiscrimination(nn.Module):
    """How alike a patch is to those it is shown with (Salimans 2016, section 3.2).

    o(x_i)_b is the mean over the other patches x_j of the group of exp(-|M_i,b - M_j,b|_1), with M_i a
    linear map of the features. The paper has the sum and counts x_i itself; the mean does not tell how many
    there were. A patch alone has 0.

    Args:
        features: Numbers a patch.
        kernels: Length of o.
        dice: Of the first weights.
    """

    def __init__(self, features: int, kernels: int, *, dice: torch.Generator) -> None:
        super().__init__()
        weight = torch.randn((features, kernels * _NUMBERS_A_KERNEL), generator=dice) / features**0.5
        self.weight = nn.Parameter(weight)
        self._kernels = kernels

    def forward(self, features: Float[Tensor, "patch feature"], together: int) -> Tensor:
        """Return o: (patch, kernel); groups are of ``together`` patches that follow each other."""
        told = (features @ self.weight).float().reshape(-1, together, self._kernels, _NUMBERS_A_KERNEL)
        apart = (told[:, :, None] - told[:, None]).abs().sum(-1)  # group, patch, other, kernel
        others = (-apart).exp().sum(2) - 1
        return (others / max(1, together - 1)).flatten(0, 1)


class HalvingCritic(nn.Module):
    """Strided convolutions and one score a patch.

    The first level is not normalised (Radford 2016, section 3), nor is the last: its mean over patches is
    what feature matching compares, and after a normalisation over patches that would say little of them.

    Args:
        size: Pixels along each axis, each a multiple of 2 ** depth; 2-D or 3-D.
        channels: Image channels and the label.
        width: Channels of the first layer; doubled at every halving.
        depth: Number of halvings.
        kernel: Side of the kernels, in pixels.
        normalisation: ``batch`` is over the patches shown together, and no others.
        minibatch_kernels: Of minibatch discrimination; 0 leaves it out.
        dice: Of the first weights.

    Raises:
        ValueError: A side is no multiple.
    """

    def __init__(
        self,
        *,
        size: tuple[int, ...],
        channels: int,
        width: int,
        depth: int,
        kernel: int,
        normalisation: Normalisation,
        minibatch_kernels: int = 0,
        dice: torch.Generator,
    ) -> None:
        super().__init__()
        if any(side % 2**depth for side in size):
            raise ValueError(f"size must be multiples of 2 ** depth = {2**depth}, got {size}")
        self._alone = normalisation == "instance"
        widths = [channels, *[width * 2**level for level in range(depth)]]
        kind = _CONVOLUTION[len(size)]
        padding = (kernel - 1) // 2
        self.convolutions = nn.ModuleList(
            drawn(kind(inputs, outputs, kernel, stride=2, padding=padding, device="meta"), dice)
            for inputs, outputs in pairwise(widths)
        )
        between = widths[2:-1] if normalisation != "none" else []
        self.normalisations = nn.ModuleList(_GroupStatistics(one, len(size)) for one in between)
        features = widths[-1] * prod(side // 2**depth for side in size)
        self.discrimination = (
            MinibatchDiscrimination(features, minibatch_kernels, dice=dice) if minibatch_kernels else None
        )
        self.score = drawn(nn.Linear(features + minibatch_kernels, 1, device="meta"), dice)
        self.n_features = widths[-1]

    def forward(
        self, patches: Float[Tensor, "patch channel *space"], together: int | None = None
    ) -> Float[Tensor, " patch"]:
        """Return one score a patch; higher means more like the real ones. See :meth:`judge`."""
        return self.judge(patches, together)[0]

    def judge(
        self, patches: Float[Tensor, "patch channel *space"], together: int | None = None
    ) -> tuple[Float[Tensor, " patch"], Float[Tensor, "patch feature"]]:
        """Return scores, and the last level's features, each averaged over the patch.

        Args:
            patches: Patches.
            together: How many of them, one after another, are shown together; all of them by default. The
                patches must come out even.
        """
        together = len(patches) if together is None else together
        hidden = patches
        for level, convolution in enumerate(self.convolutions):
            hidden = convolution(hidden)
            if 0 < level <= len(self.normalisations):
                hidden = self.normalisations[level - 1](hidden, 1 if self._alone else together)
            hidden = nn.functional.leaky_relu(hidden, 0.2)
        flat = hidden.flatten(1)
        if self.discrimination is not None:
            flat = torch.cat([flat, self.discrimination(flat, together).to(flat.dtype)], dim=1)
        return self.score(flat).squeeze(1), hidden.flatten(2).mean(2)
