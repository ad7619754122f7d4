"""Updates to the next model: a weighted mean by public weights. Plain arrays."""

import math
from collections.abc import Mapping

import numpy as np

from willis.shared.update import Arrays


def merge(
    model: Arrays, answers: Mapping[str, Arrays], *, weights: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Add the weighted mean of the sites' differences to the model.

    The weights are those agreed in the study, renormalised over the sites that answered; a cohort's true
    size never enters. Sites are summed in the order of their names, in float64: the order in which answers
    arrive does not change a bit.

    Args:
        model: The global model; integer and boolean arrays are copied as they are.
        answers: Differences of its floating-point arrays, by site.
        weights: Of every site that answered, positive.

    Raises:
        ValueError: Nobody answered, a weight is not positive, or the merged model is not finite.
    """
    if not answers:
        raise ValueError("nothing to merge: no site answered")
    sites = sorted(answers)
    for site in sites:
        if not (weights[site] > 0 and math.isfinite(weights[site])):
            raise ValueError(f"the weight of site {site} must be positive and finite, got {weights[site]}")
    total = math.fsum(weights[site] for site in sites)
    merged = {}
    for name, value in model.items():
        if not np.issubdtype(value.dtype, np.floating):
            merged[name] = value.copy()
            continue
        step = np.zeros(value.shape, dtype=np.float64)
        for site in sites:
            step += (weights[site] / total) * answers[site][name].astype(np.float64)
        merged[name] = _finite((value.astype(np.float64) + step).astype(value.dtype), name)
    return merged


def ema(past: Arrays, now: Arrays, *, decay: float) -> dict[str, np.ndarray]:
    """Return decay * past + (1 - decay) * now of the floating-point arrays; the others are now's.

    Args:
        past: The average so far.
        now: The model, with the same names and shapes.
        decay: Weight that the past keeps, in [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    return {name: _blend(past[name], value, decay) for name, value in now.items()}


def _blend(past: np.ndarray, now: np.ndarray, decay: float) -> np.ndarray:
    if not np.issubdtype(now.dtype, np.floating):
        return now.copy()
    return (decay * past.astype(np.float64) + (1 - decay) * now.astype(np.float64)).astype(now.dtype)


def _finite(value: np.ndarray, name: str) -> np.ndarray:
    if not bool(np.all(np.isfinite(value))):
        raise ValueError(f"{name}: the merged model is not finite; lower federation.update_norm")
    return value
