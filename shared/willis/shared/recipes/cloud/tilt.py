"""Weights of public draws whose mean features are those of a noisy answer, as far as the answer is trusted.

Of all weights take those nearest to equal ones (relative entropy) whose mean features miss the answer by
no more than its noise, and the prior's own error, explain: maximum entropy with a quadratic relaxation
(Dudik, Phillips and Schapire 2004). The weights are ``exp(slope . features)``; where a Gaussian kernel
around the answer, as in approximate Bayesian computation, counts statistics that say the same thing as
often as they are said, the slopes of correlated features share what they explain. Without information the
slopes are 0 and all draws weigh the same.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_STEPS = 100
_RANGE = (0.01, 0.99)  # quantiles of the draws between which an answer is within the prior's reach
_DOUBT = 3.0  # how much a miss of that reach adds to the deviation that is expected


def tilt(
    expected: Float[ndarray, "draw feature"],
    answer: Float[ndarray, " feature"],
    variance: Float[ndarray, " feature"],
    *,
    least_draws: float,
) -> Float[ndarray, " draw"]:
    """Return weights of the draws, of sum 1.

    Guarantees:
        An infinite variance leaves a feature out; if all are infinite, all weights are equal. At least
        ``least_draws`` draws, or all that there are, carry weight: (sum w)^2 / sum w^2 is no less.

    Args:
        expected: Features of every draw.
        answer: Wanted means of them; finite.
        variance: Of every answer: noise and distrust; not negative.
        least_draws: The effective sample size that must be left.
    """
    asked = np.isfinite(variance)
    slopes = np.zeros(expected.shape[1])
    if asked.any():
        centre = expected[:, asked].mean(0)
        slopes[asked] = _slopes(
            expected[:, asked] - centre, answer[asked] - centre, np.maximum(variance[asked], 1e-6)
        )
    height = (expected - expected.mean(0)) @ slopes
    return _tempered(height, min(float(least_draws), float(len(expected))))


def beyond_reach(
    expected: Float[ndarray, "draw feature"], answer: Float[ndarray, " feature"]
) -> Float[ndarray, " feature"]:
    """Return the variance that distrust adds to an answer outside of what the prior can be; else 0.

    It grows as the square of three times the excess, faster than the pull of what is wanted.
    """
    low, high = np.quantile(expected, _RANGE, axis=0)
    excess = np.maximum(np.maximum(answer - high, low - answer), 0)
    return (_DOUBT * excess) ** 2


def moved_by_noise(
    expected: Float[ndarray, "draw feature"],
    values: Float[ndarray, "draw value"],
    *,
    noise: Float[ndarray, " feature"],
    variance: Float[ndarray, " feature"],
) -> Float[ndarray, " value"]:
    """Return the standard deviation that noise in the answer gives to the draws' weighted mean values.

    To first order around equal weights, where slopes are (covariance + variance)^-1 (answer - mean).

    Args:
        expected: Features of every draw.
        values: Anything that each draw has.
        noise: Variance of the noise in every answer.
        variance: Of every answer, as for :func:`tilt`; at least the noise.
    """
    asked = np.isfinite(variance)
    apart = expected[:, asked] - expected[:, asked].mean(0)
    covariance = apart.T @ apart / len(apart) + np.diag(np.maximum(variance[asked], 1e-6))
    response = np.linalg.solve(covariance, apart.T @ (values - values.mean(0)) / len(apart))
    return np.sqrt(noise[asked] @ response**2)


def effective(weights: Float[ndarray, " draw"]) -> float:
    """Return the effective sample size of weights (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _slopes(
    expected: Float[ndarray, "draw feature"],
    answer: Float[ndarray, " feature"],
    variance: Float[ndarray, " feature"],
) -> Float[ndarray, " feature"]:
    """Minimise the convex dual by Newton's method with step halving."""
    slopes = np.zeros(len(answer))

    def dual(at: Float[ndarray, " feature"]) -> float:
        height = expected @ at
        top = height.max()
        return float(top + np.log(np.mean(np.exp(height - top))) - at @ answer + 0.5 * at @ (variance * at))

    for _ in range(_STEPS):
        weights = _softmax(expected @ slopes)
        mean = weights @ expected
        gradient = mean - answer + variance * slopes
        curvature = (expected * weights[:, None]).T @ expected - np.outer(mean, mean) + np.diag(variance)
        step = np.linalg.solve(curvature, gradient)
        slope = float(gradient @ step)
        if slope < 1e-10:
            break
        now, share = dual(slopes), 1.0
        while share > 1e-6 and dual(slopes - share * step) > now - 0.1 * share * slope:
            share /= 2
        slopes = slopes - share * step
    return slopes


def _tempered(height: Float[ndarray, " draw"], least: float) -> Float[ndarray, " draw"]:
    """Flatten log weights by a common factor until enough draws carry weight."""
    weights = _softmax(height)
    if effective(weights) >= least:
        return weights
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(_softmax(middle * height)) >= least else (low, middle)
    return _softmax(low * height)


def _softmax(height: Float[ndarray, " draw"]) -> Float[ndarray, " draw"]:
    weights = np.exp(height - height.max())
    return weights / weights.sum()
