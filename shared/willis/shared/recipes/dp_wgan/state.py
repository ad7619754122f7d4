"""What the coordinator of the pooled dp-wgan holds between rounds, as networks and as arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from willis.shared.networks.build import build_critic, build_generator, choose_device
from willis.shared.networks.refiner import build_refiner
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.patch import LabelledPatches
from willis.shared.recipe_plans import DpWganPlan
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.dp_wgan.refined import RefinedPrior
from willis.shared.recipes.dp_wgan.trainee import Trainee
from willis.shared.recipes.flat_optimiser import Moments
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import LatentSource, Source, load
from willis.shared.study import Study
from willis.shared.update import Arrays

GENERATOR, CRITIC, EMA = "generator", "critic", "ema"
_STEPS = "_steps"  # an optimiser's moments stand beside its network


@dataclass
class Coordinator:
    """Both networks, their optimisers, and the generator's mean over the rounds.

    Attributes:
        source: The generator or the refiner, and what it is fed with.
        generator: The network of ``source``, and how it moves.
        critic: The critic, and how it moves.
        ema: Exponential mean of the generator's weights, by name: what is released.
    """

    source: Source
    generator: Trainee
    critic: Trainee
    ema: dict[str, np.ndarray]

    @classmethod
    def first(cls, study: Study, prior: Callable[[], LabelledPatches]) -> "Coordinator":
        """Return what stands before anything is learned: a warm-started generator, or the identity."""
        return cls._of(study, source_of(study, prior, warm=True))

    @classmethod
    def _of(cls, study: Study, source: Source) -> "Coordinator":
        device = choose_device(study.training.device)
        networks = source.network.to(device), build_critic(study).to(device)
        plan, training = plan_of(study, DpWganPlan), study.training
        return cls(
            source,
            Trainee.fresh(study, networks[0], plan.generator_trained, rate=training.generator_lr),
            Trainee.fresh(study, networks[1], plan.trained, rate=training.critic_lr),
            arrays_of(networks[0]),
        )

    @classmethod
    def read(cls, study: Study, prior: Callable[[], LabelledPatches], state: Arrays) -> "Coordinator":
        """Return what :meth:`arrays` was made from.

        Raises:
            ValueError: The arrays are not a state of this study.
        """
        found = cls._of(study, source_of(study, prior, warm=False))
        found.ema = part(state, EMA)
        load(found.generator.network, found.ema)  # refused here if its weights do not fit
        for name, trainee in found._trainees().items():
            load(trainee.network, part(state, name))
            length = trainee.adapter.length
            trainee.moments = Moments.read(part(state, name + _STEPS), length=length)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as float32 arrays by name."""
        state = {f"{EMA}/{name}": value for name, value in self.ema.items()}
        for name, trainee in self._trainees().items():
            state |= {f"{name}/{key}": value for key, value in arrays_of(trainee.network).items()}
            state |= {f"{name}{_STEPS}/{key}": value for key, value in trainee.moments.arrays().items()}
        return state

    def follow(self, weight: float) -> None:
        """Move the mean: ``weight`` of its past, the rest of the generator as it is now."""
        now = arrays_of(self.generator.network)
        self.ema = {
            name: (weight * self.ema[name] + (1 - weight) * value).astype(np.float32)
            for name, value in now.items()
        }

    def _trainees(self) -> Mapping[str, Trainee]:
        return {GENERATOR: self.generator, CRITIC: self.critic}


def source_of(study: Study, prior: Callable[[], LabelledPatches], *, warm: bool) -> Source:
    """Return what makes the study's fakes.

    Args:
        study: Its ``recipe.refiner`` says which.
        prior: Returns the prior draws that a refiner trains on.
        warm: Whether the generator's warm start is wanted; a refiner has none.
    """
    if plan_of(study, DpWganPlan).refiner:
        return RefinedPrior(study, build_refiner(study), prior)
    return LatentSource(initial_generator(study) if warm else build_generator(study))
