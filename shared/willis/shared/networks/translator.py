"""The U-net translator: a semantic map and noise in, an image out; or an image in, a map out."""

import torch
from jaxtyping import Float
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_SIDE = 32  # four halvings leave two pixels, and instance norm needs more than one


class Translator(nn.Module):
    """A U-net from some channels to others, in the manner of pix2pix (Isola 2017, section 3.2.1).

    MONAI's ``BasicUNet``: instance norm, so that no patch sees another, and linear upsampling before each
    convolution, since a transposed one leaves a checkerboard (Odena 2016). The paper's noise is dropout,
    which throws torch's global dice; here it is a channel of the input. A patch with a side below 32 pixels
    is padded with its border and cropped back.

    Args:
        dimensions: 2 or 3.
        inputs: Channels in: a map's and one of noise, or an image's.
        outputs: Channels out.
        width: Channels of the first level; 8 times as many at the last.
    """

    def __init__(self, *, dimensions: int, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.layers = BasicUNet(
            spatial_dims=dimensions,
            in_channels=inputs,
            out_channels=outputs,
            features=(width, width, 2 * width, 4 * width, 8 * width, width),
            bias=False,  # instance norm follows and would take it away
            upsample="nontrainable",
        )

    def forward(self, shown: Float[Tensor, "patch input *space"]) -> Float[Tensor, "patch output *space"]:
        """Return the translation, within (-1, 1)."""
        sides = shown.shape[2:]
        missing = [max(0, SMALLEST_SIDE - side) for side in reversed(sides)]
        if any(missing):
            shown = functional.pad(shown, [pad for after in missing for pad in (0, after)], mode="replicate")
        return torch.tanh(self.layers(shown)[(..., *(slice(side) for side in sides))])
