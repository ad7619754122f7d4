"""Recipe ``voted-prior``: private votes choose among prior draws, the chosen ones mutate, a few rounds.

Private Evolution with a simulator (Lin et al. 2024; Xie et al. 2024; simulators: Lin et al. 2025):

1. In public: candidates are parameter vectors of the prior; the mean embedding of a few patches of each,
   drawn around it (the look-ahead), stands for it.
2. In private, each round: every patch of a subject votes for the candidate nearest to it; a subject's
   votes make one vector of length 1.
3. In public: the noisy histogram gives chances; candidates are drawn anew by them and mutate, less every
   round.

Differences from Private Evolution: a subject, not an image, is the voter; votes are shared among alike
candidates and believed only as far as noise does not explain them; parameters that the choice did not
narrow keep their range; a share of patches stays with the untouched prior.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.patch import LabelledPatches
from willis.shared.recipe_plans import VotedPriorPlan
from willis.shared.recipes.cloud.parameters import ParameterSpace, public_dice, space_of, systematic
from willis.shared.recipes.cloud.sampler import CloudSampler, cloud, untouched
from willis.shared.recipes.cloud.tilt import effective
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.voted_prior.embedding import LENGTH, SHAPES, embed, fit_embedding
from willis.shared.recipes.voted_prior.histogram import chances, likeness
from willis.shared.study import Study
from willis.shared.update import Arrays

_STANDARD = 256  # prior draws that the embedding is standardised on
_CLOUD = ("vectors", "fixed", "jitter")


@dataclass(frozen=True, eq=False)
class VoteQuestion:
    """Which candidates a subject's patches are nearest to.

    Attributes:
        embedding: Arrays of the public embedding.
        candidates: Embedding of every candidate.
        seed: Of the random convolutions.
    """

    embedding: Mapping[str, Float[ndarray, "..."]]
    candidates: Float[ndarray, "candidate direction"]
    seed: int

    @property
    def length(self) -> int:
        """One coordinate a candidate."""
        return len(self.candidates)

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the counts of votes, scaled to length 1; zero without patches."""
        votes = np.zeros(self.length)
        if len(patches) == 0:
            return torch.from_numpy(votes).float()
        found = embed(patches, self.embedding, seed=self.seed)
        apart = ((found[:, None] - self.candidates[None]) ** 2).sum(2)
        np.add.at(votes, apart.argmin(1), 1.0)
        return torch.from_numpy(votes / (np.linalg.norm(votes) * (1 + 1e-6))).float()


@lru_cache(maxsize=4)
def _standard_embedding(space: ParameterSpace, *, seed: int) -> Mapping[str, Float[ndarray, "..."]]:
    """Return the embedding standardised on draws of the whole prior; the same every time."""
    dice = public_dice(seed, "voted-prior", "embedding")
    return fit_embedding(space.patches(space.draw(_STANDARD, dice), dice), seed=seed)


class VotedPriorRecipe:
    """See the module; built for one study.

    Raises:
        StudyError: The study has more image channels than the prior, or another recipe.
    """

    def __init__(self, study: Study) -> None:
        self._plan, self._seed, self._space = plan_of(study, VotedPriorPlan), study.seed, space_of(study)
        self._rounds = study.training.rounds

    def start(self) -> dict[str, np.ndarray]:
        """Return the embedding, the first candidates with their embeddings, and a cloud that is the prior."""
        dice = public_dice(self._seed, "voted-prior", "start")
        embedding = _standard_embedding(self._space, seed=self._seed)
        chosen = self._space.draw(self._plan.candidates, dice)
        places = self._embedded(chosen, embedding, number=1)
        many = np.array([len(chosen)])
        state = {**embedding, "chosen": chosen, "candidates": places, "ancestors": many}
        nothing = untouched(self._space, size=self._plan.vectors, generator=dice)
        return {name: np.asarray(value, np.float32) for name, value in state.items()} | nothing

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the embedding and the candidates' places in it."""
        return {name: np.asarray(state[name]) for name in (*SHAPES, "candidates")}

    def question(self, order: Arrays, *, number: int) -> VoteQuestion:
        """Return the question.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        wanted = {**SHAPES, "candidates": (self._plan.candidates, LENGTH)}
        found = {name: np.shape(value) for name, value in order.items()}
        if found != wanted:
            raise StudyError(f"an order of recipe voted-prior has arrays {wanted}, got {found}")
        arrays = {name: np.asarray(value, np.float64) for name, value in order.items()}
        if not all(bool(np.isfinite(value).all()) for value in arrays.values()):
            raise StudyError("an order of recipe voted-prior needs finite arrays, got some that are not")
        if not all(bool((arrays[name] > 0).all()) for name in ("convolved_std", "statistics_std")):
            raise StudyError("an order of recipe voted-prior needs positive deviations, got others")
        return VoteQuestion(arrays, arrays.pop("candidates"), self._seed)

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state with the candidates that the votes chose, mutated, and the cloud of the chosen."""
        new = {name: np.array(value) for name, value in state.items()}
        alike = likeness(new["candidates"].astype(np.float64), width=self._plan.smoothing)
        chance, belief = chances(answer.mean, answer.std, alike, threshold=self._plan.threshold)
        if belief == 0:
            return new
        dice = public_dice(self._seed, "voted-prior", "round", number)
        vectors = new["chosen"].astype(np.float64)
        # Choosing among those that were chosen before leaves fewer independent first candidates.
        left = 1 / (1 / float(state["ancestors"][0]) + 1 / effective(chance) - 1 / len(vectors))
        new["ancestors"] = np.array([left], np.float32)
        known = self._space.told_apart(vectors, chance, identified=self._plan.identified, draws=left)
        new |= cloud(
            self._space,
            vectors,
            chance,
            known=known,
            size=self._plan.vectors,
            generator=dice,
        )
        if number < self._rounds:
            chosen = self._mutated(vectors[systematic(chance, len(vectors), dice)], dice, number=number)
            places = self._embedded(chosen, new, number=number + 1)
            new |= {"chosen": chosen.astype(np.float32), "candidates": places.astype(np.float32)}
        return new

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the cloud."""
        return {name: np.asarray(state[name]) for name in _CLOUD}

    def sampler(self, arrays: Arrays) -> CloudSampler:
        """Return what draws around the cloud.

        Raises:
            ValueError: The arrays are not a cloud over this study's parameters.
        """
        return CloudSampler(self._space, arrays, broad=self._plan.broad)

    def _mutated(
        self, vectors: Float[ndarray, "n parameter"], dice: np.random.Generator, *, number: int
    ) -> Float[ndarray, "n parameter"]:
        width = self._space.high - self._space.low
        moved = vectors + self._plan.mutation / 2 ** (number - 1) * width * dice.standard_normal(
            vectors.shape
        )
        return np.clip(moved, self._space.low, self._space.high)

    def _embedded(
        self, vectors: Float[ndarray, "n parameter"], embedding: Arrays, *, number: int
    ) -> Float[ndarray, "n direction"]:
        """Mean embedding of the patches of every candidate's variations."""
        dice = public_dice(self._seed, "voted-prior", "variations", number)
        many = np.repeat(vectors, self._plan.variations, axis=0)
        patches = self._space.patches(self._mutated(many, dice, number=number + 1), dice)
        found = embed(patches, embedding, seed=self._seed)
        return found.reshape(len(vectors), self._plan.variations, -1).mean(1)
