"""A pooled dp-wgan asked without noise, and its networks compared."""

import numpy as np
import torch
from torch import nn

from willis.client.private_sum import private_sum
from willis.client.randomness import SecretRandom
from willis.shared.networks.build import public_generator
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe
from willis.shared.recipes.named_parts import part
from willis.shared.study import Study
from willis.shared.update import state_from_arrays

CHOICES = ("all", "last-layers", "low-rank", "scale-and-shift")


def bags(n: int, *, first: int = 0) -> list[torch.Tensor]:
    """Subjects' patches, two each."""
    drawn = []
    for subject in range(first, first + n):
        patches = torch.rand((2, 2, 16, 16), generator=public_generator("bags", subject)) * 2 - 1
        patches[:, 1] = patches[:, 1].sign()
        drawn.append(patches)
    return drawn


def ask(recipe: DpWganRecipe, state, sites: list[list[torch.Tensor]], *, number: int, clip: float):
    """Let every site answer with its sum, without noise, and pool them."""
    question = recipe.question(recipe.order(state, number=number), number=number)
    total = torch.zeros(question.length, dtype=torch.float64)
    for site in sites:
        [answer] = private_sum(
            ([question.vector(patches)] for patches in site),
            like=[torch.zeros(question.length)],
            clip_norm=clip,
            noise_multiplier=0,
            noise=SecretRandom(bytes(32)),
        )
        total += answer.double()
    units = sum(map(len, sites))
    return PooledMean(mean=(total / units).numpy().astype(np.float32), std=0.0, units=units)


def zero(recipe: DpWganRecipe, state, *, std: float = 0.0) -> PooledMean:
    length = recipe.question(recipe.order(state, number=1), number=1).length
    return PooledMean(mean=np.zeros(length, np.float32), std=std, units=12.0)


def network(build, study: Study, state, name: str):
    found = build(study)
    found.load_state_dict(state_from_arrays(part(state, name)))
    return found


def distance(one, other) -> float:
    """The largest difference, save in biases that nothing depends on.

    The loss does not depend on the critic's last bias, nor on a bias before a normalisation: their gradients
    are rounding, of which Adam and RMSprop make whole steps.
    """
    names = [name for name in one if not name.endswith(("score.bias", "convolution.bias"))]
    return max(float(np.abs(one[name] - other[name]).max()) for name in names)


def optimiser(network: nn.Module, study: Study, rate: float) -> torch.optim.Optimizer:
    if study.training.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=study.training.betas)
    return torch.optim.RMSprop(network.parameters(), rate)
