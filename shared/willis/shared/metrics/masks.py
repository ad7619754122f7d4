"""How alike two binary masks are: Dice, 95th percentile Hausdorff distance, clDice.

Empty masks count, and count against a prediction that is wrong about them. MONAI's defaults drop an empty
truth from the mean, and turn a prediction without any voxel into 0 mm; both make a failure look perfect.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from skimage.morphology import skeletonize

HD95_DEFINITION = (
    "the larger of the two directed 95th percentiles (linear interpolation) of the distances from each edge "
    "pixel of one mask to the nearest of the other; an edge pixel has a face neighbour outside its mask"
)


def dice(prediction: Bool[np.ndarray, "*space"], truth: Bool[np.ndarray, "*space"]) -> float:
    """Return twice the overlap over the sum of both sizes (Dice 1945), in [0, 1].

    Edge cases:
        Both empty: 1. One of them empty: 0; an empty truth is not left out.
    """
    _check_masks(prediction, truth)
    total = int(prediction.sum()) + int(truth.sum())
    if total == 0:
        return 1.0
    return 2 * int((prediction & truth).sum()) / total


def hd95(
    prediction: Bool[np.ndarray, "*space"], truth: Bool[np.ndarray, "*space"], spacing: Sequence[float]
) -> float:
    """Return the 95th percentile Hausdorff distance, in the unit of ``spacing``.

    Four figures go by this name in the literature. This one is :data:`HD95_DEFINITION`, as in
    ``monai.metrics.compute_hausdorff_distance(percentile=95)``: never the percentile of both directions
    pooled, nor one that weighs edges by their area, nor EvaluateSegmentation's.

    Args:
        prediction: Mask, 2-D or 3-D.
        truth: Mask of the same shape.
        spacing: Pixel size in mm along each axis; ones for pictures, whose distance is then in pixels.

    Edge cases:
        Both empty: 0. One of them empty: the image's diagonal, the largest distance there could be.
        A mask that reaches the image's border has its edge there.

    Raises:
        ValueError: Shapes or types differ, spacing does not fit, or the distance is not finite.
    """
    _check_masks(prediction, truth)
    if not (len(spacing) == truth.ndim and all(step > 0 and math.isfinite(step) for step in spacing)):
        raise ValueError(
            f"spacing must be {truth.ndim} positive, finite numbers, one for each axis, got {tuple(spacing)}"
        )
    if not (prediction.any() or truth.any()):
        return 0.0
    if not (prediction.any() and truth.any()):
        return diagonal(truth.shape, spacing)
    distance = _largest_directed(prediction, truth, [float(step) for step in spacing])
    if not math.isfinite(distance):
        raise ValueError(f"HD95 of masks of shape {truth.shape} is {distance}; it must be finite")
    return distance


def _largest_directed(
    prediction: Bool[np.ndarray, "*space"], truth: Bool[np.ndarray, "*space"], spacing: list[float]
) -> float:
    masks = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, truth)]
    with warnings.catch_warnings():
        # MONAI warns about an argument that only its own call sets.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        distance = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing)
    return float(distance)


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the distance between the centres of an image's opposite corner pixels, in spacing's unit."""
    return math.sqrt(sum(((side - 1) * float(step)) ** 2 for side, step in zip(shape, spacing, strict=True)))


def cldice(prediction: Bool[np.ndarray, "*space"], truth: Bool[np.ndarray, "*space"]) -> float:
    """Return the centre-line Dice of two masks, 2-D or 3-D, in [0, 1].

    The harmonic mean of the share of the prediction's skeleton that lies in the truth, and of the truth's
    skeleton that lies in the prediction (Shit 2021, "clDice", equations 1 and 2), on hard skeletons; the
    soft loss of the same name scores nearly 1 for a mask that is all foreground.

    Edge cases:
        Both empty: 1. One of them empty: 0.
    """
    _check_masks(prediction, truth)
    if not (prediction.any() or truth.any()):
        return 1.0
    if not (prediction.any() and truth.any()):
        return 0.0
    precision = _share_inside(_skeleton(prediction), truth)
    sensitivity = _share_inside(_skeleton(truth), prediction)
    if precision + sensitivity == 0:
        return 0.0
    return 2 * precision * sensitivity / (precision + sensitivity)


def _skeleton(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """Return a mask's skeleton; a mask that thins away to nothing is its own skeleton."""
    skeleton = np.asarray(skeletonize(mask), dtype=bool)
    return skeleton if skeleton.any() else mask


def _share_inside(skeleton: Bool[np.ndarray, "*space"], mask: Bool[np.ndarray, "*space"]) -> float:
    return int((skeleton & mask).sum()) / int(skeleton.sum())


def _check_masks(prediction: np.ndarray, truth: np.ndarray) -> None:
    if not (prediction.dtype == np.bool_ and truth.dtype == np.bool_):
        raise ValueError(f"masks must be boolean, got {prediction.dtype} and {truth.dtype}")
    if not (prediction.shape == truth.shape and truth.ndim in (2, 3) and truth.size > 0):
        raise ValueError(
            f"masks must be 2-D or 3-D, not empty arrays, and of one shape, "
            f"got {prediction.shape} and {truth.shape}"
        )
