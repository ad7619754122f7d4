"""Branching vessel trees: curved, tapering, thinner at every branch by Murray's law; how they look.

Trees grow in space; a 2-D image is the plane of depth 0 through them, so that tilted vessels enter and
leave it as they do in a slice of an angiogram. With ``tilt`` 0 they all lie in it, as in a photograph of
the retina.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, power_law_field
from willis.shared.prior.tubes import Raster, Tubes, rasterise

THINNEST = 0.6  # pixels; a thinner tube would fall between pixel centres
_GENERATIONS = 3  # a trunk, its branches, theirs
_KNOT = 10  # pixels between independent values of curvature and radius along a vessel
_FADE = 2.0  # pixels of radius over which contrast_by_radius falls to 1/e
_FADING_SLOPE = 3.0  # smoothness of the contrast along vessels, as a spectrum_slope


@dataclass(frozen=True)
class _Vessel:
    points: Float[ndarray, "point 3"]  # one pixel apart; (depth, row, column)
    angles: Float[ndarray, "point 2"]  # heading in the image and elevation out of it, radians
    radii: Float[ndarray, " point"]
    strength: float = 1.0  # share of the contrast


def draw_vessels(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw vessel trees into a tissue; parameters are the first of ``parameters.VESSELS``.

    The label is never empty: every trunk passes through the centre of a pixel of the tissue, and none
    lies beyond it. Lines that are no target lie beside the vessels.
    """
    size = tissue.intensity.shape
    trees = _in_view(_trees(tissue, values, generator), size)
    wider = max(1.0, 1 + values["swell"])
    raster = rasterise(replace(trees, radii=(trees.radii * wider).astype(np.float32)), size)
    seen = shade(raster, values)
    if values["fading"] > 0:
        along = 1 + values["fading"] * power_law_field(size, _FADING_SLOPE, generator)
        seen *= np.clip(along, 0.1, 2)
    if values["edge"] > 0:
        seen = ndimage.gaussian_filter(seen, values["edge"], mode="nearest", truncate=3)
    label = (raster.radius > 0) & (1 - raster.depth <= 1 / wider**2) & tissue.inside
    beside = values["contrast"] * seen + _lines(tissue, values, generator)
    nothing = np.float32(0)
    return Target(
        label,
        np.where(label, seen, nothing),
        np.where(tissue.inside & ~label, beside, nothing).astype(np.float32),
    )


def shade(raster: Raster, values: Mapping[str, float]) -> Float[ndarray, "*space"]:
    """Return the share of the contrast that each pixel shows: its profile across, less in thin vessels.

    Where ``swell`` is above 0 the raster's radii are those that are seen, else those of the label.

    Guarantees:
        0 off the vessels; positive on them wherever ``contrast_by_radius`` < 1, ``core`` > -1,
        ``roundness`` is 0 and ``swell`` is not below 0.
    """
    own = np.float32(min(1.0, 1 + values["swell"]))  # radius that is seen over the raster's
    depth = 1 - (1 - raster.depth) / own**2
    labelled = raster.radius / np.float32(max(1.0, 1 + values["swell"]))
    faded = 1 - values["contrast_by_radius"] * np.exp(-labelled / _FADE)
    reflex = 1 + values["core"] * np.exp(-(1 - depth) / values["core_width"] ** 2)
    profile = np.maximum(depth, 0) ** np.float32(values["roundness"])
    seen = (raster.radius > 0) & (depth > -1e-6)
    return np.where(seen, raster.strength * faded * reflex * profile, 0).astype(np.float32)


def _trees(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> list[_Vessel]:
    size = tissue.intensity.shape
    vessels: list[_Vessel] = []
    for number in range(count_trees(size, values["trees"])):
        first = number == 0
        thinner = 1 if first else 1 - values["radius_spread"] * generator.uniform()
        strength = 1 if first else 1 - values["contrast_spread"] * generator.uniform()
        trunk = _trunk(tissue, values["radius"] * thinner, values=values, generator=generator)
        generation = [replace(trunk, strength=strength)]
        if generator.uniform() < values["paired"]:
            fainter = 1 - values["contrast_spread"] * generator.uniform()
            generation.append(replace(_companion(trunk, generator), strength=fainter))
        vessels += generation
        for _ in range(1, _GENERATIONS):
            generation = [
                branch
                for parent in generation
                for branch in _branches(parent, size, values=values, generator=generator)
            ]
            vessels += generation
    return vessels + _loops(vessels, size, values=values, generator=generator)


def count_trees(size: tuple[int, ...], density: float) -> int:
    """Trees to draw: as :func:`count_across`, and at least one."""
    return max(1, count_across(size, density))


def count_across(size: tuple[int, ...], density: float) -> int:
    """Vessels to draw: ``density`` is how many cross a square of side 48, and as many a slab of a cube."""
    side = float(np.prod(size)) ** (1 / len(size))
    return max(0, round(density * (side / 48) ** (len(size) - 1)))


def _trunk(
    tissue: Tissue, radius: float, *, values: Mapping[str, float], generator: np.random.Generator
) -> _Vessel:
    """A vessel that crosses the image, through the centre of a pixel in the tissue."""
    size = tissue.intensity.shape
    through = np.zeros(3)
    within = np.flatnonzero(tissue.inside)
    through[3 - len(size) :] = np.unravel_index(within[generator.integers(len(within))], size)
    middle = int(np.linalg.norm(size))
    heading = generator.uniform(0, 2 * np.pi)
    elevation = _tilt(size, values) * np.arcsin(generator.uniform(-1, 1))
    vessel = _path(2 * middle, np.array([heading, elevation]), size=size, values=values, generator=generator)
    radii = vessel.radii * radius * np.exp(values["taper"] * middle / 100)
    return _Vessel(vessel.points - vessel.points[middle] + through, vessel.angles, radii)


def _companion(trunk: _Vessel, generator: np.random.Generator) -> _Vessel:
    """A vessel beside another, at a distance that wanders; it may cross it."""
    radii = trunk.radii * generator.uniform(0.5, 1)
    heading = trunk.angles[:, 0]
    across = np.stack([np.zeros_like(heading), np.cos(heading), -np.sin(heading)], 1)
    knots = generator.standard_normal(len(heading) // (4 * _KNOT) + 2)
    wander = np.interp(np.arange(len(heading)) / (4 * _KNOT), np.arange(len(knots)), knots)
    apart = generator.choice([-1, 1]) * (trunk.radii + radii + generator.uniform(0.5, 6)) + 2 * wander
    return _Vessel(trunk.points + apart[:, None] * across, trunk.angles, radii)


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
        length = 10 + int(values["branch_length"] * radius * generator.uniform(0.3, 1))
        if radius < THINNEST / 2:
            continue
        length = min(length, int(np.linalg.norm(size)))
        path = _path(length, parent.angles[at] + turn, size=size, values=values, generator=generator)
        parent.radii[at:] *= (1 - min(ratio, 0.95) ** 3) ** (1 / 3)
        points = path.points + parent.points[at]
        branches.append(_Vessel(points, path.angles, path.radii * radius, parent.strength))
    return branches


def _loops(
    vessels: Sequence[_Vessel],
    size: tuple[int, ...],
    *,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> list[_Vessel]:
    """Rings that leave a vessel along its own direction and come back to it."""
    loops = []
    for _ in range(count_across(size, values["loops"])):
        parent = vessels[int(generator.integers(len(vessels)))]
        at = int(generator.integers(len(parent.points)))
        length = int(generator.uniform(15, 90))
        full = generator.choice([-1, 1]) * np.linspace(0, 2 * np.pi, length)
        path = _path(length, parent.angles[at], size=size, values=values, generator=generator, turn=full)
        radii = path.radii * parent.radii[at] * values["branch_ratio"]
        loops.append(_Vessel(path.points + parent.points[at], path.angles, radii, parent.strength))
    return loops


def _lines(
    tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator
) -> Float[ndarray, "*space"]:
    """Relative intensity of lines that look like vessels and are none."""
    size = tissue.intensity.shape
    count = count_across(size, values["lines"])
    if count == 0:
        return np.zeros(size, np.float32)
    radii = values["line_radius"] * generator.uniform(0.3, 1, count)
    lines = [_trunk(tissue, radius, values=values, generator=generator) for radius in radii]
    lines = [replace(line, strength=generator.uniform(0.3, 1)) for line in lines]
    seen = np.where(tissue.inside, rasterise(_in_view(lines, size), size).strength, np.float32(0))
    if values["line_blur"] > 0:
        seen = ndimage.gaussian_filter(seen, values["line_blur"], mode="nearest", truncate=3)
    return (values["contrast"] * values["line_contrast"] * seen).astype(np.float32)


def _path(
    length: int,
    start: Float[ndarray, "2"],
    *,
    size: tuple[int, ...],
    values: Mapping[str, float],
    generator: np.random.Generator,
    turn: float | Float[ndarray, " point"] = 0.0,
) -> _Vessel:
    """A wandering path from the origin, in steps of one pixel; its radius starts at about 1 and tapers."""
    knots = generator.standard_normal((3, length // _KNOT + 2))
    at = np.arange(length) / _KNOT
    turning, rising, beads = (np.interp(at, np.arange(len(row)), row) for row in knots)
    bend = np.radians(values["curvature"])
    heading = start[0] + turn + np.cumsum(bend * turning)
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


def _in_view(vessels: Sequence[_Vessel], size: tuple[int, ...]) -> Tubes:
    """The pieces that may cover a pixel, none thinner than ``THINNEST``."""
    points = np.concatenate([vessel.points for vessel in vessels])
    angles = np.concatenate([vessel.angles for vessel in vessels])
    radii = np.maximum(np.concatenate([vessel.radii for vessel in vessels]), THINNEST)
    strengths = np.repeat([vessel.strength for vessel in vessels], [len(vessel.points) for vessel in vessels])
    seen = _visible(points, size, margin=radii + 1)
    flat = np.cos(angles[:, 1])
    steps = np.stack([np.sin(angles[:, 1]), flat * np.sin(angles[:, 0]), flat * np.cos(angles[:, 0])], 1)
    return Tubes(
        points[seen].astype(np.float32),
        steps[seen].astype(np.float32),
        radii[seen].astype(np.float32),
        strengths=strengths[seen].astype(np.float32),
    )
