"""How sure a mean over subjects is: percentile bootstrap intervals.

Subjects are what is resampled, never patches, slices or seeds: patients are what a claim is about.
"""

from collections.abc import Sequence

import numpy as np


def mean_over_subjects(values: Sequence[float]) -> float:
    """Return the mean of one score over subjects.

    Raises:
        ValueError: There is none, or one of them is NaN or infinite: a mean that leaves it out would lie.
    """
    return float(_finite(values).mean())


def bootstrap_interval(
    values: Sequence[float], *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the mean over subjects (Efron 1979).

    Args:
        values: One score for each subject.
        rng: Where the resamples come from.
        level: Nominal coverage, in (0, 1). With few subjects (below about 20) the true coverage is less.
        resamples: How many cohorts of the same size are drawn with replacement.

    Returns:
        Low and high end. With one subject both are its score: nothing is known about the spread.

    Raises:
        ValueError: No values, a value that is not finite, or a level or a number out of bounds.
    """
    scores = _finite(values)
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    if not resamples >= 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    means = np.array([scores[rng.integers(len(scores), size=len(scores))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference_interval(
    first: Sequence[float],
    second: Sequence[float],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the interval of the mean of ``first - second``, the same subjects in the same order in both.

    Raises:
        ValueError: Different numbers of subjects; else as :func:`bootstrap_interval`.
    """
    one, other = _finite(first), _finite(second)
    if len(one) != len(other):
        raise ValueError(f"paired scores need the same subjects, got {len(one)} and {len(other)}")
    return bootstrap_interval(list(one - other), rng=rng, level=level, resamples=resamples)


def _finite(values: Sequence[float]) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if not (scores.ndim == 1 and len(scores) >= 1):
        raise ValueError(
            f"scores must be one number for each of at least one subject, got shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        where = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"score {where} of {len(scores)} is {scores[where]}; every score must be finite")
    return scores
