"""Public steps of the critic before the first round: prior draws stand in for real patches, at no cost."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.build import public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.refiner import build_refiner
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.dp_wgan.refined import RefinedPrior
from willis.shared.recipes.dp_wgan.trainee import Trainee
from willis.shared.recipes.network_sampler import Source
from willis.shared.recipes.precision import precision_of
from willis.shared.study import Study


def warm_up(critic: Trainee, source: Source, study: Study, *, steps: int, prior: LabelledPatches) -> None:
    """Teach the critic prior draws against fakes by the hinge loss (Miyato 2018, equation 16).

    A refiner starts as the identity, and its fakes are prior draws: in its place stand refiners of random
    weights, another at every step, so that the critic learns what may change in an image.

    Args:
        critic: Moved by its own choice of weights, in place.
        source: The generator, which stands still.
        study: Its seed, number of fakes, constraint and precision.
        steps: At least 0.
        prior: Prior draws, picked with replacement.
    """
    for step in range(1, steps + 1):
        dice = public_generator(study.seed, "warm-up", step)
        real = prior[torch.randint(len(prior), (study.training.fakes,), generator=dice)]
        with precision_of(study, critic.network):
            fake = _fakes(source, study, step, dice, prior=lambda: prior)
            on_real = critic.network(real.to(fake.device)).float()
            on_fake = critic.network(fake).float()
        critic.descend(critic.gradient(torch.relu(1 - on_real).mean() + torch.relu(1 + on_fake).mean()))
        project(critic.network, study.networks)


@torch.no_grad()
def _fakes(
    source: Source,
    study: Study,
    step: int,
    dice: torch.Generator,
    *,
    prior: Callable[[], LabelledPatches],
) -> Float[Tensor, "patch channel *space"]:
    if not isinstance(source, RefinedPrior):
        return source.draw(study.training.fakes, dice)
    stranger = build_refiner(study, "stranger", step)
    stranger.to_image.gain.normal_(generator=dice)
    stranger.to(next(source.network.parameters()).device)
    return RefinedPrior(study, stranger, prior).draw(study.training.fakes, dice)
