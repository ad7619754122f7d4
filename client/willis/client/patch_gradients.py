"""Per-patch gradients by Opacus' hooks, for the unit ``patch``: a comparison, not a patient's privacy."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from jaxtyping import Float
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from willis.client.private_sum import Vector

_AT_ONCE = 64  # patches whose gradients are held in memory together
_KEPT_BY_OPACUS = "grad_sample"  # the attribute of a parameter


def patch_gradients(
    critic: nn.Module, patches: Iterable[Float[Tensor, " channel *space"]]
) -> Iterator[Vector]:
    """Yield the gradient of -f(patch) for one patch after another.

    The hooks sit on a copy of the critic, so that generator steps never meet them.
    """
    hooked = GradSampleModule(copy.deepcopy(critic), loss_reduction="sum")
    device = next(critic.parameters()).device
    remaining = iter(patches)
    while some := list(islice(remaining, _AT_ONCE)):
        hooked.zero_grad(set_to_none=True)
        # A hook on the first layer warns unless its input needs a gradient.
        (-hooked(torch.stack(some).to(device).requires_grad_()).float().sum()).backward()
        samples: list[Tensor] = [getattr(parameter, _KEPT_BY_OPACUS) for parameter in hooked.parameters()]
        for index in range(len(some)):
            yield [sample[index] for sample in samples]
