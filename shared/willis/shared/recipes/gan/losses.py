"""Losses of a DCGAN with label smoothing and feature matching (Salimans 2016)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def towards(scores: Float[Tensor, " patch"], target: Tensor | float) -> Float[Tensor, ""]:
    """Return the mean cross entropy of scores (logits) to a target: softplus(s) - target * s.

    Edge cases:
        A smoothed target may pass 1 (Kossen 2021 has up to 1.2); then no score is best, and higher is
        better for ever.

    Args:
        scores: One a patch.
        target: One a patch, or one for all: 1 real, 0 fake.
    """
    scores = scores.float()
    wanted = target.to(scores) if isinstance(target, Tensor) else scores.new_full(scores.shape, target)
    return binary_cross_entropy_with_logits(scores, wanted)


def told_apart(
    told: Float[Tensor, " feature"], known: Float[Tensor, " feature"], *, variance: float
) -> Float[Tensor, " feature"]:
    """Return a noisy vector, moved towards a known one as far as noise may be all that parts them.

    Positive-part James-Stein (Efron 1973). Without noise it is ``told``; where noise alone would put it that
    far away, ``known``.

    Args:
        told: The noisy vector.
        known: Where it is moved to.
        variance: Of the noise in each coordinate.
    """
    gap = told - known
    length = float(gap.square().sum())
    if not length > 0:
        return known
    return known + max(0.0, 1 - max(1, len(gap) - 2) * variance / length) * gap


def feature_distance(
    fakes: Float[Tensor, "patch feature"], real: Float[Tensor, " feature"]
) -> Float[Tensor, ""]:
    """Return |mean features of real patches - mean features of fakes|^2 (Salimans 2016, section 3.1).

    Args:
        fakes: Features of fakes, with a graph.
        real: Mean features of real patches.
    """
    return (fakes.float().mean(0) - real.to(fakes.device)).square().sum()
