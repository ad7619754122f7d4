"""The table that a game is played at: its networks' weights and optimisers, as a coordinator's state."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.start import arrays_of
from willis.shared.recipes.flat_optimiser import Moments, descent
from willis.shared.recipes.game.contract import Game
from willis.shared.recipes.named_parts import owned, part
from willis.shared.recipes.network_sampler import load
from willis.shared.study import TrainingPlan
from willis.shared.update import Arrays

_MEAN, _MOMENTS = "mean-of", "moments-of"  # owners in a state: PLAYER, mean-of-PLAYER, moments-of-PLAYER


class Table:
    """A game, every player's optimiser, and the mean over the rounds of the players that are released.

    Args:
        game: Its networks hold the weights.
        moments: Of every player's optimiser, by name.
        means: Exponential means of the released players' weights, by player.
    """

    def __init__(
        self, game: Game, moments: Mapping[str, Moments], means: Mapping[str, dict[str, np.ndarray]]
    ) -> None:
        self.game = game
        self._moments = dict(moments)
        self._means = dict(means)

    @classmethod
    def first(cls, game: Game) -> "Table":
        """Return what stands before anything is learned."""
        moments = {name: Moments.none(length_of(network)) for name, network in game.players.items()}
        return cls(game, moments, {name: arrays_of(game.players[name]) for name in game.released})

    @classmethod
    def read(cls, game: Game, state: Arrays) -> "Table":
        """Read what :meth:`arrays` returned into the game's networks.

        Raises:
            ValueError: The arrays are no state of this game.
        """
        moments = {}
        for name, network in game.players.items():
            load(network, part(state, name))
            moments[name] = Moments.read(part(state, f"{_MOMENTS}-{name}"), length=length_of(network))
        return cls(game, moments, {name: part(state, f"{_MEAN}-{name}") for name in game.released})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as float32 arrays by name."""
        state: dict[str, np.ndarray] = {}
        for name, network in self.game.players.items():
            state |= owned(name, arrays_of(network))
            state |= owned(f"{_MOMENTS}-{name}", self._moments[name].arrays())
        for name, mean in self._means.items():
            state |= owned(f"{_MEAN}-{name}", mean)
        return state

    def descend(self, player: str, gradient: Float[Tensor, " coordinate"], plan: TrainingPlan) -> None:
        """Take a step of a player's optimiser.

        Args:
            player: Its name.
            gradient: Of its loss in all of its weights, on the CPU.
            plan: The optimiser.
        """
        step, self._moments[player] = descent(
            gradient, self._moments[player], plan=plan, rate=self.game.rate(player)
        )
        add_to(self.game.players[player], step)

    def follow(self, weight: float) -> None:
        """Move the means: ``weight`` of their past, the rest of the networks as they are now."""
        for name, mean in self._means.items():
            now = arrays_of(self.game.players[name])
            self._means[name] = {
                key: (weight * mean[key] + (1 - weight) * value).astype(np.float32)
                for key, value in now.items()
            }


def means_in(state: Arrays, game: Game) -> dict[str, dict[str, np.ndarray]]:
    """Return the means of the released players in a state, by player."""
    return {name: part(state, f"{_MEAN}-{name}") for name in game.released}


def length_of(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(weight.numel() for weight in network.parameters())


def slope(network: nn.Module, loss: Tensor) -> Float[Tensor, " coordinate"]:
    """Return the gradient of a loss in all of a network's weights, float32 on the CPU; the graph stays."""
    slopes = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    return torch.cat([one.flatten() for one in slopes]).float().cpu()


@torch.no_grad()
def add_to(network: nn.Module, step: Float[Tensor, " coordinate"]) -> None:
    """Add a step in all of a network's weights to them, in place."""
    weights = list(network.parameters())
    for weight, change in zip(weights, step.split([weight.numel() for weight in weights]), strict=True):
        weight.add_(change.reshape(weight.shape).to(weight.device))
