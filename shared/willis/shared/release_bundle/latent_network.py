"""The network that is fed a latent vector and texture; a part of the script that a release carries."""

from __future__ import annotations

from typing import Any

from torch import nn

from willis.shared.networks.generator import Generator


def network_of(about: dict[str, Any]) -> nn.Module:
    """Return the network that ``configs/drawing.json`` names, with any weights."""
    return Generator(latent=about["latent"], size=tuple(about["size"]), **about["arguments"])
