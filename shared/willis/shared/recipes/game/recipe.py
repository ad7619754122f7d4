"""The recipe of every game: asked players move by private gradients, free players on fakes.

A round is one private sum over all sites. Without noise, and with all patients' patches in one unit, it is
plain training: the same losses, the same optimiser (``simulations.experiments`` trains so where a paper has
no privacy).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.build import public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.contract import PooledMean, Sampler
from willis.shared.recipes.game.contract import Game
from willis.shared.recipes.game.question import CENTRE, GameQuestion
from willis.shared.recipes.game.table import Table, length_of, means_in, slope
from willis.shared.recipes.named_parts import owned
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.precision import precision_of
from willis.shared.study import Study
from willis.shared.update import Arrays


class GameRecipe:
    """A game as a recipe.

    Args:
        study: The protocol.
        game: Built for it.
    """

    def __init__(self, study: Study, game: Game) -> None:
        self._study, self._game = study, game

    def start(self) -> dict[str, np.ndarray]:
        """Return first weights from the study's public seed, optimisers that took no step, and the means."""
        return Table.first(self._game).arrays()

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the shown players' weights, and the public gradient where privacy is ``fake_centred``."""
        game = Table.read(self._game, state).game
        order: dict[str, np.ndarray] = {}
        for name in game.shown:
            order |= owned(name, arrays_of(game.players[name]))
        if self._study.privacy.fake_centred:
            centre = self._public_gradient(number)
            if centre is not None:
                order[CENTRE] = centre.numpy()
        return order

    def question(self, order: Arrays, *, number: int) -> GameQuestion:
        """Return what a site asks of each unit; see there."""
        return GameQuestion(self._game, self._study, order, number=number)

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state after a round.

        Steps:
            1. The asked players' gradients: the answer, and the public part unless it was in it.
            2. A step of each one's optimiser, then their constraints.
            3. After every ``critic_per_generator``-th round ``generator_steps`` of the free players.
            4. The means over the rounds of what is released.

        Raises:
            ValueError: The answer has another length than the question.
        """
        training, table = self._study.training, Table.read(self._game, state)
        lengths = [length_of(self._game.players[name]) for name in self._game.asked]
        wanted = sum(lengths) + self._game.statistics
        if answer.mean.shape != (wanted,):
            raise ValueError(f"the answer must have {wanted} coordinates, got shape {answer.mean.shape}")
        told = torch.from_numpy(answer.mean.astype(np.float32))
        moved, statistic = told[: sum(lengths)], told[sum(lengths) :]
        if not self._study.privacy.fake_centred:
            public = self._public_gradient(number)
            moved = moved if public is None else moved + public
        for name, gradient in zip(self._game.asked, moved.split(lengths), strict=True):
            table.descend(name, gradient, training)
        self._game.constrain()
        if number % training.critic_per_generator == 0:
            self._step_free(table, statistic, number)
        table.follow(training.ema)
        return table.arrays()

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the means of the released players, ready to draw."""
        Table.read(self._game, state)
        found: dict[str, np.ndarray] = {}
        for name, mean in means_in(state, self._game).items():
            load(self._game.players[name], mean)
        self._game.settle(public_generator(self._study.seed, "settle"))
        for name in self._game.released:
            found |= owned(name, arrays_of(self._game.players[name]))
        return found

    def sampler(self, arrays: Arrays) -> Sampler:
        """Return what draws from a release's weights."""
        return self._game.sampler(arrays)

    def _public_gradient(self, number: int) -> Float[Tensor, " coordinate"] | None:
        """The gradient of the asked players' public losses: exact, and the same for order and learn."""
        game = self._game
        with precision_of(self._study, game.players[game.asked[0]]):
            losses = game.public(public_generator(self._study.seed, "fakes", number))
        if not losses:
            return None
        parts = [
            slope(game.players[name], losses[name])
            if name in losses
            else torch.zeros(length_of(game.players[name]))
            for name in game.asked
        ]
        return torch.cat(parts)

    def _step_free(self, table: Table, statistic: Float[Tensor, " statistic"], number: int) -> None:
        dice = public_generator(self._study.seed, "round", number)
        for _ in range(self._study.training.generator_steps):
            with precision_of(self._study, self._game.players[self._game.asked[0]]):
                losses = self._game.free(dice, statistic)
            gradients = {name: slope(self._game.players[name], loss) for name, loss in losses.items()}
            for name, gradient in gradients.items():
                table.descend(name, gradient, self._study.training)
