"""Lesions: irregular blobs of one or several greys inside the tissue, which may cluster and flow together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from willis.shared.prior.lesion_surroundings import draw_ventricles, pushed_aside
from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, count_in, grid_of, power_law_field

Field = Float[ndarray, "*space"]
Box = tuple[slice, ...]

_OUTLINE_SLOPE = 3.0  # smoothness of a lesion's border, as a spectrum_slope
_FAINTEST = 0.15  # share of the contrast that any labelled pixel keeps


@dataclass(frozen=True)
class _Blob:
    """One stretched ball. Numbers only: its pixels are worked out where they are used, one blob at a time.

    Attributes:
        box: Where it and its halo lie; the first one's is the whole image.
        centre: In pixels.
        direction: Unit vector of its longest axis.
        radius: In pixels.
        strength: Share of the contrast that it shows.
    """

    box: Box
    centre: Float[ndarray, " axis"]
    direction: Float[ndarray, " axis"]
    radius: float
    strength: float

    def depth(self, rough: Field, values: Mapping[str, float]) -> Float[ndarray, "*box"]:
        """Return the pixels to its border, positive inside, of its box."""
        away = _distance(self.centre, self.direction, rough.shape, box=self.box, stretch=values["stretch"])
        bulge = 1 + np.float32(values["irregularity"]) * rough[self.box]
        return np.float32(self.radius) * bulge - away


def draw_lesions(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw lesions into a tissue; parameters are the first of ``parameters.LESIONS``.

    The label is empty where ``lesions`` rounds to 0, and where all lesions fall between pixel centres
    or outside the tissue (under 1 % of images with the usual ranges).
    """
    size = tissue.intensity.shape
    rough = power_law_field(size, _OUTLINE_SLOPE, generator)
    ventricles = draw_ventricles(size, rough, values=values, generator=generator)
    possible = tissue.inside & ~ventricles
    places = np.argwhere(possible if possible.any() else tissue.inside)
    count = count_in(size, values["lesions"])
    blobs = [
        _blob(number, centre, rough, values=values, generator=generator)
        for number, centre in enumerate(_centres(places, count, values, generator))
    ]
    shade, halo = _shade_and_halo(blobs, rough, values)
    labelled = halo != 0 if generator.uniform() < values["halo_labelled"] else np.zeros(size, bool)
    shade = np.where((shade == 0) & labelled, halo, shade) * (tissue.inside & ~ventricles)
    decoys = _decoys(places, rough, values=values, generator=generator)
    around = np.where(np.abs(decoys) > np.abs(halo), decoys, halo) * np.float32(values["contrast"])
    around = np.where(tissue.inside & (shade == 0), around, 0)
    around += np.where(ventricles & tissue.inside, np.float32(values["fluid"]), 0)
    if values["mass_effect"] > 0:
        largest = [(blob.depth(rough, values), blob.radius) for blob in blobs[:1]]
        around += pushed_aside(tissue, largest, values["mass_effect"])
    return Target(shade != 0, shade.astype(np.float32), around.astype(np.float32))


def _centres(
    places: Int[ndarray, "place axis"],
    count: int,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> list[Float[ndarray, " axis"]]:
    """Places within the tissue, pulled towards the first of them."""
    chosen = places[generator.integers(len(places), size=count)]
    chosen = chosen + generator.uniform(-0.5, 0.5, chosen.shape)
    pull = values["clustering"] * generator.uniform(size=(count, 1))
    return list(chosen + pull * (chosen[:1] - chosen))


def _blob(
    number: int,
    centre: Float[ndarray, " axis"],
    rough: Field,
    *,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> _Blob:
    """The first lesion is the largest."""
    radius = values["radius"] if number == 0 else values["radius"] * generator.uniform(0.25, 1)
    strength = 1 - values["contrast_spread"] * generator.uniform()
    direction = _direction(rough.ndim, generator)
    box = (slice(None),) * rough.ndim
    if number:
        bulge = radius * (1 + values["irregularity"] * max(float(rough.max()), 0))
        box = _box(centre, rough.shape, reach=values["stretch"] * (bulge + max(values["halo_width"], 0)))
    return _Blob(box, centre, direction, radius=radius, strength=strength)


def _direction(dimensions: int, generator: np.random.Generator) -> Float[ndarray, " axis"]:
    """Draw a unit vector."""
    direction = generator.normal(size=dimensions)
    return direction / np.linalg.norm(direction)


def _box(centre: Float[ndarray, " axis"], size: tuple[int, ...], *, reach: float) -> Box:
    """Return the part of the image within ``reach`` pixels of a centre along each axis, and one more."""
    low, high = np.floor(centre - reach - 1).astype(int), np.ceil(centre + reach + 2).astype(int)
    return tuple(slice(max(0, a), max(0, min(b, side))) for a, b, side in zip(low, high, size, strict=True))


def _distance(
    centre: Float[ndarray, " axis"],
    direction: Float[ndarray, " axis"],
    size: tuple[int, ...],
    *,
    box: Box,
    stretch: float,
) -> Field:
    """Distance from the centre in pixels, measured short along a direction: a stretched ball."""
    grid = [
        axis[tuple(part if axis.shape[at] > 1 else slice(None) for at, part in enumerate(box))]
        for axis in grid_of(size)
    ]
    away = [axis - np.float32(at) for axis, at in zip(grid, centre, strict=True)]
    square = sum((part**2 for part in away), np.zeros((), np.float32))
    along = sum((np.float32(d) * part for d, part in zip(direction, away, strict=True)), np.float32(0))
    return np.sqrt(np.maximum(square - np.float32(1 - 1 / stretch**2) * along**2, 0))


def _shade_and_halo(blobs: list[_Blob], rough: Field, values: Mapping[str, float]) -> tuple[Field, Field]:
    """Share of the contrast that lesions show, and what they add around them; one blob is held at a time.

    The halo (oedema or penumbra) falls off linearly, and is 0 inside the lesions.
    """
    shade, halo = np.zeros(rough.shape, np.float32), np.zeros(rough.shape, np.float32)
    share, width = values["halo"], values["halo_width"]
    texture = np.flip(rough)
    for blob in blobs:
        depth = blob.depth(rough, values)
        shade[blob.box] = np.maximum(shade[blob.box], _shown(blob, depth, texture[blob.box], values))
        if share != 0 and width > 0:
            around = np.clip(1 + depth / np.float32(max(width, 1e-3)), 0, 1)
            halo[blob.box] = np.maximum(halo[blob.box], around)
    return shade, np.float32(share) * halo if share != 0 and width > 0 else halo


def _shown(blob: _Blob, depth: Field, texture: Field, values: Mapping[str, float]) -> Field:
    """Share of the contrast: fainter towards a soft border, another grey in the core, textured."""
    soft = np.clip(depth / np.float32(max(values["softness"], 1e-3)), 0, 1)
    deep = np.clip(2 * (depth / np.float32(blob.radius) - 1 + np.float32(values["core_size"])), 0, 1)
    own = np.float32(blob.strength) * soft * (1 + np.float32(values["core"]) * deep)
    own = np.maximum(own * (1 + np.float32(values["lesion_spread"]) * texture), np.float32(_FAINTEST))
    return np.where(depth > 0, own, 0)


def _decoys(
    places: Int[ndarray, "place axis"],
    rough: Field,
    *,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> Field:
    """Share of the contrast of small or long things that look like lesions and are none: vessels, sulci."""
    size = rough.shape
    added = np.zeros(size, np.float32)
    for _ in range(count_in(size, values["decoys"])):
        centre = places[generator.integers(len(places))].astype(float)
        stretch, direction = generator.uniform(1, 6), _direction(len(size), generator)
        radius = values["decoy_radius"] * generator.uniform(0.4, 1)
        box = _box(centre, size, reach=stretch * (radius + 0.5))
        away = _distance(centre, direction, size, box=box, stretch=stretch)
        inside = np.clip(np.float32(radius) - away + 0.5, 0, 1)
        added[box] = np.maximum(added[box], inside * np.float32(generator.uniform(0.4, 1)))
    return np.float32(values["decoy_contrast"]) * added
