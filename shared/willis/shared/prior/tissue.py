"""Background: a textured tissue, regions of other greys, round spots, large discs, and what is no tissue."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import fft

Field = Float[ndarray, "*space"]
Ball = tuple[tuple[slice, ...], Field, float]  # where it lies, how much of it there is, what it adds


@dataclass(frozen=True)
class Tissue:
    """What the target lies in.

    Attributes:
        intensity: Relative intensity.
        inside: False where there is no tissue but air, or what lies beyond the field of view.
    """

    intensity: Float[ndarray, "*space"]
    inside: Bool[ndarray, "*space"]


@lru_cache(maxsize=32)
def _log_frequency(shape: tuple[int, ...]) -> Float[ndarray, "*frequency"]:
    """Log of the radial frequency on the grid of a real Fourier transform; at frequency zero, 0."""
    axes = [fft.fftfreq(side) for side in shape[:-1]] + [fft.rfftfreq(shape[-1])]
    square = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))
    square = np.asarray(square, dtype=np.float32)
    square[(0,) * len(shape)] = 1
    return np.log(square) / 2


def power_law_field(size: tuple[int, ...], slope: float, generator: np.random.Generator) -> Field:
    """Draw a Gaussian random field of mean 0 and deviation 1 whose power falls as frequency ** -slope.

    The slope is the one seen in any plane through the field: that of a 3-D field is one steeper, so that a
    slope means the same texture in a slice and in a volume. It is cut from a larger periodic field, so that
    opposite borders do not match.
    """
    return gaussian_field(size, lambda log_f: np.float32(-(slope + len(size) - 2) / 2) * log_f, generator)


def bump_field(size: tuple[int, ...], diameter: float, generator: np.random.Generator) -> Field:
    """Draw a Gaussian random field of mean 0 and deviation 1 with grains of one diameter in pixels.

    Its amplitude falls to 1/e half an octave to each side of the frequency of such grains.
    """
    centre = np.float32(-math.log(2 * diameter))
    return gaussian_field(size, lambda log_f: -(((log_f - centre) / np.float32(0.35)) ** 2), generator)


def gaussian_field(
    size: tuple[int, ...],
    log_amplitude: Callable[[Float[ndarray, "*frequency"]], Float[ndarray, "*frequency"]],
    generator: np.random.Generator,
) -> Field:
    """Draw a Gaussian random field of mean 0 and deviation 1, cut from a larger periodic one.

    Args:
        size: Pixels along each axis.
        log_amplitude: From the log of the radial frequency (cycles a pixel) to the log of the amplitude.
        generator: Draws it.
    """
    shape = tuple(8 * math.ceil((side * 1.25 + 2) / 8) for side in size)
    spectrum = np.asarray(fft.rfftn(generator.standard_normal(shape, dtype=np.float32)))
    spectrum *= np.exp(log_amplitude(_log_frequency(shape)))
    spectrum[(0,) * len(size)] = 0
    field = np.asarray(fft.irfftn(spectrum, shape))[tuple(slice(side) for side in size)]
    field = field - field.mean()
    return (field / max(float(field.std()), 1e-12)).astype(np.float32)


def grid_of(size: tuple[int, ...]) -> list[Field]:
    """Return one broadcastable array of pixel coordinates for each axis."""
    return [
        np.arange(side, dtype=np.float32).reshape([-1 if axis == own else 1 for axis in range(len(size))])
        for own, side in enumerate(size)
    ]


def count_in(size: tuple[int, ...], density: float) -> int:
    """Things to draw: ``density`` is how many there are in a square or cube of side 48."""
    share = float(np.prod(size)) / 48 ** len(size)
    return max(round(density * share), int(round(density) > 0))


def draw_tissue(size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator) -> Tissue:
    """Draw the background of one image; parameters are those of ``parameters.TISSUE``."""
    intensity = values["background"] + values["background_spread"] * power_law_field(
        size, values["spectrum_slope"], generator
    )
    if values["bumps"] > 0:
        intensity += values["bumps"] * bump_field(size, values["bump_size"], generator)
    intensity += _regions(size, values, generator)
    for box, ball, contrast in chain(_spots(size, values, generator), _discs(size, values, generator)):
        intensity[box] += contrast * ball
    inside = _inside(size, values, generator)
    intensity = np.where(inside, intensity, np.float32(values["outside_level"]))
    return Tissue(intensity.astype(np.float32), inside)


def _regions(size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator) -> Field:
    """Greys of tissues that meet at the level lines of a smooth field."""
    borders = round(values["regions"])
    if borders == 0:
        return np.zeros(size, np.float32)
    field = power_law_field(size, values["region_slope"], generator)
    levels = np.sort(generator.uniform(-1.5, 1.5, borders))
    greys = generator.normal(0, values["region_spread"], borders + 1).astype(np.float32)
    return greys[np.searchsorted(levels, field.ravel())].reshape(size)


def _spots(
    size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator
) -> Iterator[Ball]:
    """Small discs or balls, one at a time."""
    for _ in range(count_in(size, values["spots"])):
        radius = values["spot_radius"] * generator.uniform(0.3, 1)
        box, spot = _ball(size, generator.uniform(0, size), radius=radius, edge=values["spot_edge"])
        yield box, spot, values["spot_contrast"] * generator.uniform(0.3, 1)


def _discs(
    size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator
) -> Iterator[Ball]:
    """Large discs or balls, such as the optic disc; their centre may lie beyond the image."""
    radius = values["disc_radius"]
    for _ in range(max(0, round(values["discs"]))):
        centre = generator.uniform(-0.7 * radius, np.array(size) + 0.7 * radius)
        box, disc = _ball(size, centre, radius=radius, edge=radius * generator.uniform(0.05, 0.6))
        yield box, disc, values["disc_contrast"]


def _ball(
    size: tuple[int, ...], centre: Float[ndarray, " axis"], *, radius: float, edge: float
) -> tuple[tuple[slice, ...], Field]:
    """1 inside, 0 outside, falling over ``edge`` pixels about the radius; the box beyond which it is 0."""
    reach = radius + edge / 2 + 1
    low, high = np.floor(centre - reach).astype(int), np.ceil(centre + reach + 1).astype(int)
    box = tuple(slice(max(0, a), max(0, min(b, side))) for a, b, side in zip(low, high, size, strict=True))
    away = (
        np.take(axis, range(part.start, part.stop), own) - np.float32(at)
        for own, (axis, part, at) in enumerate(zip(grid_of(size), box, centre, strict=True))
    )
    square = sum((part**2 for part in away), np.zeros((), np.float32))
    return box, np.clip((np.float32(radius) - np.sqrt(square)) / np.float32(edge) + np.float32(0.5), 0, 1)


def _inside(
    size: tuple[int, ...], values: Mapping[str, float], generator: np.random.Generator
) -> Bool[ndarray, "*space"]:
    """False on a share ``outside`` of the image, beyond a smooth edge."""
    outside = values["outside"]
    if not outside > 0:
        return np.ones(size, bool)
    slope = generator.normal(size=len(size))
    slope /= np.linalg.norm(slope)
    ramp = sum(part * axis / side for part, axis, side in zip(slope, grid_of(size), size, strict=True))
    height = np.asarray(ramp) + values["outside_edge"] * power_law_field(size, 4.0, generator)
    return height >= np.quantile(height, outside)
