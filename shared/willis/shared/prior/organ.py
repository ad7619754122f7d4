"""One compact organ: a bent, irregular ellipsoid among neighbours of a similar grey."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, grid_of, power_law_field

_OUTLINE_SLOPE = 4.0  # smoothness of the outline, as a spectrum_slope


@dataclass(frozen=True)
class _Body:
    """A bent ellipsoid.

    Attributes:
        centre: In pixels.
        axes: Rows are unit vectors: the long axis, the one it bends to, in 3-D a third.
        half: Half its length along each of them, in pixels.
        bend: Displacement of the ends along the second axis, as a share of half the length.
    """

    centre: Float[ndarray, " axis"]
    axes: Float[ndarray, "axis axis"]
    half: Float[ndarray, " axis"]
    bend: float

    def level(self, size: tuple[int, ...]) -> Float[ndarray, "*space"]:
        """Return the normalised distance from the centre: below 1 inside, 1 on the surface."""
        away = [axis - np.float32(at) for axis, at in zip(grid_of(size), self.centre, strict=True)]
        own = [
            sum((np.float32(part) * step for part, step in zip(axis, away, strict=True)), np.float32(0))
            for axis in self.axes
        ]
        long, *others = (part / np.float32(half) for part, half in zip(own, self.half, strict=True))
        others[0] = others[0] - np.float32(self.bend * self.half[0] / self.half[1]) * long**2
        return np.sqrt(sum((part**2 for part in others), long**2))


def draw_organ(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw the organ and its surroundings; parameters are the first of ``parameters.ORGAN``.

    The label is one piece (face-connected) and never empty.
    """
    size = tissue.intensity.shape
    body = _organ(size, values, generator)
    level = body.level(size) + values["irregularity"] * power_law_field(size, _OUTLINE_SLOPE, generator)
    label = _one_piece(level < 1, body.level(size))
    surroundings = _neighbours(size, body, values=values, generator=generator)
    surroundings += _rim(label, values, generator)
    return Target(label, label.astype(np.float32), np.where(label, np.float32(0), surroundings))


def _organ(size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator) -> _Body:
    sides = np.array(size, float)
    centre = (sides - 1) / 2 + values["offset"] * sides * generator.uniform(-1, 1, len(size))
    long = values["extent"] * sides.max()
    wide = long / values["elongation"]
    half = np.array([long, wide, wide * generator.uniform(0.7, 1.3)][: len(size)])
    axes = _axes(len(size), values["angle"], values["tilt"])
    return _Body(centre, axes, np.maximum(half, 1.5), values["bend"])


def _axes(dimensions: int, angle: float, tilt: float) -> Float[ndarray, "axis axis"]:
    """Long axis at an angle within the last two axes, tilted out of them in 3-D; then those across it."""
    turn, rise = np.radians(angle), np.radians(tilt)
    long, across = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    if dimensions == 2:
        return np.stack([long, across])
    first = np.array([np.sin(rise), *(np.cos(rise) * long)])
    second = np.array([0.0, *across])
    return np.stack([first, second, np.cross(first, second)])


def _one_piece(inside: Bool[ndarray, "*space"], level: Float[ndarray, "*space"]) -> Bool[ndarray, "*space"]:
    """Keep the largest piece; where there is none, the pixel nearest to the body's centre."""
    pieces = np.zeros(inside.shape, np.int32)
    ndimage.label(inside, output=pieces)
    if not pieces.any():
        return level == level.min()
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def _neighbours(
    size: tuple[int, ...], organ: _Body, *, values: Mapping[str, float], generator: np.random.Generator
) -> Float[ndarray, "*space"]:
    """Bodies of the organ's kind at its sides, each with a share ``likeness`` of its contrast."""
    added = np.zeros(size, np.float32)
    rough = 0.2 * power_law_field(size, _OUTLINE_SLOPE, generator)
    for _ in range(round(values["neighbours"])):
        away = generator.normal(size=len(size))
        distance = organ.half[0] * generator.uniform(0.7, 1.8)
        body = _Body(
            centre=organ.centre + distance * away / np.linalg.norm(away),
            axes=_axes(len(size), values["angle"] + generator.normal(0, 40), values["tilt"]),
            half=organ.half * generator.uniform(0.4, 1.1, len(size)),
            bend=generator.uniform(-0.5, 0.5),
        )
        grey = values["contrast"] * values["likeness"] * generator.uniform(0.7, 1.3)
        added = np.where(body.level(size) + rough < 1, np.float32(grey), added)
    return added


def _rim(
    label: Bool[ndarray, "*space"], values: Mapping[str, float], generator: np.random.Generator
) -> Float[ndarray, "*space"]:
    """A layer outside the organ that comes and goes along its surface."""
    near = np.asarray(ndimage.distance_transform_edt(~label)) <= values["rim_width"]
    patchy = np.clip(0.5 + power_law_field(label.shape, 3.0, generator), 0, 1)
    return np.where(near & ~label, np.float32(values["rim"]) * patchy, np.float32(0))
