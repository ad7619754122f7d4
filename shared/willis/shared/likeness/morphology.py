"""``morpho13``: thirteen figures of a labelled patch that a reader can name.

Size, thickness and shape of the label's foreground, grey levels inside and outside it and across its rim.
In 3-D they mean the same; holes are then tunnels. Every figure is finite for every mask, degenerate ones too:

* An empty mask has 0 in all figures of shape. A full one has density 1, one component, no hole, a radius of
  half the shortest side, and the skeleton and box dimension of a filled box.
* Where a mask has no inside or no outside, that side takes the other's grey levels; no rim has contrast 0.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage
from skimage.measure import euler_number
from skimage.morphology import skeletonize
from torch import Tensor

from willis.shared.likeness.patches import check_patches

MORPHOLOGY = (
    "vessel-density",  # share of foreground
    "skeleton-length",  # pixels of the skeleton
    "radius-mean",  # pixels: over the skeleton, distance to the nearest background pixel less half a pixel
    "radius-sd",
    "radius-p90",
    "box-dimension",  # box-counting dimension
    "betti-0",  # components, joined by corners too
    "betti-1",  # holes; tunnels in 3-D
    "inside-mean",  # grey level of the first image channel in the foreground
    "inside-sd",
    "outside-mean",  # in the background
    "outside-sd",
    "rim-contrast",  # mean over the foreground within 2 pixels of the border, less the same of the background
)
_RIM = 2.0  # pixels


def morpho13(patches: Float[Tensor, "patch channel *space"]) -> Float[Tensor, "patch 13"]:
    """Return the figures named in :data:`MORPHOLOGY` of every patch, each from its patch alone.

    Args:
        patches: Labelled patches, 2-D or 3-D; foreground is a label above 0, grey levels are the first image
            channel's.

    Raises:
        ValueError: Patches are unfit, see ``check_patches``, or a side is shorter than 4 pixels.
    """
    check_patches(patches)
    arrays = patches.detach().float().cpu().numpy()
    rows = [[*_shape(patch[-1] > 0), *_grey_levels(patch[0], patch[-1] > 0)] for patch in arrays]
    return torch.tensor(rows, dtype=torch.float64)


def box_dimension(mask: Bool[ndarray, "*space"]) -> float:
    """Return the box-counting dimension of a mask; 0 for an empty one.

    Minus the slope, by least squares, of log(boxes that hold foreground) over log(side), for sides of 1, 2, 4
    and so on up to half the shortest side; boxes lie on a grid from the first pixel.

    Raises:
        ValueError: A side is shorter than 4 pixels: two sizes of boxes are the least.
    """
    if not min(mask.shape) >= 4:
        raise ValueError(f"box counting needs sides of at least 4 pixels, got {mask.shape}")
    if not mask.any():
        return 0.0
    sides = [2**power for power in range(min(mask.shape).bit_length()) if 2**power <= min(mask.shape) // 2]
    counts = [int(_boxes(mask, side).sum()) for side in sides]
    slope = float(np.polyfit(np.log(sides), np.log(counts), 1)[0])
    return max(-slope, 0.0)  # counts never rise with the side; rounding may


def betti_numbers(mask: Bool[ndarray, "*space"]) -> tuple[int, int]:
    """Return Betti 0 (components) and Betti 1 (holes, or tunnels in 3-D) of a mask.

    Foreground pixels touch by faces, edges and corners, background by faces only. Betti 1 follows from the
    Euler characteristic: ``b0 - b1 + b2``, with b2 the cavities of a 3-D mask and 0 in 2-D.
    """
    corners = ndimage.generate_binary_structure(mask.ndim, mask.ndim)
    components = _pieces(mask, corners)
    cavities = 0
    if mask.ndim == 3:
        faces = ndimage.generate_binary_structure(mask.ndim, 1)
        cavities = _pieces(~np.pad(mask, 1), faces) - 1
    return components, components + cavities - int(euler_number(mask, connectivity=mask.ndim))


def _boxes(mask: Bool[ndarray, "*space"], side: int) -> Bool[ndarray, "*box"]:
    """Return which boxes of a side hold foreground; the last of a row may reach beyond the mask."""
    whole = np.pad(mask, [(0, -length % side) for length in mask.shape])
    split = [number for length in whole.shape for number in (length // side, side)]
    return np.asarray(whole.reshape(split).any(axis=tuple(range(1, 2 * mask.ndim, 2))))


def _pieces(mask: Bool[ndarray, "*space"], structure: Bool[ndarray, "*side"]) -> int:
    found = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure=structure, output=found)
    return int(found.max())


def _shape(mask: Bool[ndarray, "*space"]) -> list[float]:
    if not mask.any():
        return [0.0] * 8
    skeleton = np.asarray(skeletonize(mask), dtype=bool)
    skeleton = skeleton if skeleton.any() else mask  # it may thin away to nothing
    radii = np.full(1, min(mask.shape) / 2)
    if not mask.all():
        radii = np.asarray(ndimage.distance_transform_edt(mask))[skeleton] - 0.5
    return [
        float(mask.mean()),
        float(skeleton.sum()),
        float(radii.mean()),
        float(radii.std()),
        float(np.percentile(radii, 90)),
        box_dimension(mask),
        *(float(number) for number in betti_numbers(mask)),
    ]


def _grey_levels(image: Float[ndarray, "*space"], mask: Bool[ndarray, "*space"]) -> list[float]:
    inside, outside = image[mask], image[~mask]
    if not (inside.size and outside.size):
        inside = outside = image.ravel()
        contrast = 0.0
    else:
        contrast = _rim_level(image, mask) - _rim_level(image, ~mask)
    levels = [(part.mean(dtype=np.float64), part.std(dtype=np.float64)) for part in (inside, outside)]
    return [*(float(number) for pair in levels for number in pair), contrast]


def _rim_level(image: Float[ndarray, "*space"], side: Bool[ndarray, "*space"]) -> float:
    """Return the mean grey level of one side of the border within the rim."""
    away = np.asarray(ndimage.distance_transform_edt(side))
    return float(image[side & (away <= _RIM)].mean(dtype=np.float64))
