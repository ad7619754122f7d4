"""The PatchGAN critic: a score for every overlapping piece of a patch."""

from jaxtyping import Float
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn

_MOST_LAYERS = 3  # pieces of 70 pixels, the best of Isola 2017, section 4.4
_LEAST_MAP = 4  # pixels that the strided layers leave along the shortest side; the last two take one each


class PatchCritic(nn.Module):
    """MONAI's ``PatchDiscriminator`` (Isola 2017, section 3.2.2), with instance norm: no patch sees another.

    It has three layers after the first, or as many as the shortest side leaves room for.

    Args:
        size: Pixels along each axis, each at least 8; 2-D or 3-D.
        channels: Channels of what it is shown.
        width: Channels of the first layer; doubled at every layer.
    """

    def __init__(self, *, size: tuple[int, ...], channels: int, width: int) -> None:
        super().__init__()
        room = min(size) // _LEAST_MAP
        if not room >= 2:
            raise ValueError(f"size must be at least {2 * _LEAST_MAP} pixels along each axis, got {size}")
        self.layers = PatchDiscriminator(
            spatial_dims=len(size),
            channels=width,
            in_channels=channels,
            num_layers_d=min(_MOST_LAYERS, room.bit_length() - 1),
            norm="INSTANCE",
        )

    def forward(self, shown: Float[Tensor, "patch channel *space"]) -> Float[Tensor, "patch 1 *piece"]:
        """Return a score for every piece of each patch; higher means more like the real ones."""
        return self.layers(shown)[-1]
