"""Pairs from a release: a map is drawn, its label edited, an image made for it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.build import public_generator
from willis.shared.networks.generator import Generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import prior_patch
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import NetworkSampler, block_of, load
from willis.shared.recipes.translation.editing import edit_label
from willis.shared.recipes.translation.image_players import TRANSLATOR
from willis.shared.recipes.translation.map_players import MAP_GENERATOR, soft_maps
from willis.shared.recipes.translation.maps import Maps, Plan, rounded, semantic_map
from willis.shared.recipes.translation.players import build_players, released_of
from willis.shared.study import Study
from willis.shared.update import Arrays

Dice = list[torch.Generator]  # one a patch, on the CPU


class MapSource(Protocol):
    """Where drawing takes its maps from."""

    def maps(self, dice: Dice) -> Maps:
        """Draw one map from each of the dice, on the CPU: levels rounded, labels -1 or 1."""
        ...


class GeneratedMaps:
    """Maps of the generator of maps.

    Args:
        network: Trained.
        levels: Of a map.
    """

    def __init__(self, network: Generator, *, levels: int) -> None:
        self._network, self._levels = network, levels

    def maps(self, dice: Dice) -> Maps:
        """Draw one map from each of the dice; a label is where the generator's is above 0."""
        latent = torch.stack([torch.randn(self._network.latent, generator=die) for die in dice])
        soft = soft_maps(self._network, latent.to(next(self._network.parameters()).device)).cpu()
        return torch.cat([rounded(soft[:, :1], self._levels), torch.where(soft[:, 1:] > 0, 1.0, -1.0)], dim=1)


class PriorMaps:
    """Maps of fresh draws of the study's prior.

    Args:
        study: Its prior and patch.
        plan: Levels and blur.
    """

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study, self._plan = study, plan

    def maps(self, dice: Dice) -> Maps:
        """Draw one map from each of the dice."""
        drawn = torch.cat([prior_patch(self._study, die) for die in dice])
        return semantic_map(drawn, levels=self._plan.levels, blur=self._plan.blur)


class TranslatedMaps:
    """A source of a :class:`~willis.shared.recipes.network_sampler.NetworkSampler`.

    Args:
        plan: Its ``edit``.
        network: Holds the released players by name.
        source: Where maps come from.
    """

    def __init__(self, plan: Plan, network: nn.ModuleDict, source: MapSource) -> None:
        self.network = network
        self._plan, self._source = plan, source

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches, all from the same dice."""
        seeds = torch.randint(2**62, (n,), generator=dice).tolist()
        return self.alone([torch.Generator().manual_seed(seed) for seed in seeds])

    def alone(self, dice: Dice) -> Float[Tensor, "patch channel *space"]:
        """Draw one patch from each of the dice: the map first, then its edit, then the noise."""
        maps = self._source.maps(dice)
        for one, die in zip(maps, dice, strict=True):
            one[1] = edit_label(one[1], one[0], self._plan.edit, die)
        return translated(self.network[TRANSLATOR], maps, dice)


def translated(translator: nn.Module, maps: Maps, dice: Dice) -> LabelledPatches:
    """Return maps' images with their labels, on the translator's device."""
    device = next(translator.parameters()).device
    noise = torch.stack([torch.randn((1, *maps.shape[2:]), generator=die) for die in dice])
    shown = torch.cat([maps, noise], dim=1).to(device)
    return torch.cat([translator(shown), shown[:, 1:2]], dim=1)


def pair_sampler(study: Study, plan: Plan, arrays: Arrays) -> NetworkSampler:
    """Return what draws pairs from a release's arrays, ``PLAYER/NAME``.

    Raises:
        ValueError: The arrays are others.
    """
    players = build_players(study, plan)
    network = nn.ModuleDict({name: players[name] for name in released_of(players)})
    generator = players.get(MAP_GENERATOR)
    source = (
        GeneratedMaps(generator, levels=plan.levels)
        if isinstance(generator, Generator)
        else PriorMaps(study, plan)
    )
    return NetworkSampler(study, _dotted(arrays, network), TranslatedMaps(plan, network, source))


@torch.no_grad()
def translate_maps(study: Study, plan: Plan, arrays: Arrays, maps: Maps, *, seed: int) -> LabelledPatches:
    """Return images for maps that somebody has, with their labels; float32 on the CPU.

    Guarantees:
        Patch i depends on the arrays, the seed, map i and i alone.

    Args:
        study: Architecture and patch.
        plan: Its recipe; nothing is edited.
        arrays: A release's.
        maps: Labels -1 or 1; levels are rounded to the plan's.
        seed: Of the noise.

    Raises:
        ValueError: Arrays or maps are others.
    """
    _check_maps(maps, study)
    translator = build_players(study, plan)[TRANSLATOR]
    load(translator, part(arrays, TRANSLATOR))
    translator.eval()
    ready = torch.cat([rounded(maps[:, :1], plan.levels), maps[:, 1:]], dim=1)
    block, made = block_of(study), []
    for first in range(0, len(ready), block):
        # whole blocks: rounding depends on how many patches a network sees at once
        held = ready[first : first + block]
        padded = torch.cat([held, held[:1].expand(block - len(held), *held.shape[1:])])
        dice = [public_generator("translation", seed, first + i) for i in range(block)]
        made.append(translated(translator, padded, dice)[: len(held)])
    return torch.cat(made)


def _dotted(arrays: Arrays, network: nn.ModuleDict) -> Mapping[str, np.ndarray]:
    """Name the arrays as torch does, ``PLAYER.NAME``; strangers stay strange, and are refused."""
    return {_name_in(key, network): value for key, value in arrays.items()}


def _name_in(key: str, players: Iterable[str]) -> str:
    owner, _, name = key.partition("/")
    return f"{owner}.{name}" if name and owner in players else f"/{key}"


def _check_maps(maps: Maps, study: Study) -> None:
    wanted = (2, *study.patch.size)
    if not (len(maps) >= 1 and tuple(maps.shape[1:]) == wanted):
        raise ValueError(
            f"maps must have shape (patch, {wanted}) with a patch or more, got {tuple(maps.shape)}"
        )
    if not bool((maps[:, 0].abs() <= 1).all()):
        raise ValueError("maps' levels must be finite and lie within [-1, 1]; semantic_map makes them so")
    if not bool((maps[:, 1].abs() == 1).all()):
        raise ValueError("maps' labels must be -1 or 1; semantic_map makes them so")
