"""What a noisy histogram of votes says: chances of the candidates, or that nothing was heard."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_SURE = 2.0  # standard deviations by which the votes must exceed what noise alone would do


def chances(
    votes: Float[ndarray, " candidate"],
    std: float,
    alike: Float[ndarray, "candidate candidate"],
    *,
    threshold: float,
) -> tuple[Float[ndarray, " candidate"], float]:
    """Return each candidate's chance to be chosen, and how far the votes are believed.

    1. Votes are shared among alike candidates: noise averages out, what the votes agree on stays. 2. Votes
    below a multiple of their own noise count as none, as in Private Evolution. 3. Belief is the share of the
    votes' variance over candidates that noise does not explain (positive-part James-Stein), less two
    standard errors; the rest of the chance is spread evenly. All of it is computed from the noisy votes.

    Guarantees:
        Infinite noise, and votes that noise explains, give equal chances and belief 0.

    Args:
        votes: Noisy mean votes.
        std: Of the noise in each; not negative.
        alike: Rows of sum 1: whose votes a candidate's smoothed vote is made of.
        threshold: Multiple of the noise.
    """
    n = len(votes)
    even = np.full(n, 1 / n)
    if not np.isfinite(std):
        return even, 0.0
    smooth = alike @ votes
    belief = _belief(smooth - smooth.mean(), std, alike)
    noise = std * np.sqrt((alike**2).sum(1))
    heard = np.where(smooth > threshold * noise, np.maximum(smooth, 0), 0)
    if not (belief > 0 and heard.sum() > 0):
        return even, 0.0
    return belief * heard / heard.sum() + (1 - belief) * even, belief


def likeness(
    embeddings: Float[ndarray, "candidate direction"], *, width: float
) -> Float[ndarray, "candidate candidate"]:
    """Return a Gaussian kernel between candidates, its rows of sum 1.

    Args:
        embeddings: Of the candidates.
        width: Standard deviation, in median distances from a candidate to its nearest.
    """
    square = ((embeddings[:, None] - embeddings[None]) ** 2).sum(2)
    apart = square + np.where(np.eye(len(square), dtype=bool), np.inf, 0)
    nearest = max(float(np.median(apart.min(1))), 1e-12)
    kernel = np.exp(-square / (2 * width**2 * nearest))
    return kernel / kernel.sum(1, keepdims=True)


def _belief(
    deviation: Float[ndarray, " candidate"], std: float, alike: Float[ndarray, "candidate candidate"]
) -> float:
    heard = float(deviation @ deviation)
    if not heard > 0:
        return 0.0
    centred = alike - alike.mean(0)
    covariance = centred @ centred.T
    noise = std**2 * (float(covariance.trace()) + _SURE * float(np.sqrt(2 * (covariance**2).sum())))
    return max(0.0, 1 - noise / heard)
