"""What a game is: networks that play against each other, and what each of them wants.

The systems of the papers are games: a generator and its critic (Kossen 2021), a translator and the critic of
its images (Shin 2018), two translators, their critics and a generator of masks (Platscher 2021). They differ
in networks and losses alone. How a game is trained, at one site or at many, with or without privacy, is the
same for all (:mod:`~willis.shared.recipes.game.recipe`).

A player is one of the networks. **Asked** players learn from patients: every round a site answers with the
gradient of their losses over one unit's patches, clipped, summed and made noisy. **Free** players see fakes
and what the asked ones learned, and cost nothing.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import Sampler
from willis.shared.update import Arrays

Losses = Mapping[str, Tensor]  # by player: one number each, with a graph


class Game(Protocol):
    """A game, built for one study; its networks are on the study's device.

    All dice are public (``networks.build.public_generator``); a loss throws no others, so that it is the same
    number wherever it is computed. No loss may depend on more than its arguments, the networks' weights and
    the study: the private sum's guarantee needs one unit's loss to know nothing of another unit.
    """

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """All networks by name; their weights are set by whoever holds the game."""
        ...

    @property
    def asked(self) -> tuple[str, ...]:
        """Players that learn from patients, in the order of an answer's coordinates."""
        ...

    @property
    def shown(self) -> tuple[str, ...]:
        """Players whose weights a site needs to compute the asked players' losses."""
        ...

    @property
    def released(self) -> tuple[str, ...]:
        """Players that a release holds, because drawing needs them."""
        ...

    @property
    def statistics(self) -> int:
        """Length of :meth:`statistic`; 0 where the free players need none."""
        ...

    def rate(self, player: str) -> float:
        """Return a player's learning rate."""
        ...

    def private(self, patches: LabelledPatches, dice: torch.Generator) -> Losses:
        """Return the asked players' losses over one unit's patches, on the device."""
        ...

    def public(self, dice: torch.Generator) -> Losses:
        """Return what some asked players' losses have beside :meth:`private`, of fakes alone, if any."""
        ...

    def statistic(self, patches: LabelledPatches) -> Float[Tensor, " statistic"]:
        """Return what else is asked of one unit, for the free players; not called where there is none."""
        ...

    def free(self, dice: torch.Generator, statistic: Float[Tensor, " statistic"]) -> Losses:
        """Return the free players' losses.

        Args:
            dice: Of latent vectors.
            statistic: Noisy mean of :meth:`statistic` over units; its length is ``statistics``.
        """
        ...

    def constrain(self) -> None:
        """Bring the asked players' weights back within their constraints, in place."""
        ...

    def settle(self, dice: torch.Generator) -> None:
        """Make ready for a release what only drawing needs, such as the statistics of a normalisation."""
        ...

    def sampler(self, arrays: Arrays) -> Sampler:
        """Return what draws from a release: arrays by ``player/name`` of the released players.

        Raises:
            ValueError: The arrays are others.
        """
        ...
