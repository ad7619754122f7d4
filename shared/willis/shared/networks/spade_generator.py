"""The SPADE generator: an image grown from a few pixels, at every level modulated by the semantic map."""

from itertools import pairwise

import torch
from jaxtyping import Float
from monai.networks.nets.spade_network import SPADENetResBlock
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


class SpadeGenerator(nn.Module):
    """Residual blocks whose normalisation is scaled and shifted by the map (Park 2019, sections 3 and 3.1).

    MONAI's ``SPADENetResBlock`` on instance norm, so that no patch sees another. MONAI's whole ``SPADENet``
    is not used: its last block runs at half the resolution with as many channels as the image has, so that
    a label's border is known to two pixels. Here a last block follows at full resolution. The map is shown
    as one channel a level, one of the label and one of noise, which stands for the paper's latent vector:
    nearest-neighbour subsampling hands it to every level.

    Args:
        size: Pixels along each axis, each a multiple of 2 ** depth; 2-D or 3-D.
        levels: Tissue levels of a map.
        outputs: Channels of the image.
        width: Channels of the last block; doubled at every halving.
        depth: Number of doublings.
    """

    def __init__(self, *, size: tuple[int, ...], levels: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        if any(side % 2**depth for side in size):
            raise ValueError(f"size must be multiples of 2 ** depth = {2**depth}, got {size}")
        self._levels = levels
        self._coarsest = tuple(side // 2**depth for side in size)
        dimensions, told = len(size), levels + 2
        widths = [width * 2**level for level in range(depth, -1, -1)]
        self.seed = _CONVOLUTION[dimensions](told, widths[0], kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            SPADENetResBlock(dimensions, before, after, label_nc=told, spade_intermediate_channels=2 * width)
            for before, after in pairwise([widths[0], *widths])
        )
        self.image = _CONVOLUTION[dimensions](width, outputs, kernel_size=3, padding=1)

    def forward(self, shown: Float[Tensor, "patch 3 *space"]) -> Float[Tensor, "patch output *space"]:
        """Return images within (-1, 1).

        Args:
            shown: Level, label and noise.
        """
        told = self._told(shown)
        hidden = self.seed(functional.interpolate(told, size=self._coarsest, mode="nearest"))
        for number, block in enumerate(self.blocks):
            if number:
                hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(hidden, told)
        return torch.tanh(self.image(functional.leaky_relu(hidden, 0.2)))

    def _told(self, shown: Tensor) -> Tensor:
        """One channel a level (0 or 1), the label (-1 or 1), the noise."""
        step = ((shown[:, 0] + 1) / 2 * (self._levels - 1)).round().long().clamp(0, self._levels - 1)
        levels = functional.one_hot(step, self._levels).movedim(-1, 1).to(shown.dtype)
        return torch.cat([levels, shown[:, 1:]], dim=1)
