"""Draw from a release's network with torch alone; a part of the script that a release carries.

Nothing but the standard library and torch may be imported here: the text of this file is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from willis.shared.recipes.network_sampler import draw_blocks
from willis.shared.release_bundle.latent_network import network_of


def drawer(bundle: Path, about: dict[str, Any], device: str) -> Callable[[int, int, int], Tensor]:
    """Return what draws pairs ``first`` to ``first + n - 1`` of a seed.

    Args:
        bundle: The release's folder.
        about: What ``configs/drawing.json`` says.
        device: As torch names it.
    """
    network = network_of(about).to(device)
    state = torch.load(bundle / "models" / "model.pt", map_location=device, weights_only=True)
    prefix = about["prefix"]
    network.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    network.eval().requires_grad_(False)

    @torch.no_grad()
    def draw(dice: list[torch.Generator]) -> Tensor:
        fed = [torch.stack([torch.randn(about["latent"], generator=die) for die in dice])]
        if about["texture"]:
            fed.append(torch.stack([torch.randn((1, *about["size"]), generator=die) for die in dice]))
        patches = network(*(one.to(device) for one in fed)).float().cpu()
        patches[:, -1] = torch.where(patches[:, -1] > about["threshold"], 1.0, -1.0)
        return patches

    return lambda first, n, seed: draw_blocks(draw, first=first, n=n, seed=seed, block=about["block"])
