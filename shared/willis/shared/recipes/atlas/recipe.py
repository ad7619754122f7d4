"""Recipe ``atlas``: templates of an organ and its surroundings, and how they vary, from private means.

1. Start: templates of the study's public prior. 2. First round: means of labelled patches in public bins.
3. Later rounds: templates are warped onto patches at the sites, and corrected in their own frame; how far
warps go and what power they leave is asked beside. 4. Every answer is shrunk by its known noise. 5. Draws
warp a template and add a residual; the label is warped with the image, so their borders agree.

After congealing (Learned-Miller 2006) and unbiased templates (Joshi et al. 2004), with private sums in the
place of means.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.prior_draws import draw_prior
from willis.shared.recipe_plans import AtlasPlan
from willis.shared.recipes.atlas.frame import Planes
from willis.shared.recipes.atlas.inference import lacking, refined
from willis.shared.recipes.atlas.layout import (
    N_BINS,
    N_EMPTY,
    N_LABELLED,
    check_state,
    layout_of,
    weights,
)
from willis.shared.recipes.atlas.profile import N_PROFILE
from willis.shared.recipes.atlas.question import AtlasQuestion, as_planes, public_bins
from willis.shared.recipes.atlas.sampler import AtlasSampler
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import plan_of
from willis.shared.study import Study
from willis.shared.update import Arrays

_PRIOR_DRAWS = 256
_PROFILE_DRAWS = 256
_PULL = 8.0  # draws that the mean of all weighs in the mean of some


class AtlasRecipe:
    """The atlas of one study.

    Raises:
        StudyError: The patches are not planes with one image channel.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._layout = layout_of(study)
        self._plan = plan_of(study, AtlasPlan)

    def start(self) -> dict[str, np.ndarray]:
        """Return the atlas of the public prior; epsilon 0."""
        planes = as_planes(draw_prior(self._study, _PRIOR_DRAWS, purpose="atlas"))
        grown = public_bins(planes)
        means = [_mean(planes, (grown - N_EMPTY) // 2 == area) for area in range(N_LABELLED // 2)]
        templates = torch.stack([planes.mean(0)] * N_EMPTY + [mean for mean in means for _ in range(2)])
        state = {
            "share": np.full(N_BINS, 1 / N_BINS),
            "image": self._layout.image.analyse(templates[:, 0]).numpy(),
            "border": self._layout.border.analyse(templates[N_EMPTY:, 1]).numpy(),
            "profile": np.zeros(N_PROFILE),
            "added": np.zeros(N_PROFILE),
            **{name: np.ones(self._layout.shapes[name]) for name in ("warp_spread", "power")},
        }
        state["broad"] = np.ones(1)
        return {name: array.astype(np.float32) for name, array in state.items()}

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the atlas so far; the sites compare their patches with it."""
        check_state(state, self._layout)
        return dict(state)

    def question(self, order: Arrays, *, number: int) -> AtlasQuestion:
        """Return what round ``number`` asks of each subject.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        try:
            check_state(order, self._layout)
        except ValueError as fault:
            raise StudyError(f"round {number} of the recipe atlas cannot be answered: {fault}") from fault
        return AtlasQuestion(self._layout, order, number=number)

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the atlas after a round."""
        check_state(state, self._layout)
        after = refined(state, answer, self._layout, number=number)
        bare = {**after, "added": np.zeros_like(after["added"]), "broad": np.zeros(1, np.float32)}
        draws = self.sampler(bare).draw(first=0, n=_PROFILE_DRAWS, seed=self._study.seed)
        std = answer.std / weights(number)["profile"] / np.sqrt(number)
        broad = 1.0
        if np.isfinite(answer.std):
            broad = answer.std**2 / (answer.std**2 + self._plan.doubt**2)
        added = lacking(after["profile"], draws, std=std)
        return {**after, "added": added, "broad": np.full(1, broad, np.float32)}

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the whole atlas."""
        check_state(state, self._layout)
        return dict(state)

    def sampler(self, arrays: Arrays) -> AtlasSampler:
        """Return what draws from an atlas.

        Raises:
            ValueError: The arrays are not an atlas of this study.
        """
        check_state(arrays, self._layout)
        return AtlasSampler(arrays, self._layout, self._study)


def _mean(planes: Planes, chosen: Bool[Tensor, " patch"]) -> Float[Tensor, "2 row col"]:
    return (planes[chosen].sum(0) + _PULL * planes.mean(0)) / (int(chosen.sum()) + _PULL)


def null_arrays(study: Study) -> dict[str, np.ndarray]:
    """Return what a release of the recipe holds when no subject was looked at: the control ``null``."""
    recipe = AtlasRecipe(study)
    return recipe.released(recipe.start())
