"""The generator of Kossen 2021: a latent vector doubled to a patch, image and label made jointly."""

from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.batch_statistics import BatchStatistics
from willis.shared.networks.first_weights import drawn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


class _Doubling(nn.Module):
    """A transposed convolution of stride 2 whose kernel is blurred by (1, 3, 3, 1) / 4 along each axis.

    The same as doubling by linear interpolation and then convolving with the kernel, at two thirds of the
    work. The blur is what keeps the checkerboard out (Odena 2016): neighbours that come from one pixel
    would otherwise be met by weights that know nothing of each other.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, dimensions: int, dice: torch.Generator
    ) -> None:
        super().__init__()
        self.convolution = drawn(_CONVOLUTION[dimensions](inputs, outputs, kernel, device="meta"), dice)
        self._kernel, self._dimensions = kernel, dimensions

    def forward(self, hidden: Tensor) -> Tensor:
        if self._dimensions == 3:
            return self._interpolated(hidden)
        weight = self.convolution.weight.flip((2, 3)).transpose(0, 1)
        for axis in range(2):
            weight = _blurred(weight, axis)
        padding, more = self._kernel // 2 + 1, 1 - self._kernel % 2
        return nn.functional.conv_transpose2d(
            hidden, weight, self.convolution.bias, stride=2, padding=padding, output_padding=more
        )

    def _interpolated(self, hidden: Tensor) -> Tensor:
        """The same, literally: oneDNN's gradient of a 3-D transposed kernel reads memory nobody wrote."""
        room = self._kernel // 2 + 1
        padded = nn.functional.pad(hidden, [room] * 6)
        doubled = nn.functional.interpolate(padded, scale_factor=2.0, mode="trilinear", align_corners=False)
        before, after = (self._kernel - 1) // 2, self._kernel // 2
        for axis in range(2, 5):
            doubled = doubled.narrow(axis, 2 * room - before, 2 * hidden.shape[axis] + before + after)
        return self.convolution(doubled)


def _blurred(weight: Tensor, axis: int) -> Tensor:
    """A kernel convolved with (1, 3, 3, 1) / 4 along an axis, counted from the last."""
    shifted = [nn.functional.pad(weight, [*[0, 0] * axis, left, 3 - left]) for left in range(4)]
    return (shifted[0] + 3 * shifted[1] + 3 * shifted[2] + shifted[3]) / 4


class DoublingGenerator(nn.Module):
    """Image and label channels from one latent vector (Kossen 2021, section 2.3).

    1 + depth transposed convolutions: from the latent vector to the smallest map, then each doubles every
    side (3 to 96 pixels at depth 5), with width * 2 ** (depth - 1), ..., width channels and the patch's own
    at the end; batch normalisation and rectifiers between them, tanh at the end.

    One thing differs. Plain transposed convolutions of side 5 and stride 2 leave a checkerboard: on random
    weights the power at the Nyquist frequency was 17 times that of the frequencies beside it, and 468 times
    where both axes are at it; of side 6, which overlap evenly, 12 and 147 times. With nearest-neighbour
    doubling it was 0.2 and 0.03 times, and trained images showed a weave. With kernels blurred as by linear
    interpolation it is 1.0 and 0.9 times, and images are smooth. The plain one is not kept: nobody is
    served by patches with a checkerboard.

    Args:
        latent: Length of the latent vector.
        size: Pixels along each axis, each a multiple of 2 ** depth; 2-D or 3-D.
        channels: Image channels and the label.
        width: Channels of the last hidden layer; doubled at every halving.
        depth: Number of doublings.
        kernel: Side of the kernels, in pixels.
        dice: Of the first weights.

    Raises:
        ValueError: A side is no multiple.
    """

    def __init__(
        self,
        *,
        latent: int,
        size: tuple[int, ...],
        channels: int,
        width: int,
        depth: int,
        kernel: int,
        dice: torch.Generator,
    ) -> None:
        super().__init__()
        if any(side % 2**depth for side in size):
            raise ValueError(f"size must be multiples of 2 ** depth = {2**depth}, got {size}")
        self.latent = latent
        widths = [*[width * 2**level for level in range(depth - 1, -1, -1)], channels]
        self._seed_shape = (widths[0], *[side // 2**depth for side in size])
        # from 1 pixel to the smallest map: the same as a transposed convolution of that map's size
        self.seed = drawn(nn.Linear(latent, prod(self._seed_shape), device="meta"), dice)
        self.doublings = nn.ModuleList(
            _Doubling(inputs, outputs, kernel=kernel, dimensions=len(size), dice=dice)
            for inputs, outputs in pairwise(widths)
        )
        self.normalisations = nn.ModuleList(BatchStatistics(one) for one in widths[:-1])

    def forward(self, latent: Float[Tensor, "patch latent"]) -> Float[Tensor, "patch channel *space"]:
        """Return patches with every channel in (-1, 1); the label channel is soft."""
        hidden = self.seed(latent).reshape(-1, *self._seed_shape)
        for normalisation, doubling in zip(self.normalisations, self.doublings, strict=True):
            hidden = doubling(nn.functional.relu(normalisation(hidden)))
        return torch.tanh(hidden)

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches; the dice are thrown on the CPU so that every device gives the same ones."""
        latent = torch.randn((n, self.latent), generator=dice)
        return self(latent.to(self.seed.weight.device))

    @torch.no_grad()
    def settle(self, dice: torch.Generator, *, batches: int, batch: int) -> None:
        """Set the running statistics to the mean over fresh batches of fakes."""
        self.train()
        for number in range(batches):
            self._follow(1 / (number + 1))
            self.draw(batch, dice)
        self._follow(0.0)

    def _follow(self, share: float) -> None:
        for module in self.normalisations:
            if isinstance(module, BatchStatistics):
                module.follows = share
