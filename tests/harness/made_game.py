"""A toy game of two numbers, and games asked without noise."""

import numpy as np
import torch
from torch import nn

from willis.client.private_sum import private_sum
from willis.client.randomness import SecretRandom
from willis.shared.networks.build import public_generator
from willis.shared.recipes.contract import PooledMean, Recipe
from willis.shared.update import Arrays


class One(nn.Module):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))


class ToyGame:
    """Critic w, asked, and generator g, free: w (g - mean of a unit's patches), and -w g - statistic g."""

    asked, shown, released, statistics = ("critic",), ("critic",), ("generator",), 1

    def __init__(self) -> None:
        self.critic, self.generator = One(1.0), One(0.5)
        self.players = {"critic": self.critic, "generator": self.generator}
        self.settled = 0

    def rate(self, player):
        return {"critic": 0.1, "generator": 0.2}[player]

    def private(self, patches, dice):
        return {"critic": (-self.critic.weight * patches.mean()).sum()}

    def public(self, dice):
        return {"critic": (self.critic.weight * self.generator.weight.detach()).sum()}

    def statistic(self, patches):
        return patches.amax().reshape(1)

    def free(self, dice, statistic):
        told = -self.critic.weight.detach() - statistic
        return {"generator": (told * self.generator.weight).sum()}

    def constrain(self):
        self.critic.weight.data.clamp_(max=1.05)

    def settle(self, dice):
        self.settled += 1

    def sampler(self, arrays):
        raise ValueError("a toy draws nothing")


def units_of(study, n: int, *, first: int = 0, patches: int = 2) -> list[torch.Tensor]:
    """Made-up patches of n units."""
    drawn = []
    for number in range(first, first + n):
        shape = (patches, study.patch.n_channels, *study.patch.size)
        unit = torch.rand(shape, generator=public_generator("units", number)) * 2 - 1
        unit[:, -1] = unit[:, -1].sign()
        drawn.append(unit)
    return drawn


def ask(
    recipe: Recipe, state: Arrays, units: list[torch.Tensor], *, number: int, clip: float = 1e6
) -> PooledMean:
    """Let a site answer with its sum, without noise."""
    question = recipe.question(recipe.order(state, number=number), number=number)
    [total] = private_sum(
        ([question.vector(patches)] for patches in units),
        like=[torch.zeros(question.length)],
        clip_norm=clip,
        noise_multiplier=0,
        noise=SecretRandom(bytes(32)),
    )
    return PooledMean(mean=(total / len(units)).numpy(), std=0.0, units=len(units))


def trained(recipe: Recipe, units: list[torch.Tensor], *, rounds: int) -> dict[str, np.ndarray]:
    """Return the state after rounds over the same units."""
    state = recipe.start()
    for number in range(1, rounds + 1):
        state = recipe.learn(state, ask(recipe, state, units, number=number), number=number)
    return state


def same(one: Arrays, other: Arrays) -> bool:
    """Whether two states are equal bit for bit."""
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)
