"""A whole volume of a study's prior, for those who make its image patch by patch."""

import numpy as np
import torch

from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.enlarged import enlarged_ranges
from willis.shared.study import Study


def prior_volume(study: Study, die: torch.Generator, *, size: tuple[int, ...]) -> LabelledPatches:
    """Draw one volume of the study's prior from a die that has been thrown for something else before.

    It is normalised as a patch is: by its own span, and the margins that the study's ranges draw.

    Guarantees:
        Of the patch's size it is :func:`~willis.shared.prior_draws.prior_patch` of the same die.

    Args:
        study: Its prior and patch size.
        die: A CPU generator.
        size: Voxels along each axis.

    Returns:
        float32 (1, 2, *size): image within [-1, 1] and label -1 or 1.

    Raises:
        ValueError: As :func:`~willis.shared.prior.enlarged.enlarged_ranges`.
    """
    ranges = enlarged_ranges(study.prior.family, study.prior.ranges, patch=study.patch.size, size=size)
    seed = int(torch.randint(2**62, (), generator=die))
    return draw_patches(
        study.prior.family, n=1, size=size, generator=np.random.default_rng(seed), ranges=ranges
    )
