"""The game of a translation: translators and their critics, a generator of maps and its critic."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.game_plans import CycleganPlan
from willis.shared.networks.build import choose_device
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import Sampler
from willis.shared.recipes.game.contract import Losses
from willis.shared.recipes.translation.image_players import CyclicPlayers, PairedPlayers
from willis.shared.recipes.translation.map_players import MAP_GENERATOR, MapPlayers
from willis.shared.recipes.translation.maps import Plan, semantic_map
from willis.shared.recipes.translation.players import asked_of, build_players, released_of
from willis.shared.recipes.translation.sampler import pair_sampler
from willis.shared.study import Study
from willis.shared.update import Arrays


class TranslationGame:
    """pix2pix, SPADE or CycleGAN, with or without a generator of maps; see :class:`~..game.contract.Game`.

    Translators and all critics are asked: they meet patients, and one private sum a round moves them. The
    generator of maps is free.

    Args:
        study: The protocol.
        plan: Its recipe.
    """

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study, self._plan = study, plan
        device = choose_device(study.training.device)
        self._players = {name: one.to(device) for name, one in build_players(study, plan).items()}
        self._images = (
            CyclicPlayers(plan, self._players)
            if isinstance(plan, CycleganPlan)
            else PairedPlayers(plan, self._players)
        )
        self._maps = MapPlayers(study, plan, self._players) if plan.maps == "gan" else None

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """All networks by name."""
        return self._players

    @property
    def asked(self) -> tuple[str, ...]:
        """All but the generator of maps."""
        return asked_of(self._players)

    @property
    def shown(self) -> tuple[str, ...]:
        """All: the gradient penalty of the critic of maps needs the generator of maps."""
        return (*self.asked, MAP_GENERATOR) if self._maps else self.asked

    @property
    def released(self) -> tuple[str, ...]:
        """The translator, and the generator of maps where there is one."""
        return released_of(self._players)

    @property
    def statistics(self) -> int:
        """None."""
        return 0

    def rate(self, player: str) -> float:
        """Return ``training.critic_lr`` for critics, else ``training.generator_lr``."""
        training = self._study.training
        return training.critic_lr if player.endswith("critic") else training.generator_lr

    def private(self, patches: LabelledPatches, dice: torch.Generator) -> Losses:
        """Return the asked players' losses over one unit's patches and their maps."""
        maps = semantic_map(patches, levels=self._plan.levels, blur=self._plan.blur)
        losses = dict(self._images.losses(maps, patches[:, :-1], dice))
        return losses | dict(self._maps.private(maps, dice)) if self._maps else losses

    def public(self, dice: torch.Generator) -> Losses:
        """Return the critic of maps' loss on fakes, where there is one."""
        return self._maps.public(dice) if self._maps else {}

    def statistic(self, patches: LabelledPatches) -> Float[Tensor, " statistic"]:
        """Return no numbers."""
        return torch.zeros(0)

    def free(self, dice: torch.Generator, statistic: Float[Tensor, " statistic"]) -> Losses:
        """Return the generator of maps' loss, where there is one."""
        return self._maps.free(dice) if self._maps else {}

    def constrain(self) -> None:
        """Do nothing: a penalty, not a projection, keeps the critic of maps smooth."""

    def settle(self, dice: torch.Generator) -> None:
        """Do nothing: no network has statistics over a batch."""

    def sampler(self, arrays: Arrays) -> Sampler:
        """Return what draws pairs from a release.

        Raises:
            ValueError: The arrays are others.
        """
        return pair_sampler(self._study, self._plan, arrays)
