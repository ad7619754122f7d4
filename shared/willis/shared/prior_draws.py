"""Draws of a study's prior, named by what they are for: public, anyone with the study can repeat them."""

import numpy as np
import torch

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.study import Study


def draw_prior(study: Study, n: int, *, purpose: str) -> LabelledPatches:
    """Draw patches of the study's prior from its public seed.

    Guarantees:
        Patch i depends on the study, the purpose and i alone; other purposes give other patches.

    Args:
        study: Its prior, patch size and seed.
        n: Patches, at least 0.
        purpose: Any word, such as ``evaluation``.

    Returns:
        As :func:`~willis.shared.prior.draw.draw_patches`.

    Raises:
        ValueError: ``n`` is negative.
    """
    return _drawn(study, n, public_generator(study.seed, "prior", purpose).initial_seed())


def prior_patch(study: Study, die: torch.Generator) -> LabelledPatches:
    """Draw one patch of the study's prior from a die that has been thrown for something else before."""
    return _drawn(study, 1, int(torch.randint(2**62, (), generator=die)))


def _drawn(study: Study, n: int, seed: int) -> LabelledPatches:
    return draw_patches(
        study.prior.family,
        n=n,
        size=study.patch.size,
        generator=np.random.default_rng(seed),
        ranges=study.prior.ranges,
    )
