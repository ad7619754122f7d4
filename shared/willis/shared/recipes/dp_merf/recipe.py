"""Recipe ``dp-merf``: a generator fitted to one private mean embedding (Harder, Adamczewski, Park 2021).

1. Public: random Fourier features of image and label together; the bandwidth is the median distance
   between prior draws.
2. Private, once: a subject's vector is the mean feature of its patches, of norm at most 1.
3. Public: the study's generator is fitted by Adam so that its fakes' mean features are the noisy mean.

With ``shrink`` the noisy mean is first drawn towards the starting generator's own, as far as noise
explains the difference (James and Stein 1961): where nothing was heard, the generator stays what it was.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.networks.build import build_generator, choose_device, public_generator
from willis.shared.networks.generator import Generator
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.recipe_plans import MerfPlan
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import check_one_image_channel, plan_of
from willis.shared.recipes.dp_merf.features import (
    FourierFeatures,
    coarse,
    draw_features,
    grid_for,
    median_distance,
)
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.study import Study
from willis.shared.update import Arrays, state_from_arrays

_PRIOR_DRAWS = 128  # for the bandwidth
_FAKES = 1024  # for the starting generator's own embedding
_BANDWIDTH = "bandwidth"
_WEIGHT = "generator."


class EmbeddingQuestion:
    """Mean random Fourier feature of a subject's patches."""

    def __init__(self, features: FourierFeatures) -> None:
        self.features = features

    @property
    def length(self) -> int:
        """A cosine and a sine for each frequency."""
        return self.features.length

    @torch.no_grad()
    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the mean feature, of norm at most 1; zero without patches."""
        if len(patches) == 0:
            return torch.zeros(self.length)
        return self.features.of(patches.float()).double().mean(0).mul(1 - 1e-6).float()


class MerfRecipe:
    """See the module; built for one study.

    Raises:
        StudyError: The study has more image channels than the prior, or another recipe.
    """

    def __init__(self, study: Study) -> None:
        check_one_image_channel(study)
        self._study, self._plan = study, plan_of(study, MerfPlan)
        self._grid = grid_for(study.patch.size, self._plan.coarsest)

    def start(self) -> dict[str, np.ndarray]:
        """Return the first generator's weights and the kernel's bandwidth."""
        cells = coarse(draw_prior(self._study, _PRIOR_DRAWS, purpose="dp-merf"), self._grid)
        bandwidth = self._plan.bandwidth * median_distance(cells)
        weights = arrays_of(initial_generator(self._study))
        named = {_WEIGHT + name: value.astype(np.float32) for name, value in weights.items()}
        return {_BANDWIDTH: np.array([bandwidth], np.float32)} | named

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the bandwidth; frequencies follow from the study's seed."""
        return {_BANDWIDTH: np.asarray(state[_BANDWIDTH])}

    def question(self, order: Arrays, *, number: int) -> EmbeddingQuestion:
        """Return the question.

        Raises:
            StudyError: The order is not one positive bandwidth.
        """
        value = np.asarray(order.get(_BANDWIDTH, np.zeros(0)))
        if not (set(order) == {_BANDWIDTH} and value.shape == (1,) and 0 < value[0] < np.inf):
            raise StudyError(
                f"an order of recipe dp-merf is one positive bandwidth, got {sorted(order)} {value}"
            )
        return EmbeddingQuestion(self._features(float(value[0])))

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state with the generator fitted to the answer; unchanged where nothing was heard."""
        new = {name: np.array(value) for name, value in state.items()}
        if not np.isfinite(answer.std):
            return new
        generator = build_generator(self._study)
        generator.load_state_dict(state_from_arrays(self.released(state)))
        generator.to(choose_device(self._study.training.device))
        features = self._features(float(state[_BANDWIDTH][0]))
        wanted = torch.from_numpy(np.asarray(answer.mean)).float()
        if self._plan.shrink:
            wanted, believed = self._shrunk(wanted, answer.std, generator=generator, features=features)
            if believed == 0:
                return new
        self._fit(generator, features, wanted=wanted, number=number)
        return new | {_WEIGHT + name: value for name, value in arrays_of(generator).items()}

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the generator's weights."""
        return {
            name.removeprefix(_WEIGHT): np.asarray(value)
            for name, value in state.items()
            if name.startswith(_WEIGHT)
        }

    def sampler(self, arrays: Arrays) -> NetworkSampler:
        """Return what draws from the generator.

        Raises:
            ValueError: The arrays are not weights of the study's generator.
        """
        return NetworkSampler(self._study, arrays)

    def _features(self, bandwidth: float) -> FourierFeatures:
        cells = self._study.patch.n_channels * int(np.prod(self._grid))
        return draw_features(
            cells=cells,
            grid=self._grid,
            frequencies=self._plan.frequencies,
            bandwidth=bandwidth,
            seed=self._study.seed,
        )

    @torch.no_grad()
    def _shrunk(
        self, heard: Float[Tensor, " feature"], std: float, *, generator: Generator, features: FourierFeatures
    ) -> tuple[Float[Tensor, " feature"], float]:
        """Draw the noisy mean towards the generator's own; also return how far it is believed, 0 to 1."""
        dice = public_generator(self._study.seed, "dp-merf", "own")
        own = torch.cat([features.of(generator.draw(64, dice)).cpu() for _ in range(_FAKES // 64)]).mean(0)
        apart = heard - own
        believed = believed_share(apart.double().numpy(), std)
        return own + believed * apart, believed

    def _fit(
        self,
        generator: Generator,
        features: FourierFeatures,
        *,
        wanted: Float[Tensor, " feature"],
        number: int,
    ) -> None:
        """Step the generator down the squared distance between mean features, on fresh fakes each time.

        The batch is halved and the two halves' residuals multiplied, which is unbiased: the squared residual
        of one batch would also reward fakes that are all alike.
        """
        training, dice = self._study.training, public_generator(self._study.seed, "dp-merf", "fit", number)
        adam = torch.optim.Adam(generator.parameters(), lr=self._plan.lr, betas=(0.5, 0.999))
        half = max(1, training.fakes // 2)
        for _ in range(self._plan.steps):
            found = features.of(generator.draw(2 * half, dice))
            first, second = found[:half].mean(0), found[half:].mean(0)
            target = wanted.to(found)
            loss = ((first - target) * (second - target)).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()


def believed_share(apart: Float[ndarray, " feature"], std: float) -> float:
    """Return the positive-part James-Stein factor, less two standard errors: 0 where noise explains all."""
    n, found = len(apart), float(apart @ apart)
    if not found > 0:
        return 0.0
    return max(0.0, 1 - std**2 * (n + 2 * np.sqrt(2 * n)) / found)
