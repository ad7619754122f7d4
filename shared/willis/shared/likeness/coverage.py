"""Coverage and density: do fakes reach all the real patches, and lie where those are dense?"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 5


class Coverage(NamedTuple):
    """Two figures of one comparison.

    Attributes:
        coverage: Share of the real patches with a fake nearer than their k-th real neighbour, in [0, 1].
        density: Real balls that a fake lies in, over k, mean over fakes; about 1 for real against real, 0 for
            fakes far from all of them. It is no share: it may exceed 1, and sees no collapse.
    """

    coverage: float
    density: float


def coverage_and_density(
    fake: Float[Tensor, "n d"], real: Float[Tensor, "n d"], *, neighbours: int = NEIGHBOURS
) -> Coverage:
    """Return coverage and density (Naeem 2020, section 3), with the open balls of their code.

    Copies of the real patches have coverage 1 and density about 1: neither figure sees memorisation.

    Args:
        fake: Features of the set that is judged.
        real: Features of as many real patches; a ball around each reaches to its k-th nearest other one.
        neighbours: k.

    Raises:
        ValueError: Numbers differ, are not above k, or features are not finite.
    """
    if not (len(fake) == len(real) > neighbours >= 1):
        raise ValueError(
            f"coverage needs equal numbers of patches, more than the {neighbours} neighbours, "
            f"got {len(fake)} and {len(real)}: draw as many of one as of the other"
        )
    if not bool(torch.isfinite(fake).all() and torch.isfinite(real).all()):
        raise ValueError("features must be finite, got NaN or infinity")
    radius = _distances(real, real).kthvalue(neighbours + 1).values  # the nearest of all is the patch itself
    inside = _distances(real, fake) < radius[:, None]
    return Coverage(
        coverage=float(inside.any(1).double().mean()),
        density=float(inside.sum(0).double().mean()) / neighbours,
    )


def _distances(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return Euclidean distances, without the product form that rounds near ones away."""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")
