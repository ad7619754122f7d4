"""What one labelled patch looks like, in numbers that name themselves: level, texture, profile, calibre.

The same numbers are taken from a real patch, behind the hospital's wall, and from a prior draw:

* level: mean of the background;
* bands: log of the background's standard deviation in bands an octave apart, the last one all that is
  coarser;
* profile: mean difference to the background around, by the target's calibre and by the distance from its
  border, inside and outside;
* calibre: log of the share of the patch that a target of each calibre takes.

The background is what lies more than 3 pixels from the target and is not saturated (beyond the field of
view, for example). Distances are pixels; 2-D and 3-D alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import ndimage

SCALES = (0.7, 1.4, 2.8, 5.6, 11.2)  # standard deviations, in pixels, between bands
CALIBRES = (1.1, 2.1, 3.3)  # half widths, in pixels, between the four classes of calibre
INSIDE = (1.1, 2.1)  # distances to the border between the three shells inside
OUTSIDE = (1.1, 2.3, 3.5)  # outer distances of the three shells outside

N_BANDS = len(SCALES) + 1
N_CALIBRES = len(CALIBRES) + 1
_SHELLS = len(INSIDE) + 1 + len(OUTSIDE)
N_CELLS = N_CALIBRES * _SHELLS
N_STATISTICS = 1 + N_BANDS + N_CELLS + N_CALIBRES

LEVEL = slice(0, 1)
BANDS = slice(1, 1 + N_BANDS)
CELLS = slice(1 + N_BANDS, 1 + N_BANDS + N_CELLS)
CALIBRE = slice(1 + N_BANDS + N_CELLS, N_STATISTICS)
GROUPS: tuple[slice, ...] = (
    LEVEL,
    BANDS,
    *(slice(at, at + _SHELLS) for at in range(CELLS.start, CELLS.stop, _SHELLS)),
    CALIBRE,
)

_SATURATED = 0.97  # of the range [-1, 1]
_LEAST_BACKGROUND = 0.05  # share of a patch that tells about the background
_LEAST_CELL = 4  # pixels that tell about a cell of the profile
_SMALLEST_DEVIATION = 1e-3
_SMALLEST_SHARE = 2e-3

Field = Float[ndarray, "*space"]


@dataclass(frozen=True)
class Look:
    """One patch, measured.

    Attributes:
        values: ``N_STATISTICS`` numbers; NaN where the patch does not tell.
        cells: Cell of the profile at every pixel, -1 far from the target.
        seen: False where the image is saturated.
    """

    values: Float[ndarray, " statistic"]
    cells: Int[ndarray, "*space"]
    seen: Bool[ndarray, "*space"]


def measure(image: Field, label: Bool[ndarray, "*space"]) -> Look:
    """Measure one patch: image in [-1, 1], label True on the target."""
    cells, shares = _cells(label)
    seen = np.abs(image) < _SATURATED
    background = seen & (cells < 0)
    values = np.full(N_STATISTICS, np.nan)
    values[CALIBRE] = np.log(shares + _SMALLEST_SHARE)
    if background.mean() >= _LEAST_BACKGROUND:
        values[LEVEL] = image[background].mean()
        bands, coarse = octaves(image, background)
        deviations = [band[background].std() for band in (*bands, coarse)]
        values[BANDS] = np.log(np.array(deviations) + _SMALLEST_DEVIATION)
        values[CELLS] = _profile(image - smooth(image, background, SCALES[3]), cells, seen)
    return Look(values, cells, seen)


def calibres(label: Bool[ndarray, "*space"]) -> Float[ndarray, " calibre"]:
    """Return what :func:`measure` says of the calibres, from the label alone."""
    return np.log(_cells(label)[1] + _SMALLEST_SHARE)


def octaves(image: Field, known: Bool[ndarray, "*space"]) -> tuple[list[Field], Field]:
    """Split an image into bands and what is coarser than all of them; they add up to it.

    Pixels that are not ``known`` have no weight in what is smoothed.
    """
    bands, finer = [], image
    for scale in SCALES:
        coarser = smooth(image, known, scale)
        bands.append(finer - coarser)
        finer = coarser
    return bands, finer


def smooth(image: Field, known: Bool[ndarray, "*space"], scale: float) -> Field:
    """Gaussian mean of the known pixels; far from all of them, their plain mean."""
    weight = known.astype(np.float32)
    mean = float(image[known].mean()) if known.any() else 0.0
    total, share = (
        ndimage.gaussian_filter(part, scale, mode="nearest", truncate=3)
        for part in ((image - mean) * weight, weight)
    )
    return (mean + total / np.maximum(share, 1e-3)).astype(np.float32)


def _cells(
    label: Bool[ndarray, "*space"],
) -> tuple[Int[ndarray, "*space"], Float[ndarray, " calibre"]]:
    """Profile cell of every pixel, and the share of the patch that each calibre takes."""
    cells = np.full(label.shape, -1)
    if not label.any():
        return cells, np.zeros(N_CALIBRES)
    if label.all():
        return np.full(label.shape, N_CELLS - len(OUTSIDE) - 1), np.eye(N_CALIBRES)[-1]
    deep = np.asarray(ndimage.distance_transform_edt(label))
    away, nearest = ndimage.distance_transform_edt(~label, return_indices=True)  # pyright: ignore
    half_width = ndimage.maximum_filter(ndimage.maximum_filter(deep, 5) * label, 5) * label
    calibre = np.searchsorted(CALIBRES, half_width[tuple(nearest)])
    shell = np.where(label, np.searchsorted(INSIDE, deep), len(INSIDE) + 1 + np.searchsorted(OUTSIDE, away))
    near = label | (away <= OUTSIDE[-1])
    cells[near] = (calibre * _SHELLS + shell)[near]
    return cells, np.bincount(calibre[label], minlength=N_CALIBRES) / label.size


def _profile(
    above: Field, cells: Int[ndarray, "*space"], seen: Bool[ndarray, "*space"]
) -> Float[ndarray, " cell"]:
    """Mean of what stands above the background in every cell; NaN in those of few pixels."""
    told = seen & (cells >= 0)
    pixels = np.bincount(cells[told], minlength=N_CELLS)
    total = np.bincount(cells[told], weights=above[told], minlength=N_CELLS)
    return np.where(pixels >= _LEAST_CELL, total / np.maximum(pixels, 1), np.nan)
