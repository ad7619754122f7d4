"""Lesions: irregular blobs inside the tissue that may cluster and flow together."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, count_in, grid_of, power_law_field

_OUTLINE_SLOPE = 3.0  # smoothness of a lesion's border, as a spectrum_slope


def draw_lesions(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw lesions into a tissue; parameters are the first of ``parameters.LESIONS``.

    The label is empty where ``lesions`` rounds to 0, and where all lesions fall between pixel centres
    or outside the tissue (under 1 % of images with the usual ranges).
    """
    size = tissue.intensity.shape
    rough = values["irregularity"] * power_law_field(size, _OUTLINE_SLOPE, generator)
    shade = np.zeros(size, np.float32)
    for number, centre in enumerate(_centres(tissue, values, generator)):
        largest = values["radius"]
        radius = largest if number == 0 else largest * generator.uniform(0.25, 1)
        strength = 1 - values["contrast_spread"] * generator.uniform()
        inside = _distance(centre, size, values=values, generator=generator) < radius * (1 + rough)
        shade = np.maximum(shade, np.where(inside & tissue.inside, np.float32(strength), 0))
    return Target(shade > 0, shade, np.zeros(size, np.float32))


def _centres(
    tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator
) -> list[Float[ndarray, " axis"]]:
    """Places within the tissue, pulled towards the first of them."""
    possible = np.argwhere(tissue.inside)
    count = count_in(tissue.intensity.shape, values["lesions"])
    places = possible[generator.integers(len(possible), size=count)] + generator.uniform(
        -0.5, 0.5, (count, possible.shape[1])
    )
    pull = values["clustering"] * generator.uniform(size=(count, 1))
    return list(places + pull * (places[:1] - places))


def _distance(
    centre: Float[ndarray, " axis"],
    size: tuple[int, ...],
    *,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> Float[ndarray, "*space"]:
    """Distance from the centre in pixels, measured short along a random direction: a stretched ball."""
    direction = generator.normal(size=len(size))
    direction /= np.linalg.norm(direction)
    away = [axis - np.float32(at) for axis, at in zip(grid_of(size), centre, strict=True)]
    square = sum((part**2 for part in away), np.zeros((), np.float32))
    along = sum((np.float32(d) * part for d, part in zip(direction, away, strict=True)), np.float32(0))
    return np.sqrt(np.maximum(square - (1 - 1 / values["stretch"] ** 2) * along**2, 0))
