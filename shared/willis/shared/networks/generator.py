"""The generator: latent vector and texture in, labelled patches out."""

from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_CONVOLVED = {2: nn.functional.conv2d, 3: nn.functional.conv3d}
_LEAST_PIXELS = 1024  # of a batch, before they are doubled; below, folding kernels costs more than it saves


def _doubled_and_convolved(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a 3-wide convolution makes of nearest-neighbour doubled pixels, up to rounding.

    Along an axis, the output's pixel 2i meets pixels i-1, i, i and its pixel 2i+1 meets i, i, i+1 of what was
    not doubled yet. With the weights that meet the same pixel added up first, that is one kernel of 2 for the
    even and one for the odd outputs: 4 instead of 9 products a pixel in 2-D, 8 instead of 27 in 3-D, and the
    doubled pixels are never written.
    """
    dimensions, sides = hidden.ndim - 2, hidden.shape[2:]
    kernels = [weight]
    for axis in range(2, weight.ndim):
        folded = []
        for kernel in kernels:
            before, here, after = kernel.unbind(axis)
            folded += [torch.stack((before, here + after), axis), torch.stack((before + here, after), axis)]
        kernels = folded
    made = hidden.new_empty((len(hidden), len(weight), *[2 * side for side in sides]))
    for odd, kernel in zip(product((0, 1), repeat=dimensions), kernels, strict=True):
        convolved = _CONVOLVED[dimensions](hidden, kernel, bias, padding=1)
        inner = [slice(one, one + side) for one, side in zip(odd, sides, strict=True)]
        made[(..., *[slice(one, None, 2) for one in odd])] = convolved[(..., *inner)]
    return made


class _Doubling(nn.Module):
    """Double every side, normalise per patch."""

    def __init__(self, inputs: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        self.convolution = _CONVOLUTION[dimensions](inputs, outputs, kernel_size=3, padding=1)
        # Statistics over one patch's own channels and pixels, never over the batch.
        self.normalisation = nn.GroupNorm(min(8, outputs), outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        normal = self.normalisation(self._convolved(hidden))
        return nn.functional.leaky_relu(normal, 0.2, inplace=not torch.is_grad_enabled())

    def _convolved(self, hidden: Tensor) -> Tensor:
        """Doubled and convolved; literally where it is trained, and on a GPU, where nobody measured."""
        drawing = not (self.training or torch.is_grad_enabled()) and hidden.device.type == "cpu"
        if drawing and hidden.numel() >= _LEAST_PIXELS * hidden.shape[1]:
            weight, bias = self.convolution.parameters()
            return _doubled_and_convolved(hidden, weight, bias)
        return self.convolution(nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class _ImageHead(nn.Module):
    """Add grain to the image alone: what the scanner's noise moves, it never moves the label."""

    def __init__(self, inputs: int, channels: int, dimensions: int) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.hidden = convolution(inputs, inputs, kernel_size=3, padding=1)
        self.grain = nn.Parameter(torch.full((1, inputs, *[1] * dimensions), 0.1))
        self.image = convolution(inputs, channels, kernel_size=3, padding=1)

    def forward(self, hidden: Tensor, texture: Tensor) -> Tensor:
        grained = self.hidden(hidden) + self.grain * texture
        return self.image(nn.functional.leaky_relu(grained, 0.2, inplace=not torch.is_grad_enabled()))


class Generator(nn.Module):
    """Image and label channels made together, in the manner of the DP-WGAN (Kossen 2022, section 2.3).

    A stack that doubles every side, as there. The differences: nearest-neighbour doubling and a convolution
    instead of a transposed one, which leaves a checkerboard (Odena 2016); per-patch instead of batch
    normalisation; and a texture input (one normal variate a pixel, after StyleGAN, Karras 2019, section
    3.2) that adds grain to the image channels alone: with texture at every level, as there, it speckled
    the labels.

    Args:
        latent: Length of the latent vector.
        size: Pixels along each axis, each a multiple of 2 ** depth; 2-D or 3-D.
        channels: Image channels and the label.
        width: Channels of the last hidden layer; doubled at every halving.
        depth: Number of doublings.
    """

    def __init__(self, *, latent: int, size: tuple[int, ...], channels: int, width: int, depth: int) -> None:
        super().__init__()
        if any(side % 2**depth for side in size):
            raise ValueError(f"size must be multiples of 2 ** depth = {2**depth}, got {size}")
        self.latent = latent
        self.size = tuple(size)
        dimensions = len(size)
        self._seed_shape = (width * 2**depth, *[side // 2**depth for side in size])
        self.seed = nn.Linear(latent, int(torch.tensor(self._seed_shape).prod()))
        widths = [width * 2**level for level in range(depth, -1, -1)]
        self.doublings = nn.ModuleList(
            _Doubling(inputs, outputs, dimensions) for inputs, outputs in pairwise(widths)
        )
        self.to_image = _ImageHead(width, channels - 1, dimensions)
        self.to_label = _CONVOLUTION[dimensions](width, 1, kernel_size=3, padding=1)

    def forward(
        self, latent: Float[Tensor, "patch latent"], texture: Float[Tensor, "patch 1 *space"]
    ) -> Float[Tensor, "patch channel *space"]:
        """Return patches with every channel in (-1, 1); the label channel is soft."""
        hidden = self.seed(latent).reshape(-1, *self._seed_shape)
        hidden = nn.functional.leaky_relu(hidden, 0.2)
        for doubling in self.doublings:
            hidden = doubling(hidden)
        patch = torch.cat([self.to_image(hidden, texture), self.to_label(hidden)], dim=1)
        return torch.tanh(patch)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches; the dice are thrown on the CPU so that every device gives the same ones."""
        device = self.to_label.weight.device
        latent = torch.randn((n, self.latent), generator=generator)
        texture = torch.randn((n, 1, *self.size), generator=generator)
        return self(latent.to(device), texture.to(device))
