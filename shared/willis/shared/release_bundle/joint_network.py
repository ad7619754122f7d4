"""The network that is fed a latent vector alone; a part of the script that a release carries."""

from __future__ import annotations

from typing import Any

from torch import nn

from willis.shared.networks.build import public_generator
from willis.shared.networks.doubling_generator import DoublingGenerator


def network_of(about: dict[str, Any]) -> nn.Module:
    """Return the network that ``configs/drawing.json`` names, with any weights."""
    dice = public_generator("overwritten")
    return DoublingGenerator(
        latent=about["latent"], size=tuple(about["size"]), dice=dice, **about["arguments"]
    )
