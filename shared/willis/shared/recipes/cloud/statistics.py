"""What a few numbers say of a labelled patch: tissue, contrast, texture, edge, size and direction.

Plain functions of one patch, no model: level and spread of the tissue, band-pass energies (differences of
Gaussians), what the target adds and how evenly, how its edge runs, how much of it there is, how thick,
how stretched and which way it lies.
"""

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.patch import LabelledPatches

_BANDS = (0.0, 0.7, 1.4, 2.8, 5.6)  # pixels; a band lies between two of these blurs
_FLOOR = 0.01  # added before a logarithm of a spread; grey levels in [-1, 1]
_RING = 4.0  # pixels around the target that count as its surroundings
_RIM = 2.0  # pixels around it that its blur reaches
_LEAST_PLAIN = 0.1  # share of pixels beyond the rim below which the rim is tissue too
_TAIL = 0.75
_SECOND = (1.0, -2.0, 1.0)

STATISTICS = (
    "level",  # mean of the tissue
    "spread",  # log standard deviation of the tissue
    *(f"band-{number}" for number in range(1, len(_BANDS))),  # log energy of the tissue, fine to coarse
    "noise",  # log median size of the finest differences of the tissue
    "bright",  # root of the share of pixels above 0.75
    "dark",  # root of the share below -0.75
    "contrast",  # target minus the ring around it
    "contrast-spread",  # log standard deviation within the target
    "inner-edge",  # outermost pixels of the target minus the others
    "outer-edge",  # innermost pixels of the ring minus the others
    "share",  # log share of foreground
    "mean-depth",  # log mean distance of the target's pixels from its border
    "most-depth",  # log of the largest
    "stretch",  # log ratio of the longest and the shortest axis
    "along",  # cosine of twice the long axis' angle within the last two axes, times how clear it is
    "across",  # sine of the same
    "pieces",  # log of one and the number of pieces
)


def patch_statistics(patches: LabelledPatches) -> Float[ndarray, "patch statistic"]:
    """Return the ``STATISTICS`` of every patch, of its first image channel and its label.

    Guarantees:
        A patch's row depends on that patch alone. Values are finite or NaN, and NaN is "not defined": what
        is said of the target in a patch without one, or of the tissue in a patch without any.

    Args:
        patches: (patch, channel, *space), 2-D or 3-D; image in [-1, 1], foreground where the label > 0.
    """
    arrays = patches.detach().cpu().numpy()
    rows = [_one(patch[0].astype(np.float32), patch[-1] > 0) for patch in arrays]
    return np.array(rows, np.float64).reshape(len(arrays), len(STATISTICS))


def _one(image: Float[ndarray, "*space"], target: Bool[ndarray, "*space"]) -> list[float]:
    if not target.any():  # nothing is near it
        away = np.full(target.shape, np.inf)
    else:
        away = np.asarray(ndimage.distance_transform_edt(~target))
    return [*_tissue(image, target, away), *_contrast(image, target, away), *_shape(target)]


def _tissue(
    image: Float[ndarray, "*space"], target: Bool[ndarray, "*space"], away: Float[ndarray, "*space"]
) -> list[float]:
    tails = [math.sqrt(float((image > _TAIL).mean())), math.sqrt(float((image < -_TAIL).mean()))]
    tissue = ~target
    if not tissue.any():
        return [math.nan] * (2 + len(_BANDS)) + tails
    level = float(image[tissue].mean())
    # The target is painted over and its blurred rim left out, so that its own edges are no texture.
    filled = np.where(tissue, image, np.float32(level))
    plain = away > _RIM if float((away > _RIM).mean()) > _LEAST_PLAIN else tissue
    blurred = [ndimage.gaussian_filter(filled, blur) if blur else filled for blur in _BANDS]
    bands = [
        _log_spread(float(np.sqrt(np.mean((fine - coarse)[plain] ** 2))))
        for fine, coarse in pairwise(blurred)
    ]
    return [level, _log_spread(float(image[tissue].std())), *bands, _noise(filled, plain), *tails]


def _noise(image: Float[ndarray, "*space"], plain: Bool[ndarray, "*space"]) -> float:
    """Median size of the product of second differences along the last two axes (Immerkaer 1996)."""
    fine = ndimage.correlate1d(ndimage.correlate1d(image, _SECOND, axis=-1), _SECOND, axis=-2)
    return _log_spread(float(np.median(np.abs(fine[plain]))) / 4)


def _contrast(
    image: Float[ndarray, "*space"], target: Bool[ndarray, "*space"], away: Float[ndarray, "*space"]
) -> list[float]:
    if target.all() or not target.any():
        return [math.nan] * 4
    ring, rim = ~target & (away <= _RING), ~target & (away <= 1)
    inner = target & ~np.asarray(ndimage.binary_erosion(target, border_value=1), bool)
    around = float(image[ring].mean())
    return [
        float(image[target].mean()) - around,
        _log_spread(float(image[target].std())),
        _difference(image, inner, target & ~inner),
        _difference(image, rim, ring & ~rim),
    ]


def _difference(
    image: Float[ndarray, "*space"], first: Bool[ndarray, "*space"], second: Bool[ndarray, "*space"]
) -> float:
    if not (first.any() and second.any()):
        return math.nan
    return float(image[first].mean()) - float(image[second].mean())


def _shape(target: Bool[ndarray, "*space"]) -> list[float]:
    share = math.log(float(target.mean()) + 1 / target.size)
    if not target.any():
        return [share, *[math.nan] * 6]
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(target, 1, mode="edge")))
    depth = depth[tuple(slice(1, -1) for _ in target.shape)]
    if target.all():  # no border to be far from
        depth = np.full(target.shape, float(max(target.shape)))
    pieces = np.zeros(target.shape, np.int32)
    ndimage.label(target, output=pieces)
    depths = [math.log(float(depth[target].mean())), math.log(float(depth.max()))]
    return [share, *depths, *_axes(target), math.log(1 + int(pieces.max()))]


def _axes(target: Bool[ndarray, "*space"]) -> tuple[float, float, float]:
    """Log ratio of the target's longest and shortest axis; its direction as a double angle."""
    places = np.argwhere(target).astype(np.float64)
    spread = np.atleast_2d(np.cov(places.T, bias=True)) + np.eye(target.ndim) / 12  # a pixel is a square
    values = np.linalg.eigvalsh(spread)
    plane = spread[-2:, -2:]
    trace = float(plane.trace())
    along = float(plane[1, 1] - plane[0, 0]) / trace
    return 0.5 * math.log(float(values[-1] / values[0])), along, 2 * float(plane[0, 1]) / trace


def _log_spread(value: float) -> float:
    return math.log(value + _FLOOR)
