"""Folded tissue: a grey ribbon on a bright core, folded along dark clefts, as the cortex of a brain is.

Clefts lie where a phase is whole. It grows across the image, parallel to a given direction, and a smooth
random field warps it: the less parallel, the more the folds wander.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.prior.tissue import power_law_field

Field = Float[ndarray, "*space"]

_FOLD_SLOPE = 5.0  # smoothness of the folds, as a spectrum_slope


def draw_folds(across: Field, values: Mapping[str, float], generator: np.random.Generator) -> Field:
    """Draw folds and return what they add to the mean of the tissue, in relative intensity.

    Args:
        across: In pixels, along the direction that parallel folds follow one another in.
        values: ``fold_spacing``, ``fold_parallel``, ``ribbon``, ``sulcus``, ``white`` and ``fluid``.
        generator: Draws warp and phase.
    """
    warp = power_law_field(across.shape, _FOLD_SLOPE, generator)
    steep = max(float(np.sqrt(_steepness(warp).mean())), 1e-6)
    order = values["fold_parallel"]
    phase = (
        np.float32(order / values["fold_spacing"]) * across
        + np.float32(np.sqrt(1 - order**2) / (values["fold_spacing"] * steep)) * warp
        + np.float32(generator.uniform())
    )
    slowest = 0.25 / values["fold_spacing"]
    away = np.abs(phase - np.rint(phase)) / np.sqrt(np.maximum(_steepness(phase), slowest**2))
    cleft = 0.5 * values["sulcus"] * np.clip(1 + np.roll(warp, across.shape[0] // 2, 0), 0, 2)
    inner = np.maximum(cleft, 0) + values["ribbon"]
    core = np.where(away > inner, np.float32(values["white"]), np.float32(0))
    return np.where(away < cleft, np.float32(values["fluid"]), core)


def _steepness(field: Field) -> Field:
    """Square of the gradient, per pixel."""
    slopes = np.gradient(field)
    return sum((slope**2 for slope in slopes), np.zeros((), np.float32))
