"""What lies beside lesions: fluid-filled ventricles on either side of a mid-line, tissue pushed aside."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.organ_body import axes_of
from willis.shared.prior.tissue import Tissue, grid_of

Field = Float[ndarray, "*space"]


def draw_ventricles(
    size: tuple[int, ...], rough: Field, *, values: Mapping[str, float], generator: np.random.Generator
) -> Bool[ndarray, "*space"]:
    """Draw a mirrored pair of ventricles and the cleft between the hemispheres; none below a length of 1.

    Args:
        size: Pixels along each axis.
        rough: A field of deviation 1 that roughens their outline.
        values: ``ventricles`` (half length in pixels) and ``midline`` (width in pixels).
        generator: Draws place and direction.
    """
    long = values["ventricles"]
    if not long >= 1:
        return np.zeros(size, bool)
    axes = axes_of(len(size), generator.uniform(0, 360), generator.uniform(-30, 30))
    centre = (np.array(size) - 1) * generator.uniform(0, 1, len(size))
    away = [axis - np.float32(at) for axis, at in zip(grid_of(size), centre, strict=True)]
    along, across, *rest = (
        sum((np.float32(part) * step for part, step in zip(axis, away, strict=True)), np.float32(0))
        for axis in axes
    )
    wide, bent = long * generator.uniform(0.25, 0.45), generator.uniform(0, 0.5) * long
    aside = np.abs(across) - np.float32(1.2 * wide) - np.float32(bent / long**2) * along**2
    square = (along / np.float32(long)) ** 2 + (aside / np.float32(wide)) ** 2
    square = sum(((part / np.float32(0.7 * long)) ** 2 for part in rest), square)
    pair = np.sqrt(square) + np.float32(0.15) * rough < 1
    return pair | (np.abs(across) + 0.5 * rough < 0.5 * values["midline"])


def pushed_aside(tissue: Tissue, blobs: Sequence[tuple[Field, float]], by: float) -> Float[ndarray, "*space"]:
    """Return what changes where lesions push the tissue out of their way, most at their border.

    Args:
        tissue: What is pushed.
        blobs: Of each lesion, pixels to its border (positive inside) and its radius.
        by: Most pixels that a place moves; none where it is 0 or less.
    """
    moved = np.zeros_like(tissue.intensity)
    if not by > 0:
        return moved
    image = tissue.intensity
    for depth, radius in blobs:
        force = np.float32(by) * np.exp(-((depth / np.float32(max(radius, 1))) ** 2))
        slopes = np.gradient(ndimage.uniform_filter(depth, 5, mode="nearest"))
        steep = np.maximum(np.sqrt(sum((slope**2 for slope in slopes), np.zeros((), np.float32))), 1e-3)
        places = [
            axis + force * slope / steep for axis, slope in zip(grid_of(image.shape), slopes, strict=True)
        ]
        image = ndimage.map_coordinates(image, np.stack(places), order=1, mode="nearest")
    return np.where(tissue.inside, image - tissue.intensity, 0)
