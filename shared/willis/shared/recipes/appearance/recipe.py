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

LENGTH = N_STATISTICS + len(GROUPS)
_WEIGHTS = {"level": 1.0, "bands": 0.8, "profile": 0.5, "calibre": 0.7, "squares": 0.5}
_FURTHEST = 3.0  # standard deviations of the prior's that a patch's statistic counts at most


def uninformed(units: float) -> PooledMean:
    """Return the answer of sites that told nothing: what is learned from it is the null control."""
    return PooledMean(np.zeros(LENGTH), np.inf, units)


@dataclass(frozen=True, eq=False)
class AppearanceQuestion:
    """One subject's mean statistics and squares, counted from the prior's mean.

    Attributes:
        centre: Public mean of each statistic over the prior's draws.
        scale: Public standard deviation of it, or ``recipe.reach`` / 3; 0 where it is not asked for.
        weight: Factor of every coordinate.
    """

    centre: Float[ndarray, " statistic"]
    scale: Float[ndarray, " statistic"]
    weight: Float[ndarray, " coordinate"]

    @property
    def length(self) -> int:
        """One coordinate a statistic, one a group of them."""
        return LENGTH

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the subject's vector, of norm at most 1; a statistic that no patch tells counts 0."""
        if len(patches) == 0:
            return torch.zeros(LENGTH)
        values = np.stack([_measured(patch) for patch in patches.numpy()])
        vector = self.weight * features(standardised(values, self.centre, self.scale))
        return torch.from_numpy(vector / max(1.0, float(np.linalg.norm(vector)) * (1 + 1e-6))).float()


def standardised(
    values: Float[ndarray, "*patch statistic"],
    centre: Float[ndarray, " statistic"],
    scale: Float[ndarray, " statistic"],
) -> Float[ndarray, "*patch statistic"]:
    """Count statistics from the centre in scales, at most 3; NaN where missing or not asked for."""
    asked = np.where(scale > 0, scale, np.nan)
    return np.clip((values - centre) / asked, -_FURTHEST, _FURTHEST)


def features(scores: Float[ndarray, "patch statistic"]) -> Float[ndarray, " coordinate"]:
    """Return means over patches, then by group the mean square less 1; 0 for what no patch tells."""
    squares = [_mean(scores[:, group].reshape(-1, 1) ** 2 - 1) for group in GROUPS]
    return np.concatenate([_mean(scores), *squares])


def _mean(scores: Float[ndarray, "patch statistic"]) -> Float[ndarray, " statistic"]:
    told = np.isfinite(scores)
    return np.where(told, scores, 0).sum(0) / np.maximum(told.sum(0), 1)


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
        values = np.stack([_measured(patch) for patch in drawn.numpy()])
        told = np.isfinite(values).mean(0) >= self._plan.told
        centre, scale = _moments(values, told)
        for looks in (LEVEL, CELLS):  # in image units; bands and calibres are logarithms
            wider = np.maximum(scale[looks], self._plan.reach / _FURTHEST)
            scale[looks] = np.where(told[looks], wider, 0)
        scores = np.nan_to_num(standardised(values, centre, scale))
        weight = _weights(scale > 0)
        bound = self._plan.bound * float(np.linalg.norm(weight[:N_STATISTICS]))
        state = {
            "centre": centre,
            "scale": scale,
            "weight": weight / bound,
            "covariance": scores.T @ scores / len(scores),
            "answer": np.zeros(LENGTH),
            "precision": np.zeros(1),
            "mean": np.zeros(N_STATISTICS),
            "spread": np.ones(N_STATISTICS),
        }
        return {name: value.astype(np.float32) for name, value in state.items()}

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return what makes the question; the same in every round."""
        return {name: np.asarray(state[name]) for name in ("centre", "scale", "weight")}

    def question(self, order: Arrays, *, number: int) -> AppearanceQuestion:
        """Return the question.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        wanted = {"centre": (N_STATISTICS,), "scale": (N_STATISTICS,), "weight": (LENGTH,)}
        _check(order, wanted, error=StudyError)
        centre, scale, weight = (np.asarray(order[name], np.float64) for name in wanted)
        if not ((scale >= 0).all() and (weight >= 0).all()):
            raise StudyError(
                "an order of recipe appearance needs scales and weights of at least 0, "
                f"got {min(scale.min(), weight.min())}"
            )
        return AppearanceQuestion(centre, scale, weight)

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


def _measured(patch: Float[ndarray, " channel *space"]) -> Float[ndarray, " statistic"]:
    return measure(patch[0], patch[-1] > 0).values


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
