"""Whole volumes of a translation: one map of the prior, translated window by window."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.prior_volumes import prior_volume
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.translation.editing import edit_label
from willis.shared.recipes.translation.image_players import TRANSLATOR
from willis.shared.recipes.translation.maps import Plan, semantic_map
from willis.shared.recipes.translation.players import build_players
from willis.shared.recipes.volume_source import Shown
from willis.shared.study import Study
from willis.shared.update import Arrays


class MapVolumes:
    """A :class:`~willis.shared.recipes.volume_source.VolumeSource`.

    Args:
        study: Prior, patch, architecture.
        plan: Its recipe, whose maps are the prior's. A label is edited as a patch's is: moved by a share of
            the volume's side.
        arrays: A release's.

    Attributes:
        network: The translator.

    Raises:
        ValueError: The arrays are others.
    """

    def __init__(self, study: Study, plan: Plan, arrays: Arrays) -> None:
        self._study, self._plan = study, plan
        self.network = build_players(study, plan)[TRANSLATOR]
        load(self.network, part(arrays, TRANSLATOR))
        self.network.eval().requires_grad_(False)

    def shown(self, size: tuple[int, ...], die: torch.Generator) -> Shown:
        """Draw level, label and noise: the map first, then its edit, then the noise."""
        drawn = prior_volume(self._study, die, size=size)
        maps = semantic_map(drawn, levels=self._plan.levels, blur=self._plan.blur)
        maps[0, 1] = edit_label(maps[0, 1], maps[0, 0], self._plan.edit, die)
        return torch.cat([maps, torch.randn((1, 1, *size), generator=die)], dim=1)

    def image(self, shown: Shown) -> Float[Tensor, "window image *space"]:
        """Translate windows."""
        return self.network(shown)
