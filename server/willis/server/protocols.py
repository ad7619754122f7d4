"""How a round's answers become the next model: weight differences merged, or private sums learned from."""

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from willis.server.admission import check_sum, check_update
from willis.server.aggregation import ema, merge
from willis.server.checkpoint import Checkpoint
from willis.shared.mechanism import mechanism_of
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study
from willis.shared.update import SUM, Arrays


class RoundProtocol(Protocol):
    """What the round loop leaves to the study's protocol."""

    def order(self, state: Checkpoint) -> Arrays:
        """Return the arrays that every site gets in the round after this state."""
        ...

    def check(self, answer: Arrays, *, order: Arrays, site: str) -> None:
        """Raise ``UnsoundUpdate`` unless an answer's arrays may count."""
        ...

    def advance(self, state: Checkpoint, answers: Mapping[str, Arrays]) -> tuple[Arrays, Arrays]:
        """Return the next model, and what a release after this round would hold."""
        ...


def protocol_of(study: Study) -> RoundProtocol:
    """Return the study's protocol."""
    return Pooled(study) if study.training.protocol == "pooled" else Local(study)


class Local:
    """Sites train from the global generator and send what that moved; differences are averaged."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def order(self, state: Checkpoint) -> Arrays:
        """Return the global generator."""
        return state.model

    def check(self, answer: Arrays, *, order: Arrays, site: str) -> None:
        """Refuse what is no bounded difference of the generator's weights."""
        check_update(answer, like=order, max_norm=self._study.federation.update_norm)

    def advance(self, state: Checkpoint, answers: Mapping[str, Arrays]) -> tuple[Arrays, Arrays]:
        """Add the weighted mean of the differences; what is released is the average over the rounds."""
        weights = {site.name: site.weight for site in self._study.federation.sites}
        model = merge(state.model, answers, weights=weights)
        return model, ema(state.released, model, decay=self._study.training.ema)


class Pooled:
    """Sites answer with private sums; the recipe learns from their sum over all sites.

    Attributes:
        length: Coordinates of the present round's question.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._recipe = recipe_of(study)
        self.length = 0

    def order(self, state: Checkpoint) -> Arrays:
        """Return what the recipe's question is made from."""
        order = self._recipe.order(state.model, number=state.round + 1)
        self.length = self._recipe.question(order, number=state.round + 1).length
        return order

    def check(self, answer: Arrays, *, order: Arrays, site: str) -> None:
        """Refuse what is no sum of the question's length, or longer than a site's could be."""
        check_sum(answer, length=self.length, max_norm=longest_sum(self._study, site, self.length))

    def advance(self, state: Checkpoint, answers: Mapping[str, Arrays]) -> tuple[Arrays, Arrays]:
        """Let the recipe learn from the sum over the sites that answered."""
        return self.learn(
            state, pooled_mean(self._study, {site: arrays[SUM] for site, arrays in answers.items()})
        )

    def learn(self, state: Checkpoint, mean: PooledMean) -> tuple[Arrays, Arrays]:
        """Let the recipe learn from a pooled mean."""
        model = self._recipe.learn(state.model, mean, number=state.round + 1)
        return model, self._recipe.released(model)


def pooled_mean(study: Study, sums: Mapping[str, np.ndarray]) -> PooledMean:
    """Return the estimate of one unit's mean vector from the sites' noisy sums.

    The sums are added in the order of the sites' names, in float64, and divided by the public number of
    units that were expected in the answering sites' draws; never by a true count.
    """
    total = np.sum([sums[site].astype(np.float64) for site in sorted(sums)], axis=0)
    units = sum(expected_units(study, site) for site in sums)
    std = sum_noise(study) * math.sqrt(len(sums)) / units
    return PooledMean(mean=(total / units).astype(np.float32), std=std, units=units)


def expected_units(study: Study, site: str) -> float:
    """Return how many units a site is expected to draw: sampling rate times what it declared."""
    units = study.federation.site(site).subjects
    if study.privacy.unit is PrivacyUnit.PATCH:
        units *= study.patch.per_subject
    return study.privacy.sampling_rate * units


def sum_noise(study: Study) -> float:
    """Return the standard deviation of the noise in each coordinate of one site's sum."""
    return mechanism_of(study, steps=1).noise_multiplier * study.privacy.clip_norm


def longest_sum(study: Study, site: str, length: int) -> float:
    """Return a bound that an honest site's sum passes with a chance far below 1e-9.

    Twice the clipped vectors of all units that the site declared (a wrong figure breaks no guarantee), and
    the length of its noise, which is close to noise * sqrt(length).
    """
    declared = expected_units(study, site) / study.privacy.sampling_rate
    return 2 * declared * study.privacy.clip_norm + sum_noise(study) * (math.sqrt(length) + 10)
