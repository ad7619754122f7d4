"""The critic, and the projection that keeps it Lipschitz."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.study import NetworkPlan

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


class Critic(nn.Module):
    """Strided convolutions and one number a patch; no statistic over the batch anywhere.

    Args:
        size: Pixels along each axis, each a multiple of 2 ** depth; 2-D or 3-D.
        channels: Image channels and the label.
        width: Channels of the first layer; doubled at every halving.
        depth: Number of halvings.
    """

    def __init__(self, *, size: tuple[int, ...], channels: int, width: int, depth: int) -> None:
        super().__init__()
        if any(side % 2**depth for side in size):
            raise ValueError(f"size must be multiples of 2 ** depth = {2**depth}, got {size}")
        convolution = _CONVOLUTION[len(size)]
        widths = [channels, *[width * 2**level for level in range(depth)]]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [convolution(inputs, outputs, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        pixels = int(torch.tensor([side // 2**depth for side in size]).prod())
        self.score = nn.Linear(widths[-1] * pixels, 1)

    def forward(self, patches: Float[Tensor, "patch channel *space"]) -> Float[Tensor, " patch"]:
        """Return one score a patch; higher means more like the real ones."""
        return self.score(self.features(patches).flatten(1)).squeeze(1)


@torch.no_grad()
def project(critic: nn.Module, plan: NetworkPlan) -> None:
    """Bring the critic's weights back within its Lipschitz constraint, in place.

    It reads the weights alone, so it costs no privacy and works with any per-unit gradient; a spectral
    norm inside the layer would be refused by Opacus' hooks.

    Args:
        critic: Any network.
        plan: Its ``constraint``. ``spectral``: every layer's weight, as an (output, rest) matrix, is scaled
            down where its largest singular value exceeds ``spectral_bound`` (Miyato 2018, as a projection
            instead of a reparametrisation). ``weight-clip``: every parameter is clamped to
            ``weight_clip`` (Arjovsky 2017, algorithm 1).
    """
    for parameter in critic.parameters():
        if plan.constraint == "weight-clip":
            parameter.clamp_(-plan.weight_clip, plan.weight_clip)
        elif parameter.ndim > 1:
            parameter.div_((spectral_norm(parameter) / plan.spectral_bound).clamp(min=1.0))


def spectral_norm(weight: Tensor) -> Float[Tensor, ""]:
    """Return the largest singular value of a weight seen as an (output, rest) matrix, exactly."""
    matrix = weight.detach().flatten(1).double()
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt().to(weight.dtype)
