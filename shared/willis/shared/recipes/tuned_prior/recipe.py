"""Recipe ``tuned-prior``: the prior's parameters, inferred from private means of a few statistics.

1. In public: draw the prior a few thousand times and regress the patches' statistics on its parameters.
2. In private, once: every subject's mean statistics and squares, in the prior's own standard deviations,
   each weighed by what it tells about the parameters; one vector of length at most 1.
3. In public again: weigh the draws so that their mean statistics are the subjects', as far as noise and
   distrust allow; keep those parameters that this narrowed; draw around them, and a share from the prior.

A statistic that lies outside of what the prior can be is believed less the further it lies; a parameter
that the answer says nothing about keeps its range. After the tuning by moments of simulators as in
approximate Bayesian computation (Beaumont 2002), which pulled wrong priors to wrong places on real scans.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.patch import LabelledPatches
from willis.shared.recipe_plans import TunedPriorPlan
from willis.shared.recipes.cloud.parameters import public_dice, space_of
from willis.shared.recipes.cloud.sampler import CloudSampler, cloud, untouched
from willis.shared.recipes.cloud.statistics import STATISTICS, patch_statistics
from willis.shared.recipes.cloud.tilt import beyond_reach, effective, moved_by_noise, tilt
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.tuned_prior.simulation import Simulation, features, simulated
from willis.shared.study import Study
from willis.shared.update import Arrays

_SHARPEST = 1e-6  # standard deviation below which an answer counts as exact; tests alone have such
_SURE = 2.0


@dataclass(frozen=True, eq=False)
class StatisticsQuestion:
    """Mean features of a subject's patches, weighed and scaled.

    Attributes:
        mean: Public mean of every statistic.
        std: Public standard deviation of it; positive.
        weight: Factor of every feature: statistics, then their squares.
        bound: Weighed length that becomes 1; longer vectors are shortened to it.
    """

    mean: Float[ndarray, " statistic"]
    std: Float[ndarray, " statistic"]
    weight: Float[ndarray, " feature"]
    bound: float

    @property
    def length(self) -> int:
        """Two features a statistic."""
        return len(self.weight)

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the subject's features, of norm at most 1."""
        if len(patches) == 0:
            return torch.zeros(self.length)
        mean = features(patch_statistics(patches), self.mean, self.std).mean(0)
        vector = self.weight * mean / self.bound
        return torch.from_numpy(vector / max(1.0, float(np.linalg.norm(vector)) * (1 + 1e-6))).float()


class TunedPriorRecipe:
    """See the module; built for one study.

    Raises:
        StudyError: The study has more image channels than the prior, or another recipe.
    """

    def __init__(self, study: Study) -> None:
        self._plan, self._seed, self._space = plan_of(study, TunedPriorPlan), study.seed, space_of(study)

    def start(self) -> dict[str, np.ndarray]:
        """Return the public moments and weights, no answer yet, and a cloud that is the prior."""
        public = self._simulation()
        asked = {
            "mean": public.mean,
            "std": public.std,
            "weight": public.weight,
            "bound": np.array([self._plan.bound * public.size]),
            "answer": np.zeros_like(public.weight),
            "precision": np.zeros(1),
        }
        return {name: value.astype(np.float32) for name, value in asked.items()} | self._untouched()

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return what makes the question; the same in every round."""
        return {name: np.asarray(state[name]) for name in ("mean", "std", "weight", "bound")}

    def question(self, order: Arrays, *, number: int) -> StatisticsQuestion:
        """Return the question.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        n = len(STATISTICS)
        wanted = {"mean": (n,), "std": (n,), "weight": (2 * n,), "bound": (1,)}
        found = {name: np.shape(value) for name, value in order.items()}
        if found != wanted:
            raise StudyError(f"an order of recipe tuned-prior has arrays {wanted}, got {found}")
        mean, std, weight, bound = (np.asarray(order[name], np.float64) for name in wanted)
        sound = all(np.isfinite(value).all() for value in (mean, std, weight, bound))
        if not (sound and (std > 0).all() and bound[0] > 0):
            raise StudyError(
                "an order of recipe tuned-prior needs finite arrays and positive deviations, got "
                f"a smallest deviation of {std.min()} and a bound of {bound[0]}"
            )
        return StatisticsQuestion(mean, std, weight, float(bound[0]))

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state with the answer averaged in (by precision) and the cloud that it makes."""
        new = {name: np.array(value) for name, value in state.items()}
        if np.isfinite(answer.std):
            gained, held = 1 / max(answer.std, _SHARPEST) ** 2, float(state["precision"][0])
            mean = (held * state["answer"] + gained * answer.mean) / (held + gained)
            new["answer"], new["precision"] = (
                mean.astype(np.float32),
                np.array([held + gained], np.float32),
            )
        return new | self._tuned(new)

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the cloud."""
        return {name: np.asarray(state[name]) for name in ("vectors", "fixed", "jitter")}

    def sampler(self, arrays: Arrays) -> CloudSampler:
        """Return what draws around the cloud.

        Raises:
            ValueError: The arrays are not a cloud over this study's parameters.
        """
        return CloudSampler(self._space, arrays, broad=self._plan.broad)

    def _simulation(self) -> Simulation:
        return simulated(self._space, seed=self._seed, draws=self._plan.simulations)

    def _untouched(self) -> dict[str, np.ndarray]:
        dice = public_dice(self._seed, "tuned-prior", "cloud")
        return untouched(self._space, size=self._plan.vectors, generator=dice)

    def _tuned(self, state: Arrays) -> dict[str, np.ndarray]:
        precision, public = float(state["precision"][0]), self._simulation()
        if precision == 0:
            return self._untouched()
        asked = public.weight > 0
        scale = float(state["bound"][0]) / np.where(asked, public.weight, 1)
        wanted = np.where(asked, state["answer"] * scale, 0)
        # A statistic out of reach is out of reach with its square.
        doubt = beyond_reach(public.expected, wanted).reshape(2, -1).max(0)
        noise = scale**2 / precision
        variance = np.where(asked, noise + self._plan.distrust**2 + np.tile(doubt, 2), np.inf)
        weights = tilt(public.expected, wanted, variance, least_draws=self._plan.least_draws)
        known = self._space.told_apart(
            public.vectors, weights, identified=self._plan.identified, draws=effective(weights)
        )
        known &= self._above_noise(weights, noise=noise, variance=variance)
        dice = public_dice(self._seed, "tuned-prior", "cloud")
        size = self._plan.vectors
        return cloud(self._space, public.vectors, weights, known=known, size=size, generator=dice)

    def _above_noise(
        self,
        weights: Float[ndarray, " draw"],
        *,
        noise: Float[ndarray, " feature"],
        variance: Float[ndarray, " feature"],
    ) -> Bool[ndarray, " parameter"]:
        """Return whose mean or mean square moved by more than twice what noise alone would move it."""
        public = self._simulation()
        unit = self._space.unit(public.vectors)
        values = np.concatenate([unit, unit**2], axis=1)
        moved = np.abs(weights @ values - values.mean(0))
        noisy = moved_by_noise(public.expected, values, noise=noise, variance=variance)
        return (moved > _SURE * noisy).reshape(2, -1).any(0)
