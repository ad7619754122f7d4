"""Generator, critic and their optimisers at a site, and the steps they take in a round."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from willis.client.chance import Chance
from willis.client.critic_step import private_critic_gradient
from willis.client.private_sum import Vector
from willis.client.store import PatchStore
from willis.shared.errors import StudyError
from willis.shared.networks.build import build_critic, build_generator, choose_device
from willis.shared.networks.critic import project
from willis.shared.networks.generator import Generator
from willis.shared.study import Study, TrainingPlan
from willis.shared.update import Arrays, check_model, state_from_arrays


@dataclass
class Adversaries:
    """What trains at a site; the critic and the optimisers never leave it.

    Attributes:
        generator: Starts every round from the global model.
        critic: Goes on from the site's last round.
        generator_steps: The generator's optimiser.
        critic_steps: The critic's optimiser.
    """

    generator: Generator
    critic: nn.Module
    generator_steps: torch.optim.Optimizer
    critic_steps: torch.optim.Optimizer

    @classmethod
    def assemble(cls, study: Study, arrays: Arrays, past: dict[str, Any] | None) -> "Adversaries":
        """Build them for a round.

        Args:
            study: Architecture, optimisers, device.
            arrays: The global generator.
            past: What :meth:`memory` returned after the site's last round; None in its first.

        Raises:
            StudyError: The arrays are not weights of the study's generator.
        """
        plan = study.training
        device = choose_device(plan.device)
        generator, critic = build_generator(study), build_critic(study)
        _load(generator, arrays)
        generator, critic = generator.to(device), critic.to(device)
        adversaries = cls(
            generator,
            critic,
            _optimiser(generator, plan, plan.generator_lr),
            _optimiser(critic, plan, plan.critic_lr),
        )
        if past is not None:
            for name, part in adversaries._remembered().items():
                part.load_state_dict(past[name])
        return adversaries

    def memory(self) -> dict[str, Any]:
        """Return the state that the next round goes on from."""
        return {name: part.state_dict() for name, part in self._remembered().items()}

    def _remembered(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "critic": self.critic,
            "critic_steps": self.critic_steps,
            "generator_steps": self.generator_steps,
        }

    def train(
        self,
        study: Study,
        *,
        store: PatchStore,
        declared_subjects: int,
        noise_multiplier: float,
        chance: Chance,
        dice: torch.Generator,
    ) -> None:
        """Take a round's critic steps, and the generator's between them.

        Args:
            study: The plan.
            store: The site's patches.
            declared_subjects: The study's public figure for this site.
            noise_multiplier: Of every private step.
            chance: Private dice, keyed by the operating system.
            dice: Public dice of the latent vectors.
        """
        plan = study.training
        for step in range(1, plan.critic_steps + 1):
            with torch.no_grad():
                fakes = self.generator.draw(plan.fakes, dice)
            gradient = private_critic_gradient(
                self.critic,
                fakes,
                store=store,
                study=study,
                declared_subjects=declared_subjects,
                noise_multiplier=noise_multiplier,
                chance=chance,
            )
            _descend(self.critic, gradient, self.critic_steps)
            project(self.critic, study.networks)
            if step % plan.critic_per_generator == 0:
                for _ in range(plan.generator_steps):
                    self._step_generator(plan, dice)

    def _step_generator(self, plan: TrainingPlan, dice: torch.Generator) -> None:
        """Descend -E f(fake): no private record is near, so it costs nothing."""
        parameters = list(self.generator.parameters())
        with torch.autocast(parameters[0].device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
            loss = -self.critic(self.generator.draw(plan.fakes, dice)).float().mean()
        _descend(self.generator, torch.autograd.grad(loss, parameters), self.generator_steps)


def _load(generator: Generator, arrays: Arrays) -> None:
    try:
        check_model(arrays)
        generator.load_state_dict(state_from_arrays(arrays))
    except (ValueError, TypeError, RuntimeError) as fault:  # RuntimeError: names or shapes, from torch
        raise StudyError(f"the order's weights do not fit the study's generator: {fault}") from fault


def _optimiser(network: nn.Module, plan: TrainingPlan, rate: float) -> torch.optim.Optimizer:
    if plan.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=plan.betas)
    return torch.optim.RMSprop(network.parameters(), rate)


def _descend(network: nn.Module, gradient: Vector, steps: torch.optim.Optimizer) -> None:
    for parameter, slope in zip(network.parameters(), gradient, strict=True):
        parameter.grad = slope
    steps.step()
