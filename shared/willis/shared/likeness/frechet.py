"""Frechet distance between two sets of features, and the scale on which features are compared."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CUT = 4.0  # standard deviations of the training patches beyond which a feature counts no further
_LEAST_SPREAD = 1e-6  # a feature that never varies: any other value of it is cut


def frechet_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"]) -> float:
    """Return the squared Frechet distance of the Gaussians with the two sets' means and covariances.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson and Landau 1982), of which the
    last trace is the sum of the roots of the eigenvalues of ``S1^(1/2) S2 S1^(1/2)``: two symmetric
    d x d eigendecompositions, no general matrix root.

    The estimate is biased upwards, the more the fewer the rows: compare distances at equal numbers only, and
    beside real against real at that number.

    Args:
        one: Features of one set, a row each.
        other: Features of the other.

    Returns:
        At least 0; 0 for equal means and covariances, to double rounding.

    Raises:
        ValueError: Features are not finite, or a set has no more rows than columns.
    """
    (mean_one, covariance_one), (mean_other, covariance_other) = (_moments(rows) for rows in (one, other))
    root = _square_root(covariance_one)
    middle = torch.linalg.eigvalsh(_symmetric(root @ covariance_other @ root)).clamp(min=0)
    apart = (mean_one - mean_other).square().sum()
    spread = covariance_one.trace() + covariance_other.trace() - 2 * middle.sqrt().sum()
    return max(float(apart + spread), 0.0)


@dataclass(frozen=True)
class TrainingScale:
    """Features in standard deviations of real training patches, cut at 4.

    Attributes:
        mean: Of each feature over the training patches.
        spread: Their standard deviation (over n).
    """

    mean: Float[Tensor, " d"]
    spread: Float[Tensor, " d"]

    @classmethod
    def fitted_on(cls, training: Float[Tensor, "n d"]) -> "TrainingScale":
        """Take the scale from features of real training patches."""
        rows = training.double()
        return cls(rows.mean(0), rows.std(0, correction=0).clamp(min=_LEAST_SPREAD))

    def of(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return features on this scale, within [-4, 4]."""
        return ((features.double() - self.mean) / self.spread).clamp(-CUT, CUT)


def _moments(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return mean and covariance (over n - 1)."""
    number, length = rows.shape
    if not number > length:
        raise ValueError(
            f"a Frechet distance of {length} features needs at least {length + 1} patches in each set, "
            f"got {number}: give more patches, or compare fewer features"
        )
    rows = rows.double()
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(f"features must be finite, got {int((~torch.isfinite(rows)).sum())} that are not")
    mean = rows.mean(0)
    centred = rows - mean
    return mean, _symmetric(centred.T @ centred / (number - 1))


def _square_root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _symmetric(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    return (matrix + matrix.T) / 2
