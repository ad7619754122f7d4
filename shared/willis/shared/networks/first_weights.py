"""First weights drawn by dice that are handed in, never by torch's own."""

from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Conv3d, nn.Linear)


def drawn(layer: Layer, dice: torch.Generator) -> Layer:
    """Return a layer whose weights are normal and keep the size of what they are shown, and biases are zero.

    He 2015, equation 14, at the slope 0.2 of the leaky units that follow. At the paper's width of 96 and
    kernels of 5 that is a standard deviation of 0.03, near DCGAN's 0.02 (Radford 2016, section 4), which at
    small widths would leave nothing of the input.

    Args:
        layer: Built on the device ``meta``, where torch throws no dice; it has a bias.
        dice: A CPU generator.

    Raises:
        ValueError: It has no bias.
    """
    made = layer.to_empty(device="cpu")
    if made.bias is None:
        raise ValueError("a layer must have a bias, got one without")
    nn.init.kaiming_normal_(made.weight, a=0.2, generator=dice)
    nn.init.zeros_(made.bias)
    return made
