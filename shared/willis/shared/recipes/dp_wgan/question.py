"""What a site is asked in a round of the pooled dp-wgan: the gradient of the critic on one unit's bag."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.networks.build import build_critic, choose_device
from willis.shared.patch import LabelledPatches
from willis.shared.recipe_plans import DpWganPlan
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.dp_wgan.trainee import adapter_of
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.precision import precision_of
from willis.shared.study import Study
from willis.shared.update import Arrays

CENTRE, CRITIC = "centre", "critic/"  # names in an order


class CriticQuestion:
    """The gradient of -mean f over a bag, plus the public mean gradient of f on fakes, where it is centred.

    Only in the coordinates of the weights that private gradients move (``recipe.trained``). Adding the public
    part before clipping makes the vector shorter: method.md, fake-centred clipping.

    Args:
        study: Architecture, device, precision, what is trained.
        order: Weights of the critic under ``critic/``; the public gradient under ``centre``, if
            ``privacy.fake_centred``.

    Raises:
        StudyError: The order's arrays are others.
    """

    def __init__(self, study: Study, order: Arrays) -> None:
        self._study = study
        self._critic = build_critic(study)
        weights = {name.removeprefix(CRITIC): value for name, value in order.items() if name != CENTRE}
        try:
            load(self._critic, weights)
        except ValueError as fault:
            raise StudyError(f"the order's weights do not fit the study's critic: {fault}") from fault
        self._critic.to(choose_device(study.training.device))
        self._adapter = adapter_of(study, self._critic, plan_of(study, DpWganPlan).trained)
        self.length = self._adapter.length
        self._centre = self._centre_in(order)

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return one unit's vector, float32, on the CPU; it is clipped by whoever sums."""
        device = next(self._critic.parameters()).device
        with precision_of(self._study, self._critic):
            loss = -self._critic(patches.to(device)).float().mean()
        return self._adapter.gradient(self._critic, loss).cpu() + self._centre

    def _centre_in(self, order: Arrays) -> Float[Tensor, " coordinate"]:
        if not self._study.privacy.fake_centred:
            if CENTRE in order:
                raise StudyError("the order has a centre, and the study's privacy.fake_centred is false")
            return torch.zeros(self.length)
        found = order.get(CENTRE)
        if found is None or found.shape != (self.length,):
            shape = "none" if found is None else f"one of shape {found.shape}"
            raise StudyError(f"the order needs a centre of {self.length} numbers, got {shape}")
        return torch.from_numpy(found.astype("float32"))
