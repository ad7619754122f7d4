"""The shape of a compact organ: a bent, tapered, lobed ellipsoid, cut by a slice or whole."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.tissue import grid_of

Field = Float[ndarray, "*space"]

_SMALLEST_HALF = 1.5  # pixels
_SMALLEST_PIECE = 4  # pixels of a second piece; smaller ones are crumbs of the outline


@dataclass(frozen=True)
class Frame:
    """The organ's own coordinates of every pixel.

    Attributes:
        long: Along the long axis: -1 at the head, 1 at the tail.
        across: Along the second axis from the bent long axis, in pixels.
        level: Normalised distance from the centre: below 1 inside, 1 on the surface.
    """

    long: Field
    across: Field
    level: Field


@dataclass(frozen=True)
class Body:
    """An ellipsoid that bends, tapers and arches.

    Attributes:
        centre: In pixels.
        axes: Rows are unit vectors: the long axis, the one it bends to, in 3-D a third.
        half: Half its length along each of them, in pixels.
        bend: Displacement of the ends along the second axis, as a share of half the length.
        taper: Share of the thickness lost from one end of the long axis to the other.
        arch: Displacement of the ends along the third axis, in half depths.
        cut: Where a 2-D slice cuts the third axis, in half depths from the middle.
    """

    centre: Float[ndarray, " axis"]
    axes: Float[ndarray, "axis axis"]
    half: Float[ndarray, " axis"]
    bend: float
    taper: float = 0.0
    arch: float = 0.0
    cut: float = 0.0

    def frame(self, size: tuple[int, ...]) -> Frame:
        """Return the organ's coordinates; a slice that passes the body by still touches it."""
        away = [axis - np.float32(at) for axis, at in zip(grid_of(size), self.centre, strict=True)]
        long, across, *rest = (
            sum((np.float32(part) * step for part, step in zip(axis, away, strict=True)), np.float32(0))
            for axis in self.axes
        )
        long = np.asarray(long / np.float32(self.half[0]), np.float32)
        square = long**2
        across = np.asarray(across - np.float32(self.bend * self.half[0]) * square, np.float32)
        depth = rest[0] / np.float32(self.half[2]) if rest else np.float32(self.cut)
        thick = self._thickness(long)
        level = square + (across / (np.float32(self.half[1]) * thick)) ** 2
        level = np.sqrt(level + ((depth - np.float32(self.arch) * square) / thick) ** 2)
        return Frame(long, across, level)

    def _thickness(self, long: Field) -> Field:
        """Share of the full thickness; ``taper`` is lost at the tail, or at the head where it is negative."""
        far = np.clip((1 + np.sign(self.taper) * long) / 2, 0, 1)
        return np.maximum(1 - np.float32(abs(self.taper)) * far, np.float32(0.1))


def draw_body(size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator) -> Body:
    """Draw an organ's place and proportions; parameters are the first of ``parameters.ORGAN``."""
    sides = np.array(size, float)
    centre = (sides - 1) / 2 + values["offset"] * sides * generator.uniform(-1, 1, len(size))
    long = values["extent"] * sides.max()
    wide = long / values["elongation"]
    half = np.array([long, wide, wide * generator.uniform(0.7, 1.3)][: len(size)])
    return Body(
        centre=centre,
        axes=axes_of(len(size), values["angle"], values["tilt"]),
        half=np.maximum(half, _SMALLEST_HALF),
        bend=values["bend"],
        taper=values["taper"],
        arch=values["arch"],
        cut=values["cut"],
    )


def axes_of(dimensions: int, angle: float, tilt: float) -> Float[ndarray, "axis axis"]:
    """Long axis at an angle within the last two axes, tilted out of them in 3-D; then those across it."""
    turn, rise = np.radians(angle), np.radians(tilt)
    long, across = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    if dimensions == 2:
        return np.stack([long, across])
    first = np.array([np.sin(rise), *(np.cos(rise) * long)])
    second = np.array([0.0, *across])
    return np.stack([first, second, np.cross(first, second)])


def pieces_of(inside: Bool[ndarray, "*space"], level: Field, *, most: int = 1) -> Bool[ndarray, "*space"]:
    """Keep the ``most`` largest pieces; where there is none, the pixel nearest to the body's centre."""
    pieces = np.zeros(inside.shape, np.int32)
    ndimage.label(inside, output=pieces)
    if not pieces.any():
        nearest = np.zeros(level.shape, bool)
        nearest[np.unravel_index(np.argmin(level), level.shape)] = True
        return nearest
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    ranked = np.argsort(-counts, kind="stable")[:most]
    kept = [piece for place, piece in enumerate(ranked) if place == 0 or counts[piece] >= _SMALLEST_PIECE]
    return pieces == kept[0] if len(kept) == 1 else np.isin(pieces, kept)
