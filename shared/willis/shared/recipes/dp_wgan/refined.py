"""Fakes of the refiner: prior draws whose images it changed."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.refiner import Refiner
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import prior_patch
from willis.shared.study import Study


class RefinedPrior:
    """The study's refiner, fed with prior draws.

    Args:
        study: Its prior and patch.
        network: The refiner.
        prior: Returns the prior draws that training picks from.
    """

    def __init__(self, study: Study, network: Refiner, prior: Callable[[], LabelledPatches]) -> None:
        self.network = network
        self._study = study
        self._prior = prior

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Refine n of the prior draws, picked with replacement; with a graph."""
        prior = self._prior()
        picked = prior[torch.randint(len(prior), (n,), generator=dice)]
        texture = torch.randn((n, 1, *picked.shape[2:]), generator=dice)
        device = next(self.network.parameters()).device
        return self.network(picked.to(device), texture.to(device))

    def alone(self, dice: list[torch.Generator]) -> Float[Tensor, "patch channel *space"]:
        """Refine one fresh prior draw from each of the dice."""
        prior = torch.cat([prior_patch(self._study, die) for die in dice])
        texture = torch.stack([torch.randn((1, *self._study.patch.size), generator=die) for die in dice])
        device = next(self.network.parameters()).device
        return self.network(prior.to(device), texture.to(device))
