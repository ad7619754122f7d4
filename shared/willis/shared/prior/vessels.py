"""Branching vessel trees: curved, tapering, thinner at every branch by Murray's law.

Trees grow in space; a 2-D image is the plane of depth 0 through them, so that tilted vessels enter and
leave it as they do in a slice of an angiogram. With ``tilt`` 0 they all lie in it, as in a photograph of
the retina.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue
from willis.shared.prior.tubes import Raster, Tubes, rasterise

THINNEST = 0.6  # pixels; a thinner tube would fall between pixel centres
_GENERATIONS = 3  # a trunk, its branches, theirs
_KNOT = 10  # pixels between independent values of curvature and radius along a vessel
_FADE = 2.0  # pixels of radius over which contrast_by_radius falls to 1/e


@dataclass(frozen=True)
class _Vessel:
    points: Float[ndarray, "point 3"]  # one pixel apart; (depth, row, column)
    angles: Float[ndarray, "point 2"]  # heading in the image and elevation out of it, radians
    radii: Float[ndarray, " point"]


def draw_vessels(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw vessel trees into a tissue; parameters are the first of ``parameters.VESSELS``.

    The label is never empty: every trunk passes through the centre of a pixel.
    """
    size = tissue.intensity.shape
    raster = rasterise(_tubes(size, values, generator), size)
    return Target(raster.radius > 0, shade(raster, values), np.zeros(size, np.float32))


def shade(raster: Raster, values: Mapping[str, float]) -> Float[ndarray, "*space"]:
    """Return the share of the contrast that each pixel shows: less in thin vessels, other on the axis.

    Guarantees:
        Positive wherever ``contrast_by_radius`` < 1 and a vessel lies, 0 elsewhere.
    """
    faded = 1 - values["contrast_by_radius"] * np.exp(-raster.radius / _FADE)
    return np.where(raster.radius > 0, faded * (1 + values["core"] * raster.depth), 0).astype(np.float32)


def _tubes(size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator) -> Tubes:
    side = float(np.prod(size)) ** (1 / len(size))
    trees = max(1, round(values["trees"] * (side / 48) ** (len(size) - 1)))
    vessels: list[_Vessel] = []
    for number in range(trees):
        thinner = 1 - values["radius_spread"] * generator.uniform() if number else 1.0
        generation = [_trunk(size, values["radius"] * thinner, values=values, generator=generator)]
        vessels += generation
        for _ in range(1, _GENERATIONS):
            generation = [
                branch
                for parent in generation
                for branch in _branches(parent, size, values=values, generator=generator)
            ]
            vessels += generation
    return _in_view(vessels, size)


def _trunk(
    size: tuple[int, ...], radius: float, *, values: Mapping[str, float], generator: np.random.Generator
) -> _Vessel:
    """A vessel that enters the image on one side, passes through a random pixel's centre, and leaves."""
    through = np.zeros(3)
    through[3 - len(size) :] = generator.integers(size)
    middle = int(np.linalg.norm(size))
    heading = generator.uniform(0, 2 * np.pi)
    elevation = _tilt(size, values) * np.arcsin(generator.uniform(-1, 1))
    vessel = _path(2 * middle, np.array([heading, elevation]), size=size, values=values, generator=generator)
    radii = vessel.radii * radius * np.exp(values["taper"] * middle / 100)
    return _Vessel(vessel.points - vessel.points[middle] + through, vessel.angles, radii)


def _branches(
    parent: _Vessel, size: tuple[int, ...], *, values: Mapping[str, float], generator: np.random.Generator
) -> list[_Vessel]:
    """Branches of a vessel, which thins at each: radius ** 3 is shared out (Murray 1926)."""
    visible = np.flatnonzero(_visible(parent.points, size, margin=0.0))
    count = min(int(generator.poisson(values["branching"] * len(visible) / 100)), len(visible))
    branches = []
    for at in np.sort(generator.choice(visible, count, replace=False)) if count else ():
        ratio = values["branch_ratio"] * generator.uniform(0.6, 1)
        radius = parent.radii[at] * ratio
        side, twist = generator.choice([-1, 1]), generator.uniform(-1, 1)
        turn = np.radians(values["branch_angle"]) * np.array([side, twist * _tilt(size, values)])
        length = min(10 + int(40 * radius * generator.uniform(0.3, 1)), int(np.linalg.norm(size)))
        if radius < THINNEST / 2:
            continue
        path = _path(length, parent.angles[at] + turn, size=size, values=values, generator=generator)
        parent.radii[at:] *= (1 - min(ratio, 0.95) ** 3) ** (1 / 3)
        branches.append(_Vessel(path.points + parent.points[at], path.angles, path.radii * radius))
    return branches


def _path(
    length: int,
    start: Float[ndarray, "2"],
    *,
    size: tuple[int, ...],
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> _Vessel:
    """A wandering path from the origin, in steps of one pixel; its radius starts at about 1 and tapers."""
    knots = generator.standard_normal((3, length // _KNOT + 2))
    at = np.arange(length) / _KNOT
    turning, rising, beads = (np.interp(at, np.arange(len(row)), row) for row in knots)
    bend = np.radians(values["curvature"])
    heading = start[0] + np.cumsum(bend * turning)
    elevation = start[1] + np.cumsum(bend * _tilt(size, values) * rising)
    flat = np.cos(elevation)
    steps = np.stack([np.sin(elevation), flat * np.sin(heading), flat * np.cos(heading)], 1)
    radii = np.exp(-values["taper"] * np.arange(length) / 100) * (1 + values["beading"] * beads)
    return _Vessel(np.cumsum(steps, 0), np.stack([heading, elevation], 1), np.maximum(radii, 0.3))


def _tilt(size: tuple[int, ...], values: Mapping[str, float]) -> float:
    return max(values["tilt"], 0.0) if len(size) == 2 else 1.0


def _visible(
    points: Float[ndarray, "point 3"], size: tuple[int, ...], *, margin: float | Float[ndarray, " point"]
) -> ndarray:
    """True for points within the image or at most ``margin`` pixels from it (a slab of 12 if it is 2-D)."""
    high = np.array((1,) * (3 - len(size)) + tuple(size)) - 1.0
    slack = np.broadcast_to(np.asarray(margin), len(points))[:, None] + np.array(
        [12.0 * (len(size) == 2), 0, 0]
    )
    return np.all((points >= -slack) & (points <= high + slack), axis=1)


def _in_view(vessels: list[_Vessel], size: tuple[int, ...]) -> Tubes:
    """The pieces that may cover a pixel, none thinner than ``THINNEST``."""
    points = np.concatenate([vessel.points for vessel in vessels])
    angles = np.concatenate([vessel.angles for vessel in vessels])
    radii = np.maximum(np.concatenate([vessel.radii for vessel in vessels]), THINNEST)
    seen = _visible(points, size, margin=radii + 1)
    flat = np.cos(angles[:, 1])
    steps = np.stack([np.sin(angles[:, 1]), flat * np.sin(angles[:, 0]), flat * np.cos(angles[:, 0])], 1)
    return Tubes(
        points[seen].astype(np.float32), steps[seen].astype(np.float32), radii[seen].astype(np.float32)
    )
