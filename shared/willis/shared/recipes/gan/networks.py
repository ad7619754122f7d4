"""The networks of a patch GAN, from a study; and what draws from its generator."""

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.build import public_generator
from willis.shared.networks.doubling_generator import DoublingGenerator
from willis.shared.networks.halving_critic import HalvingCritic, Normalisation
from willis.shared.study import Study


def first_generator(study: Study, *, kernel: int) -> DoublingGenerator:
    """Return the generator with first weights from the study's public seed, on the CPU."""
    return DoublingGenerator(
        latent=study.networks.latent,
        size=study.patch.size,
        channels=study.patch.n_channels,
        width=study.networks.generator_width,
        depth=study.networks.depth,
        kernel=kernel,
        dice=public_generator(study.seed, "weights", "generator"),
    )


def first_critic(
    study: Study, *, kernel: int, normalisation: Normalisation, minibatch_kernels: int = 0
) -> HalvingCritic:
    """Return the critic with first weights from the study's public seed, on the CPU."""
    return HalvingCritic(
        size=study.patch.size,
        channels=study.patch.n_channels,
        width=study.networks.critic_width,
        depth=study.networks.depth,
        kernel=kernel,
        normalisation=normalisation,
        minibatch_kernels=minibatch_kernels,
        dice=public_generator(study.seed, "weights", "critic"),
    )


class JointSource:
    """A generator of image and label, fed with latent vectors.

    Args:
        network: The generator.
        threshold: A label above it is foreground.
    """

    def __init__(self, network: DoublingGenerator, *, threshold: float) -> None:
        self.network = network
        self._threshold = threshold

    @classmethod
    def of(cls, study: Study, *, kernel: int, threshold: float) -> Self:
        """Return one whose generator is to be given weights."""
        return cls(first_generator(study, kernel=kernel), threshold=threshold)

    def draw(self, n: int, dice: torch.Generator) -> Float[Tensor, "patch channel *space"]:
        """Draw n patches with a graph and a soft label, all from the same dice."""
        return self.network.draw(n, dice)

    def alone(self, dice: list[torch.Generator]) -> Float[Tensor, "patch channel *space"]:
        """Draw one patch from each of the dice; the label is -1 or 1."""
        latent = torch.stack([torch.randn(self.network.latent, generator=die) for die in dice])
        patches = self.network(latent.to(self.network.seed.weight.device)).float()
        patches[:, -1] = torch.where(patches[:, -1] > self._threshold, 1.0, -1.0)
        return patches
