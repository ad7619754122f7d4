"""What a site is asked in a round of a game: the gradients of the asked players' losses on one unit."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.game.contract import Game
from willis.shared.recipes.game.table import length_of, slope
from willis.shared.recipes.named_parts import owned, part
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.precision import precision_of
from willis.shared.study import Study
from willis.shared.update import Arrays

CENTRE = "centre"  # name in an order


class GameQuestion:
    """Gradients of the asked players' losses over a unit's patches, player after player, then a statistic.

    The public part of the gradients is added to every vector before it is clipped, where the study centres:
    that makes the vector shorter (method.md, fake-centred clipping).

    Args:
        game: Its networks take the order's weights.
        study: Device, precision, seed.
        order: ``PLAYER/NAME`` of the shown players; ``centre`` where ``privacy.fake_centred`` and the game
            has a public part.
        number: Of the round.

    Raises:
        StudyError: The order's arrays are others.
    """

    def __init__(self, game: Game, study: Study, order: Arrays, *, number: int) -> None:
        self._game, self._study, self._number = game, study, number
        self._moved = sum(length_of(game.players[name]) for name in game.asked)
        self.length = self._moved + game.statistics
        try:
            self._read(order)
        except ValueError as fault:
            raise StudyError(f"the order does not fit recipe {study.recipe.name}: {fault}") from fault
        self._centre = torch.from_numpy(order[CENTRE].astype("float32")) if CENTRE in order else None

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return one unit's vector, float32, on the CPU; it is clipped by whoever sums."""
        game = self._game
        network = game.players[game.asked[0]]
        shown = patches.to(next(network.parameters()).device)
        dice = public_generator(self._study.seed, "private", self._number)
        with precision_of(self._study, network):
            losses = game.private(shown, dice)
        moved = torch.cat([slope(game.players[name], losses[name]) for name in game.asked])
        if self._centre is not None:
            moved = moved + self._centre
        if not game.statistics:
            return moved
        with torch.no_grad(), precision_of(self._study, network):
            told = game.statistic(shown).float().cpu()
        return torch.cat([moved, told])

    def _read(self, order: Arrays) -> None:
        wanted = {name: part(order, name) for name in self._game.shown}
        known = {CENTRE} | {key for name, arrays in wanted.items() for key in owned(name, arrays)}
        if strange := sorted(set(order) - known):
            raise ValueError(f"unknown arrays: {', '.join(strange[:3])}")
        for name, arrays in wanted.items():
            load(self._game.players[name], arrays)
        if CENTRE in order and order[CENTRE].shape != (self._moved,):
            raise ValueError(f"the centre must have {self._moved} numbers, got shape {order[CENTRE].shape}")
        if CENTRE in order and not self._study.privacy.fake_centred:
            raise ValueError("it has a centre, and the study's privacy.fake_centred is false")
