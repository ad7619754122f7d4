"""Recipe ``appearance``: private means of how tissue and target look, plugged into the prior's draws.

1. In public: measure a few hundred prior draws; every statistic is counted from their mean, in their
   standard deviation.
2. In private, once: a subject's mean statistics, and by group of statistics the mean of their squares, as
   one vector of length at most 1.
3. In public again: estimate where the modality's statistics lie, by the linear estimator of least mean
   square (Wiener) under the prior's own covariance and the known noise, and how far patches scatter about
   it. A prior draw that lies z from the prior's mean is moved to ``mean + spread * z``: what noise drowned
   stays as the prior draws it, and an answer without information leaves the prior.

Its null control is the same with an answer of infinite noise: :func:`uninformed`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.recipe_plans import AppearancePlan
from willis.shared.recipes.appearance.posterior import posterior
from willis.shared.recipes.appearance.question import (
    FURTHEST,
    LENGTH,
    AppearanceQuestion,
    covariance_of,
    measured,
    standardised,
)
from willis.shared.recipes.appearance.statistics import (
    CALIBRE,
    CELLS,
    GROUPS,
    LEVEL,
    N_STATISTICS,
    calibres,
    measure,
)
from willis.shared.recipes.appearance.transfer import transfer
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import check_one_image_channel, plan_of
from willis.shared.study import Study
from willis.shared.update import Arrays

_WEIGHTS = {"level": 1.0, "bands": 0.8, "profile": 0.5, "calibre": 0.7, "squares": 0.5}
_ASKED = {
    "centre": (N_STATISTICS,),
    "scale": (N_STATISTICS,),
    "weight": (LENGTH,),
    "covariance": (N_STATISTICS, N_STATISTICS),
}  # an order's arrays


def uninformed(units: float) -> PooledMean:
    """Return the answer of sites that told nothing: what is learned from it is the null control."""
    return PooledMean(np.zeros(LENGTH), np.inf, units)


class AppearanceRecipe:
    """See the module; built for one study.

    Raises:
        StudyError: The study has more image channels than the prior, or another recipe.
    """

    def __init__(self, study: Study) -> None:
        check_one_image_channel(study)
        self._study, self._plan = study, plan_of(study, AppearancePlan)

    def start(self) -> dict[str, np.ndarray]:
        """Return the public moments and weights, and a look that is the prior's."""
        drawn = _prior(self._study, self._plan.simulations, "appearance", "moments")
        values = np.stack([measured(patch) for patch in drawn.numpy()])
        told = np.isfinite(values).mean(0) >= self._plan.told
        centre, scale = _moments(values, told)
        for looks in (LEVEL, CELLS):  # in image units; bands and calibres are logarithms
            wider = np.maximum(scale[looks], self._plan.reach / FURTHEST)
            scale[looks] = np.where(told[looks], wider, 0)
        scores = standardised(values, centre, scale)
        weight = _weights(scale > 0)
        bound = self._plan.bound * float(np.linalg.norm(weight[:N_STATISTICS]))
        state = {
            "centre": centre,
            "scale": scale,
            "weight": weight / bound,
            "covariance": covariance_of(scores),
            "answer": np.zeros(LENGTH),
            "precision": np.zeros(1),
            "mean": np.zeros(N_STATISTICS),
            "spread": np.ones(N_STATISTICS),
        }
        return {name: value.astype(np.float32) for name, value in state.items()}

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return what makes the question; the same in every round."""
        return {name: np.asarray(state[name]) for name in _ASKED}

    def question(self, order: Arrays, *, number: int) -> AppearanceQuestion:
        """Return the question.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        _check(order, _ASKED, error=StudyError)
        centre, scale, weight, covariance = (np.asarray(order[name], np.float64) for name in _ASKED)
        if not ((scale >= 0).all() and (weight >= 0).all()):
            raise StudyError(
                "an order of recipe appearance needs scales and weights of at least 0, "
                f"got {min(scale.min(), weight.min())}"
            )
        return AppearanceQuestion(centre, scale, weight, covariance, self._plan.distrust)

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state with the answer averaged in (by precision) and the look that it tells of."""
        new = {name: np.array(value) for name, value in state.items()}
        if np.isfinite(answer.std):
            gained, held = 1 / max(answer.std, 1e-6) ** 2, float(state["precision"][0])
            mean = (held * state["answer"] + gained * answer.mean) / (held + gained)
            new["answer"], new["precision"] = mean, np.array([held + gained])
        mean, spread = posterior(
            new["answer"],
            float(new["precision"][0]),
            weight=new["weight"],
            covariance=new["covariance"],
            distrust=self._plan.distrust,
        )
        new["mean"], new["spread"] = mean, spread
        return {name: np.asarray(value, np.float32) for name, value in new.items()}

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the look: where the prior's draws are moved to."""
        return {name: np.asarray(state[name]) for name in ("centre", "scale", "mean", "spread")}

    def sampler(self, arrays: Arrays) -> "AppearanceSampler":
        """Return what draws patches of this look.

        Raises:
            ValueError: The arrays are not a look.
        """
        names = ("centre", "scale", "mean", "spread")
        _check(arrays, dict.fromkeys(names, (N_STATISTICS,)), error=ValueError)
        centre, scale, mean, spread = (np.asarray(arrays[name], np.float64) for name in names)
        return AppearanceSampler(self._study, self._plan, centre, scale, mean, spread)


@dataclass(frozen=True, eq=False)
class AppearanceSampler:
    """Draws of the prior, moved to a look; a share of them untouched.

    Attributes:
        study: Its prior and patch size.
        plan: How many candidates, how broad.
        centre: See the question.
        scale: See the question.
        mean: Where a draw at the prior's mean goes, in scales.
        spread: What becomes of its distance to the mean.
    """

    study: Study
    plan: AppearancePlan
    centre: Float[ndarray, " statistic"]
    scale: Float[ndarray, " statistic"]
    mean: Float[ndarray, " statistic"]
    spread: Float[ndarray, " statistic"]

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Return patches ``first`` to ``first + n - 1`` of a seed."""
        patches = [self._one(seed, number) for number in range(first, first + n)]
        return torch.stack(patches) if patches else torch.empty(0, 2, *self.study.patch.size)

    def _one(self, seed: int, number: int) -> Float[Tensor, " channel *space"]:
        public = public_generator(self.study.seed, "appearance", "draw", seed, number)
        generator = np.random.default_rng(public.initial_seed())
        if generator.uniform() < self.plan.broad:
            return _drawn(self.study, 1, generator)[0]
        patch = self._chosen(generator)
        look = measure(patch[0].numpy(), patch[1].numpy() > 0)
        score = standardised(look.values, self.centre, self.scale)
        change = np.nan_to_num(self.scale * (self.mean + (self.spread - 1) * score))
        patch[0] = torch.from_numpy(transfer(patch[0].numpy(), look, change))
        return patch

    def _chosen(self, generator: np.random.Generator) -> Float[Tensor, " channel *space"]:
        """One of a few prior draws: how likely its calibres are under the look, over under the prior."""
        candidates = _drawn(self.study, self.plan.candidates, generator)
        if len(candidates) == 1:
            return candidates[0]
        values = np.stack([calibres(patch[1].numpy() > 0) for patch in candidates])
        score = standardised(values, self.centre[CALIBRE], self.scale[CALIBRE])
        mean, spread = self.mean[CALIBRE], self.spread[CALIBRE]
        log_odds = np.nansum(score**2 - ((score - mean) / spread) ** 2, axis=1) / 2
        odds = np.exp(log_odds - log_odds.max())
        return candidates[int(generator.choice(len(odds), p=odds / odds.sum()))]


def _moments(
    values: Float[ndarray, "patch statistic"], told: ndarray
) -> tuple[Float[ndarray, " statistic"], Float[ndarray, " statistic"]]:
    """Mean and deviation of the statistics that enough prior draws tell; 0 and 0 of the others."""
    kept = np.where(told, values, 0)
    return np.nan_to_num(np.nanmean(kept, 0)), np.where(told, np.nanstd(kept, 0), 0)


def _weights(asked: ndarray) -> Float[ndarray, " coordinate"]:
    weight = np.full(N_STATISTICS, _WEIGHTS["profile"])
    weight[GROUPS[0]], weight[GROUPS[1]] = _WEIGHTS["level"], _WEIGHTS["bands"]
    weight[CALIBRE] = _WEIGHTS["calibre"]
    groups = [_WEIGHTS["squares"] * float(asked[group].any()) for group in GROUPS]
    return np.concatenate([weight * asked, groups])


def _drawn(study: Study, n: int, generator: np.random.Generator) -> LabelledPatches:
    return draw_patches(
        study.prior.family,
        n=n,
        size=study.patch.size,
        generator=generator,
        ranges=study.prior.ranges,
    )


def _prior(study: Study, n: int, *purpose: str) -> LabelledPatches:
    seed = public_generator(study.seed, *purpose).initial_seed()
    return _drawn(study, n, np.random.default_rng(seed))


def _check(arrays: Arrays, wanted: dict[str, tuple[int, ...]], *, error: type[Exception]) -> None:
    found = {name: np.shape(value) for name, value in arrays.items()}
    if found != wanted or not all(np.isfinite(value).all() for value in arrays.values()):
        raise error(f"recipe appearance needs finite arrays of shapes {wanted}, got {found}")
