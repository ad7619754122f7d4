"""What every game of one generator and one critic has."""

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.game_plans import DcganPlan, WganGpPlan
from willis.shared.networks.build import choose_device
from willis.shared.networks.doubling_generator import DoublingGenerator
from willis.shared.networks.halving_critic import HalvingCritic
from willis.shared.recipes.gan.networks import JointSource, first_generator
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.study import Study
from willis.shared.update import Arrays

CRITIC, GENERATOR = "critic", "generator"
_SETTLED = 64  # fakes that the released generator's statistics are taken over


class Pair:
    """A generator, free, and its critic, asked; the two games differ in losses.

    Networks are built, and put on the study's device, when first used: drawing from a release builds its own.

    Args:
        study: Architecture, rates, seed.
        plan: Kernel, label threshold.
        critic: Builds the critic, on the CPU.
    """

    asked = (CRITIC,)
    released = (GENERATOR,)
    statistics = 0

    def __init__(
        self, study: Study, plan: DcganPlan | WganGpPlan, *, critic: Callable[[], HalvingCritic]
    ) -> None:
        self._study, self._kernel, self._threshold = study, plan.kernel, plan.label_threshold
        self._first_critic = critic

    @cached_property
    def generator(self) -> DoublingGenerator:
        """The generator; it keeps normalising over its batch of fakes."""
        return first_generator(self._study, kernel=self._kernel).to(self._device)

    @cached_property
    def critic(self) -> HalvingCritic:
        """The critic."""
        return self._first_critic().to(self._device)

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """Both."""
        return {CRITIC: self.critic, GENERATOR: self.generator}

    def rate(self, player: str) -> float:
        """Return a player's learning rate."""
        training = self._study.training
        return training.critic_lr if player == CRITIC else training.generator_lr

    def constrain(self) -> None:
        """Leave the critic as it is."""

    def settle(self, dice: torch.Generator) -> None:
        """Give the generator the statistics of fresh fakes, in batches as large as in training."""
        batch = self._study.training.fakes
        self.generator.settle(dice, batches=max(1, _SETTLED // batch), batch=batch)

    def sampler(self, arrays: Arrays) -> NetworkSampler:
        """Return what draws from a release's generator.

        Raises:
            ValueError: The arrays are others.
        """
        own = part(arrays, GENERATOR)
        if strange := sorted(set(arrays) - {f"{GENERATOR}/{name}" for name in own}):
            raise ValueError("; ".join(f"{name}: unknown" for name in strange))
        source = JointSource.of(self._study, kernel=self._kernel, threshold=self._threshold)
        return NetworkSampler(self._study, own, source)

    def _fakes(self, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """A round's fakes, without a graph."""
        with torch.no_grad():
            return self.generator.draw(self._study.training.fakes, dice)

    @property
    def _device(self) -> torch.device:
        return choose_device(self._study.training.device)
