"""Arrange planes along their normal, or say why they are no regular stack.

Geometry comes from position and cosines alone. SliceLocation, SliceThickness, SpacingBetweenSlices and
InstanceNumber are never asked: real exports have them wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

SAME_PLACE_MM = 1e-3  # two positions this near are one
SAME_COSINE = 1e-4  # 0.02 mm over a field of view of 200 mm
SAME_SPACING_MM = 1e-4
UNIT_TOLERANCE = 1e-3  # of the length of the cosines, and of their inner product
STEP_TOLERANCE = 0.05  # of the usual step between planes, for each of them and for their sum
DRIFT_TOLERANCE = 0.05  # of a pixel, sideways over the whole stack: more is a sheared (tilted) stack
MOST_MM = 10_000.0  # no scanner is larger
SPACING_MM = (0.01, 50.0)


@dataclass(frozen=True)
class Flaw:
    """Why planes, or files, give no volume.

    Attributes:
        code: Short and fixed.
        sentence: Which value, and what to do; numbers and our own words only.
    """

    code: str
    sentence: str


@dataclass(frozen=True)
class Lattice:
    """Planes in order.

    Attributes:
        order: Indices of the planes, along their normal.
        step_mm: From plane to plane.
        affine: From (column, row, plane in order) to mm in LPS, as DICOM counts.
    """

    order: tuple[int, ...]
    step_mm: float
    affine: Float64[np.ndarray, "4 4"] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Plane:
    """Where one plane lies, as its file says (mm, LPS); it may be absurd."""

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    spacing: tuple[float, float]


def arrange(planes: Sequence[Plane]) -> Lattice | Flaw:
    """Order planes along their common normal.

    Guarantees:
        A lattice has at least two planes, equal steps, no two planes at a place, and an affine with right
        angles; no plane lies further than :data:`STEP_TOLERANCE` of a step or :data:`DRIFT_TOLERANCE` of a
        pixel from where the affine puts it.
    """
    if len(planes) < 2:
        return Flaw(
            "single-slice", f"{len(planes)} slice has no spacing between slices; export the whole series"
        )
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    cosines = np.array([plane.orientation for plane in planes], dtype=np.float64)
    spacings = np.array([plane.spacing for plane in planes], dtype=np.float64)
    flaw = _absurd(positions, cosines, spacings)
    if flaw is not None:
        return flaw
    row, column = cosines[0, :3], cosines[0, 3:]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    heights = (positions - positions[0]) @ normal
    order = np.argsort(heights, kind="stable")
    flaw = _uneven(heights[order]) or _sheared(positions[order], normal, pixel=float(spacings[0].min()))
    if flaw is not None:
        return flaw
    step = float(heights[order[-1]] - heights[order[0]]) / (len(planes) - 1)
    affine = np.eye(4)
    affine[:3] = np.stack(
        [row * spacings[0, 1], column * spacings[0, 0], normal * step, positions[order[0]]], axis=1
    )
    return Lattice(tuple(int(index) for index in order), step, affine)


def _absurd(positions: np.ndarray, cosines: np.ndarray, spacings: np.ndarray) -> Flaw | None:
    """Return what is wrong with numbers on their own, before they are compared along the normal."""
    if not (np.isfinite(positions).all() and np.isfinite(cosines).all() and np.isfinite(spacings).all()):
        return Flaw(
            "absurd-geometry", "a position, direction or pixel spacing is no finite number; export it again"
        )
    if not np.abs(positions).max() <= MOST_MM:
        worst = float(np.abs(positions).max())
        return Flaw(
            "absurd-geometry", f"a slice lies {worst:.4g} mm from the centre; export the series again"
        )
    least, most = SPACING_MM
    if not (spacings.min() >= least and spacings.max() <= most):
        worst = float(spacings.min() if spacings.min() < least else spacings.max())
        return Flaw(
            "absurd-geometry", f"a pixel spacing of {worst:.4g} mm is not within {least:g} to {most:g} mm"
        )
    if np.ptp(cosines, axis=0).max() > 2 * SAME_COSINE:
        return Flaw(
            "mixed-orientation", "slices of one series turn from slice to slice; no volume can hold them"
        )
    if np.ptp(spacings, axis=0).max() > 2 * SAME_SPACING_MM:
        return Flaw(
            "mixed-spacing", "the pixel spacing changes from slice to slice; export each series by itself"
        )
    row, column = cosines[:, :3], cosines[:, 3:]
    off = max(
        float(np.abs(np.linalg.norm(row, axis=1) - 1).max()),
        float(np.abs(np.linalg.norm(column, axis=1) - 1).max()),
        float(np.abs((row * column).sum(axis=1)).max()),
    )
    if not off <= UNIT_TOLERANCE:
        text = (
            f"the direction cosines are {off:.3g} off unit length or right angles, at most {UNIT_TOLERANCE:g}"
        )
        return Flaw("crooked-cosines", f"{text} is allowed; export the series again")
    return None


def _uneven(heights: np.ndarray) -> Flaw | None:
    """Return what is wrong with sorted places along the normal."""
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if steps.min() <= SAME_PLACE_MM:
        n_equal = int(np.count_nonzero(steps <= SAME_PLACE_MM))
        text = f"{n_equal} slices lie where another of other content lies; export one image a place"
        return Flaw("two-images-a-place", text)
    worst = int(np.abs(steps - usual).argmax())
    off = abs(float(steps[worst]) - usual) / usual
    if off > STEP_TOLERANCE:
        times = float(steps[worst]) / usual
        lie = (
            f"from slice {worst + 1} to {worst + 2} are {steps[worst]:.4g} mm where {usual:.4g} mm are usual"
        )
        if times > 1.5 and math.isclose(times, round(times), abs_tol=2 * STEP_TOLERANCE):
            return Flaw("lost-slice", f"{lie}: {round(times) - 1} lost; export the whole series again")
        return Flaw("uneven-spacing", f"{lie}; only evenly spaced slices make a volume")
    line = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - line).max() > STEP_TOLERANCE * usual:
        text = f"slices drift by {np.abs(heights - line).max():.4g} mm from even steps of {usual:.4g} mm"
        return Flaw("uneven-spacing", f"{text}; only evenly spaced slices make a volume")
    return None


def _sheared(positions: np.ndarray, normal: np.ndarray, *, pixel: float) -> Flaw | None:
    away = positions - positions[0]
    drift = float(np.linalg.norm(away - np.outer(away @ normal, normal), axis=1).max())
    if drift > DRIFT_TOLERANCE * pixel:
        text = f"slices are shifted sideways by up to {drift:.4g} mm against their normal (a tilted gantry?)"
        return Flaw("sheared", f"{text}; export the series resampled to right angles")
    return None
