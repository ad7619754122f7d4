"""A U-net trained on real patches by private gradients, federated, without any generator.

What a generator must beat: whoever wants one segmenter needs no synthetic data. The gradient of the
segmenter's loss on one subject's bag is the question of a pooled recipe that has no sampler, and the state
steps by Adam on the noisy mean (DP-Adam; Abadi 2016 for the clip and the noise, Kingma 2015 for the step).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import PooledMean
from willis.shared.segmenter import Segmenter, UNet, fast_precision
from willis.shared.study import Study
from willis.shared.update import Arrays

_BETAS, _TINY = (0.9, 0.99), 1e-8
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class UnetQuestion:
    """The gradient of the segmenter's loss on one unit's patches.

    Attributes:
        network: The segmenter, as ordered.
        trained: Its parameters that the gradient is about.
    """

    network: UNet
    trained: Sequence[nn.Parameter]

    @property
    def length(self) -> int:
        """Trained parameters."""
        return sum(parameter.numel() for parameter in self.trained)

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return the gradient of Dice plus cross entropy over all patches together."""
        self.network.train()
        with fast_precision(_CPU):
            logits = self.network(patches[:, :-1])
        loss = DiceCELoss(sigmoid=True, batch=True)(logits.float(), (patches[:, -1:] > 0).float())
        return parameters_to_vector(torch.autograd.grad(loss, self.trained)).detach()


class PrivateUnet:
    """A recipe (see :mod:`willis.shared.recipes.contract`) that learns a segmenter instead of a sampler.

    Args:
        study: Patch size, width and seed.
        learning_rate: Of Adam.
        trained: Layers to train, by the beginning of their parameters' names; empty for all.
        first: The network to start from, of the same width; None for fresh weights.

    Raises:
        StudyError: No layer has such a name.
    """

    def __init__(
        self,
        study: Study,
        *,
        learning_rate: float,
        trained: Sequence[str] = (),
        first: nn.Module | None = None,
    ) -> None:
        self._study, self._rate = study, learning_rate
        self._first = self._fresh().state_dict() if first is None else first.state_dict()
        self._names = [
            name
            for name, _ in self._fresh().named_parameters()
            if not trained or any(name.startswith(start) for start in trained)
        ]
        if not self._names:
            known = ", ".join(sorted({".".join(name.split(".")[:2]) for name in self._first}))
            raise StudyError(f"no layer of the U-net begins with {', '.join(trained)}; it has {known}")

    def start(self) -> dict[str, np.ndarray]:
        """Return weights and Adam's two moments, flat; the moments are zero."""
        network = self._fresh()
        network.load_state_dict(self._first)
        flat = parameters_to_vector(self._trained(network)).detach().numpy().astype(np.float32)
        return {"weights": flat, "first": np.zeros_like(flat), "second": np.zeros_like(flat)}

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the trained weights; what stands still is public and known to all."""
        return {"weights": state["weights"]}

    def question(self, order: Arrays, *, number: int) -> UnetQuestion:
        """Return the gradient at the ordered weights."""
        network = self._network(order)
        return UnetQuestion(network, self._trained(network))

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Take one step of Adam along the noisy mean gradient."""
        gradient = answer.mean.astype(np.float64)
        first = _BETAS[0] * state["first"] + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * state["second"] + (1 - _BETAS[1]) * gradient**2
        size = np.sqrt(second / (1 - _BETAS[1] ** number)) + _TINY
        weights = state["weights"] - self._rate * first / (1 - _BETAS[0] ** number) / size
        stepped = {"weights": weights, "first": first, "second": second}
        return {name: value.astype(np.float32) for name, value in stepped.items()}

    def segmenter(self, state: Arrays) -> Segmenter:
        """Return the U-net with a state's weights."""
        return Segmenter(self._network(state).eval(), self._study.patch, _CPU)

    def _network(self, arrays: Arrays) -> UNet:
        network = self._fresh()
        network.load_state_dict(self._first)
        trained = self._trained(network)
        wanted = sum(parameter.numel() for parameter in trained)
        found = arrays.get("weights", np.zeros(0))
        if found.shape != (wanted,):
            raise StudyError(f"the order's weights have shape {found.shape}, the U-net takes ({wanted},)")
        with torch.no_grad():
            vector_to_parameters(torch.from_numpy(np.array(found, np.float32)), trained)
        return network

    def _trained(self, network: UNet) -> list[nn.Parameter]:
        named = dict(network.named_parameters())
        return [named[name] for name in self._names]

    def _fresh(self) -> UNet:
        seed = public_generator(self._study.seed, "private U-net").initial_seed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return UNet(self._study.patch, width=self._study.use.unet_width)
