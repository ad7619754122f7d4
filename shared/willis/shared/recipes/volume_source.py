"""What a recipe brings to whole volumes: a draw of the prior, and a network that makes its image."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

# What the image is made from (a tissue level, or the prior's image), then the label, -1 or 1, then noise.
Shown = Float[Tensor, "window 3 *space"]

LABEL = 1  # of these channels


class VolumeSource(Protocol):
    """Draws once for a whole volume; its network sees that through windows of the patch's size."""

    @property
    def network(self) -> nn.Module:
        """The network, on its device."""
        ...

    def shown(self, size: tuple[int, ...], die: torch.Generator) -> Shown:
        """Draw what the network is shown of one volume, on the CPU; the same dice as for a patch.

        Raises:
            ValueError: The prior cannot be drawn at this size.
        """
        ...

    def image(self, shown: Shown) -> Float[Tensor, "window image *space"]:
        """Return the images of windows of the patch's size, within [-1, 1], on the network's device."""
        ...
