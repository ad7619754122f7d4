"""Draw labelled patches from a network: patch i of a seed is the same whatever else is drawn with it."""

from collections.abc import Callable
from math import prod
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.build import build_generator, public_generator
from willis.shared.networks.generator import Generator
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import Sampler
from willis.shared.study import Study
from willis.shared.update import Arrays, state_from_arrays

_PIXELS_AT_ONCE = 2**16  # beyond, layers leave the caches of a CPU and draw no faster, often slower

# From the dice of some patches, one a patch, to those patches.
Draw = Callable[[list[torch.Generator]], Float[Tensor, "patch channel *space"]]


class Source(Protocol):
    """A network, and what it is fed with."""

    @property
    def network(self) -> nn.Module:
        """The network, on its device."""
        ...

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches with a graph, all from the same dice; for training."""
        ...

    def alone(self, dice: list[torch.Generator]) -> Float[Tensor, "patch channel *space"]:
        """Draw one patch from each of the dice."""
        ...


class LatentSource:
    """The study's generator, fed with latent vectors and texture.

    Args:
        network: The generator.
    """

    def __init__(self, network: Generator) -> None:
        self.network = network

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches with a graph, all from the same dice."""
        return self.network.draw(n, dice)

    def alone(self, dice: list[torch.Generator]) -> Float[Tensor, "patch channel *space"]:
        """Draw one patch from each of the dice: the latent vector first, then the texture."""
        device = next(self.network.parameters()).device
        latent = torch.stack([torch.randn(self.network.latent, generator=die) for die in dice])
        texture = torch.stack([torch.randn((1, *self.network.size), generator=die) for die in dice])
        return self.network(latent.to(device), texture.to(device))


class NetworkSampler:
    """Draws from a network with a release's weights.

    Args:
        study: Architecture and patch size.
        arrays: Float32 weights by name.
        source: What draws with these weights; None takes the study's generator.

    Attributes:
        source: The same.
        network: Its network, in ``eval``.
        block: Patches that the network sees at once: see :func:`block_of`.

    Raises:
        ValueError: The arrays are not weights of the source's network; faults are joined by ``; ``.
    """

    def __init__(self, study: Study, arrays: Arrays, source: Source | None = None) -> None:
        self.source = LatentSource(build_generator(study)) if source is None else source
        self.network = self.source.network
        load(self.network, arrays)
        self.network.eval().requires_grad_(False)
        self.block = block_of(study)

    def to(self, device: torch.device) -> Self:
        """Draw on another device from now on; patches come back to the CPU."""
        self.network.to(device)
        return self

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Return patches ``first`` to ``first + n - 1`` of a seed, float32 on the CPU."""
        return draw_blocks(self._draw, first=first, n=n, seed=seed, block=self.block)

    @torch.no_grad()
    def _draw(self, dice: list[torch.Generator]) -> Float[Tensor, "patch channel *space"]:
        patches = self.source.alone(dice).cpu()
        patches[:, -1] = torch.where(patches[:, -1] > 0, 1.0, -1.0)
        return patches


def block_of(study: Study) -> int:
    """Return how many patches a network sees at once when it draws.

    Rounding depends on it, so it is a matter of the patch's size alone.
    """
    return max(1, min(64, _PIXELS_AT_ONCE // prod(study.patch.size)))


def drawn_at_once(sampler: Sampler) -> int:
    """Return how many patches a sampler draws at once whatever it is asked for; 1 where it draws singly."""
    return sampler.block if isinstance(sampler, NetworkSampler) else 1


def draw_blocks(draw: Draw, *, first: int, n: int, seed: int, block: int) -> LabelledPatches:
    """Draw whole blocks, each patch from dice of its own, and return the patches asked for.

    Guarantees:
        Patch i depends on the seed, the block's size and i alone.

    Raises:
        ValueError: ``first`` is negative, or ``n`` below 1.
    """
    if not (first >= 0 and n >= 1):
        raise ValueError(f"first must be at least 0 and n at least 1, got {first} and {n}")
    parts = []
    for start in range(first - first % block, first + n, block):
        drawn = draw([public_generator("synthesis", seed, start + i) for i in range(block)])
        parts.append(drawn[max(0, first - start) : first + n - start])
    return torch.cat(parts)


def load(network: nn.Module, arrays: Arrays) -> None:
    """Give a network weights that have exactly its names and shapes, and are float32 and finite.

    Raises:
        ValueError: They are not; faults are joined by ``; ``.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    problems = [f"{name}: missing" for name in sorted(set(wanted) - set(arrays))]
    problems += [f"{name}: unknown" for name in sorted(set(arrays) - set(wanted))]
    for name in sorted(set(wanted) & set(arrays)):
        value = arrays[name]
        if value.shape != wanted[name] or value.dtype != np.float32:
            problems.append(f"{name}: {value.dtype} {value.shape}, wanted float32 {wanted[name]}")
        elif not bool(np.isfinite(value).all()):
            problems.append(f"{name}: holds numbers that are not finite")
    if problems:
        raise ValueError("; ".join(problems))
    network.load_state_dict(state_from_arrays(arrays))
