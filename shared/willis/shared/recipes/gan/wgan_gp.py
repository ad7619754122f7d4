"""The Wasserstein GANs of Kossen 2021: gradient penalty, and instance or spectral normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.game_plans import WganGpPlan
from willis.shared.networks.critic import project
from willis.shared.networks.halving_critic import HalvingCritic
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.game.contract import Losses
from willis.shared.recipes.game.penalty import gradient_penalty
from willis.shared.recipes.gan.networks import first_critic
from willis.shared.recipes.gan.pair import CRITIC, GENERATOR, Pair
from willis.shared.study import Study

_LEAST_FAKES = 8  # drawn together for a penalty: the generator normalises over them


class WganGpGame(Pair):
    """A generator and its critic in the Wasserstein sense (Gulrajani 2017, algorithm 1).

    The critic's loss is -E f(real) + E f(fake) + penalty * E (|grad f(between)| - 1)^2. The first and the
    last are of one unit's patches, the last between them and as many public fakes, made at the site by the
    generator of the order. The generator's loss is -E f(fake).

    With ``spectral`` no layer of the critic is normalised, and each one's spectral norm is brought to at
    most ``networks.spectral_bound`` after every step; the penalty stays (Kossen 2021, WGAN-GP-SN).

    Args:
        study: The protocol.
        plan: Its recipe's keys.

    Raises:
        StudyError: Nothing would keep the critic Lipschitz.
    """

    def __init__(self, study: Study, plan: WganGpPlan) -> None:
        super().__init__(study, plan, critic=lambda: _critic(study, plan))
        self._plan = plan
        if not plan.penalty and plan.normalisation != "spectral":
            raise StudyError(
                'recipe.penalty must be above 0 where recipe.normalisation is "instance", got 0: nothing '
                'else keeps the critic Lipschitz; set 10, or normalisation = "spectral"'
            )
        self.shown = (CRITIC, GENERATOR) if plan.penalty else (CRITIC,)

    def private(self, patches: LabelledPatches, dice: torch.Generator) -> Losses:
        """Return the critic's loss over one unit's patches: its scores' and the penalty."""
        loss = -self.critic(patches).float().mean()
        if self._plan.penalty:
            with torch.no_grad():
                fakes = self.generator.draw(max(len(patches), _LEAST_FAKES), dice)[: len(patches)]
            loss = loss + self._plan.penalty * gradient_penalty(self.critic, patches, fakes.float(), dice)
        return {CRITIC: loss}

    def public(self, dice: torch.Generator) -> Losses:
        """Return the critic's mean score of a round's fakes."""
        return {CRITIC: self.critic(self._fakes(dice)).float().mean()}

    def statistic(self, patches: LabelledPatches) -> Float[Tensor, " statistic"]:
        """Return nothing: the generator follows its critic alone."""
        return torch.zeros(0)

    def free(self, dice: torch.Generator, statistic: Float[Tensor, " statistic"]) -> Losses:
        """Return the generator's loss over fresh fakes."""
        fakes = self.generator.draw(self._study.training.fakes, dice)
        return {GENERATOR: -self.critic(fakes).float().mean()}

    def constrain(self) -> None:
        """Bring every layer's spectral norm within its bound, with ``spectral``."""
        if self._plan.normalisation == "spectral":
            project(self.critic, self._study.networks)


def _critic(study: Study, plan: WganGpPlan) -> HalvingCritic:
    if plan.normalisation == "instance":
        return first_critic(study, kernel=plan.kernel, normalisation="instance")
    critic = first_critic(study, kernel=plan.kernel, normalisation="none")
    project(critic, study.networks)
    return critic
