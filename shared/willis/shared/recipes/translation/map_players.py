"""The generator of maps and its critic: p(map), by a WGAN-GP (Platscher 2021)."""

from collections.abc import Mapping

import torch
from torch import nn

from willis.shared.networks.critic import Critic
from willis.shared.networks.generator import Generator
from willis.shared.recipes.game.contract import Losses
from willis.shared.recipes.game.penalty import gradient_penalty
from willis.shared.recipes.translation.maps import Maps, Plan
from willis.shared.study import Study

MAP_CRITIC, MAP_GENERATOR = "map-critic", "map-generator"


def map_networks(study: Study) -> dict[str, nn.Module]:
    """Return both networks; torch's global dice throw their first weights."""
    networks, size = study.networks, study.patch.size
    return {
        MAP_CRITIC: Critic(size=size, channels=2, width=networks.critic_width, depth=networks.depth),
        MAP_GENERATOR: Generator(
            latent=networks.latent,
            size=size,
            channels=2,
            width=networks.generator_width,
            depth=networks.depth,
        ),
    }


def soft_maps(generator: Generator, latent: torch.Tensor) -> Maps:
    """Return maps that are not yet rounded; the generator gets no texture, since a map has no grain."""
    still = torch.zeros((len(latent), 1, *generator.size), device=latent.device)
    return generator(latent, still)


class MapPlayers:
    """Losses of the generator of maps and its critic (Gulrajani 2017, algorithm 1).

    The generator doubles its sides and convolves, as Platscher's; it is normalised per patch.

    Args:
        study: Fakes in a step, penalty.
        plan: The study's recipe.
        players: Has both networks.
    """

    def __init__(self, study: Study, plan: Plan, players: Mapping[str, nn.Module]) -> None:
        critic, generator = players[MAP_CRITIC], players[MAP_GENERATOR]
        assert isinstance(critic, Critic)
        assert isinstance(generator, Generator)
        self._critic, self._generator = critic, generator
        self._fakes, self._penalty = study.training.fakes, plan.map_penalty

    def private(self, maps: Maps, dice: torch.Generator) -> Losses:
        """Return the critic's loss on one unit's maps: their score, and the penalty against fakes."""
        loss = -self._critic(maps).float().mean()
        if self._penalty:
            with torch.no_grad():
                fakes = self._drawn(len(maps), dice).float()
            loss = loss + self._penalty * gradient_penalty(self._scores, maps, fakes, dice)
        return {MAP_CRITIC: loss}

    def public(self, dice: torch.Generator) -> Losses:
        """Return the critic's loss on fakes."""
        with torch.no_grad():
            fakes = self._drawn(self._fakes, dice)
        return {MAP_CRITIC: self._critic(fakes).float().mean()}

    def free(self, dice: torch.Generator) -> Losses:
        """Return the generator's loss."""
        return {MAP_GENERATOR: -self._critic(self._drawn(self._fakes, dice)).float().mean()}

    def _scores(self, maps: torch.Tensor) -> torch.Tensor:
        return self._critic(maps).float()

    def _drawn(self, n: int, dice: torch.Generator) -> Maps:
        latent = torch.randn((n, self._generator.latent), generator=dice)
        return soft_maps(self._generator, latent.to(next(self._generator.parameters()).device))
