"""A head in the large: fluid, cortex, white matter, deep grey matter and ventricles, as tissues by number.

Not anyone's anatomy: an ellipsoid whose border wanders, with what lies in every brain at about its place.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.tissue import bump_field, grid_of, power_law_field

Field = Float[ndarray, "*space"]
Mask = Bool[ndarray, "*space"]
Axes = list[Float[ndarray, "..."]]  # one array an axis, which together span the grid

_WANDER = 0.03  # share of the half axes that the border wanders, standard deviation


class Matter(IntEnum):
    """What a voxel of a brain is made of."""

    OUTSIDE = 0
    FLUID = 1
    GREY = 2
    WHITE = 3


@dataclass(frozen=True)
class Head:
    """Where a brain lies on a grid; the first axis runs from left to right.

    Attributes:
        centre: In voxels along each axis; it may lie beyond the grid.
        half: Half axes of the brain in voxels.
    """

    centre: tuple[float, ...]
    half: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (len(self.centre) == len(self.half) in (2, 3) and all(half >= 4 for half in self.half)):
            raise ValueError(
                "a head needs two or three numbers for its centre and half axes of at least 4 voxels, got "
                f"{self.centre} and {self.half}"
            )


def draw_matter(
    head: Head,
    size: tuple[int, ...],
    *,
    generator: np.random.Generator,
    within: Mask | None = None,
    cortex: float = 2.0,
    folding: float = 2.0,
    ventricles: float = 1.0,
) -> UInt8[ndarray, "*space"]:
    """Draw which matter every voxel is made of (:class:`Matter`).

    From outside in: a rim of fluid that enters the folds of the cortex, a ribbon of grey matter, white
    matter, deep grey matter on both sides of a mirrored pair of ventricles; the cleft between both halves.

    Args:
        head: Where the brain lies.
        size: Voxels along each axis.
        generator: Draws borders and sizes.
        within: What must be brain, such as a lesion that is put there; None for nothing.
        cortex: Thickness of the ribbon in voxels.
        folding: How many times that thickness the folds reach inwards.
        ventricles: Their size, as a share of the usual.

    Raises:
        ValueError: Head, size and ``within`` differ in their axes, or the sizes are not positive.
    """
    if not (len(size) == len(head.half) and (within is None or within.shape == tuple(size))):
        raise ValueError(f"head and what must be brain need the axes of size {size}, got {head}")
    if not (cortex > 0 and ventricles > 0):
        raise ValueError(f"cortex and ventricles must be positive, got {cortex} and {ventricles}")
    rough = power_law_field(size, 3.5, generator)
    folds = bump_field(size, 4 * cortex, generator)
    away = [
        (axis - np.float32(at)) / np.float32(half)
        for axis, at, half in zip(grid_of(size), head.centre, head.half, strict=True)
    ]
    radius = np.sqrt(sum((part**2 for part in away), np.zeros((), np.float32)))
    inside = radius + np.float32(_WANDER) * rough < 1
    if within is not None:
        inside = inside | np.asarray(ndimage.binary_dilation(within, iterations=2), bool)
    depth = _depth(inside)
    matter = np.where(
        depth > 1.5 + cortex * (1 + folding * np.maximum(folds, -0.3)), Matter.WHITE, Matter.GREY
    )
    sulcus = (folds > 1) & (depth < 0.75 * folding * cortex * folds)
    matter[(depth < 1.5) | sulcus] = Matter.FLUID
    matter[_deep_grey(away, rough) & (depth > 3 * cortex)] = Matter.GREY
    matter[(np.abs(away[0]) < 0.02) & (radius > 0.5) & inside] = Matter.FLUID
    matter[_ventricles(away, rough, ventricles * generator.uniform(0.7, 1.3)) & inside] = Matter.FLUID
    matter[~inside] = Matter.OUTSIDE
    return matter.astype(np.uint8)


def _depth(inside: Mask) -> Field:
    """Distance in voxels to what is not brain; a grid that lies wholly inside has none of it."""
    if inside.all():
        return np.full(inside.shape, np.inf, np.float32)
    return np.asarray(ndimage.distance_transform_edt(inside), np.float32)


def _ventricles(away: Axes, rough: Field, share: float) -> Mask:
    """A mirrored pair, long from back to front and bent outwards at the ends."""
    along = away[1] / np.float32(0.38 * share)
    aside = (np.abs(away[0]) - np.float32(0.1) - np.float32(0.12) * along**2) / np.float32(0.085 * share)
    square = along**2 + aside**2
    if len(away) == 3:
        square = square + ((away[2] - np.float32(0.1)) / np.float32(0.3 * share)) ** 2
    return np.sqrt(square) + np.float32(0.12) * rough < 1


def _deep_grey(away: Axes, rough: Field) -> Mask:
    """A mirrored pair of bodies beside the ventricles."""
    square = ((np.abs(away[0]) - np.float32(0.33)) / np.float32(0.12)) ** 2 + (
        away[1] / np.float32(0.25)
    ) ** 2
    if len(away) == 3:
        square = square + (away[2] / np.float32(0.3)) ** 2
    return np.sqrt(square) + np.float32(0.15) * rough < 1
