"""The gradient penalty of WGAN-GP, between real patches and fakes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Callable[[Tensor], Tensor]  # from patches to one number each


def gradient_penalty(
    critic: Scores,
    real: Float[Tensor, "patch channel *space"],
    fakes: Float[Tensor, "patch channel *space"],
    dice: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the mean of (|gradient of the critic| - 1)^2 at one point between each pair.

    Gulrajani 2017, equation 3.

    Nothing flows back into ``real`` or ``fakes``; the result has a graph to the critic's weights.

    Args:
        critic: Scores each patch by that patch alone: with statistics over a batch the gradients of the
            pairs would mix.
        real: Patches, on the critic's device.
        fakes: As many.
        dice: A CPU generator; of where between them, uniform, one number a pair.
    """
    share = torch.rand((len(real),) + (1,) * (real.ndim - 1), generator=dice).to(real.device)
    between = (share * real.detach() + (1 - share) * fakes.detach()).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
