"""A non-private WGAN-GP-SN on pooled real patches: what a GAN reaches where nobody protects anybody.

Kossen 2021, the variant of which they report the best use: Wasserstein loss, gradient penalty 10 (Gulrajani
2017, equation 3), spectral norm in the critic (Miyato 2018), 5 critic steps, Adam 1e-4 with betas (0, 0.9).
Generator and critic are the study's own architecture, so that what differs from ``dp-wgan`` is the privacy.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from willis.shared.networks.build import build_critic, public_generator
from willis.shared.networks.generator import Generator
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.patch import LabelledPatches
from willis.shared.study import Study

_PENALTY, _CRITIC_STEPS, _RATE, _BETAS = 10.0, 5, 1e-4, (0.0, 0.9)

Progress = Callable[[int, int], None]


def train_non_private(
    study: Study, real: LabelledPatches, *, steps: int, batch: int = 32, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """Train the study's generator on real patches without any protection.

    Args:
        study: Architecture, warm start and seed.
        real: Patches of all sites' training subjects, pooled.
        steps: Generator steps.
        batch: Patches in a step.
        progress: Called with generator steps done, and in all.

    Returns:
        The generator's weights by name. Not private.

    Raises:
        ValueError: There is no patch, or no step.
    """
    if not (steps >= 1 and batch >= 1 and len(real) >= 1):
        raise ValueError(f"steps, batch and patches must be at least 1, got {steps}, {batch} and {len(real)}")
    dice = public_generator(study.seed, "non-private GAN")
    generator, critic = initial_generator(study), _normalised(build_critic(study))
    generator_steps = torch.optim.Adam(generator.parameters(), _RATE, betas=_BETAS)
    critic_steps = torch.optim.Adam(critic.parameters(), _RATE, betas=_BETAS)
    for step in range(1, steps + 1):
        for _ in range(_CRITIC_STEPS):
            shown = real[torch.randint(len(real), (batch,), generator=dice)]
            loss = critic_loss(critic, shown, _fakes(generator, batch, dice), dice)
            _descend(loss, critic_steps)
        _descend(-critic(generator.draw(batch, dice)).mean(), generator_steps)
        if progress is not None:
            progress(step, steps)
    return arrays_of(generator)


def critic_loss(
    critic: nn.Module, real: LabelledPatches, fakes: LabelledPatches, dice: torch.Generator
) -> Float[Tensor, ""]:
    """Return E f(fake) - E f(real) + 10 E (|grad f(x)| - 1) ** 2, x between a real patch and a fake one."""
    share = torch.rand((len(real), *[1] * (real.ndim - 1)), generator=dice)
    between = (share * real + (1 - share) * fakes).requires_grad_()
    [slope] = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return critic(fakes).mean() - critic(real).mean() + _PENALTY * penalty


def _normalised(critic: nn.Module) -> nn.Module:
    """Put a spectral norm on every layer; its power iterations start from torch's own dice, seeded here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in critic.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
                parametrizations.spectral_norm(layer)
    return critic


@torch.no_grad()
def _fakes(generator: Generator, batch: int, dice: torch.Generator) -> LabelledPatches:
    return generator.draw(batch, dice)


def _descend(loss: Tensor, steps: torch.optim.Optimizer) -> None:
    steps.zero_grad(set_to_none=True)
    loss.backward()
    steps.step()
