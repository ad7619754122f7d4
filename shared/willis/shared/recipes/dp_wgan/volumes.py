"""Whole volumes of the refiner: one draw of the prior, refined window by window."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.refiner import build_refiner
from willis.shared.prior_volumes import prior_volume
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.volume_source import Shown
from willis.shared.study import Study
from willis.shared.update import Arrays


class RefinedVolumes:
    """A :class:`~willis.shared.recipes.volume_source.VolumeSource`.

    Args:
        study: Prior, patch, architecture.
        arrays: A release's.

    Attributes:
        network: The refiner.

    Raises:
        ValueError: The arrays are others.
    """

    def __init__(self, study: Study, arrays: Arrays) -> None:
        self._study = study
        self.network = build_refiner(study)
        load(self.network, arrays)
        self.network.eval().requires_grad_(False)

    def shown(self, size: tuple[int, ...], die: torch.Generator) -> Shown:
        """Draw image, label and texture: the prior first, then the texture."""
        drawn = prior_volume(self._study, die, size=size)
        return torch.cat([drawn, torch.randn((1, 1, *size), generator=die)], dim=1)

    def image(self, shown: Shown) -> Float[Tensor, "window image *space"]:
        """Refine windows."""
        return self.network(shown[:, :-1], shown[:, -1:])[:, :-1]
