"""A segmentation without its image: a mask on the voxels that its own frames span."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from nibabel.orientations import inv_ornt_aff, io_orientation

from willis.client.ingest.dicom.grid import ON_VOXEL, Grid, Plane
from willis.client.ingest.dicom.header_flaws import MOST_VOXELS
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused
from willis.client.ingest.dicom.seg_file import Digests, SegFile, read_seg
from willis.client.ingest.dicom.seg_label import label_of_seg

MOST_ALONG_AN_AXIS = 2**15 - 1  # of a NIfTI-1 file
_ALONE = "alone"  # a mask that is asked for itself need not say which image it is of


def seg_alone(
    path: Path, *, segments: Sequence[str] = (), pseudonyms: Digests
) -> tuple[UInt8[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
    """Return a mask and its affine in RAS, closest canonical.

    Frames that were left out because they are empty are filled with background; their distance is the least
    between two frames, of which all others must be multiples.

    Args:
        path: The segmentation.
        segments: As of :func:`~willis.client.ingest.dicom.seg_label.label_from_seg`.
        pseudonyms: By which its UIDs are read.

    Raises:
        MaskRefused: The mask is not fit, or its frames span no regular grid.
    """
    seg = read_seg(path, pseudonyms)
    grid = own_grid(seg)
    alone = replace(seg, series=(_ALONE,), frame_of_reference=_ALONE)
    return label_of_seg(alone, grid, segments=segments), grid.affine


def own_grid(seg: SegFile) -> Grid:
    """Return the voxels that a segmentation's frames span.

    Raises:
        MaskRefused: The frames differ in orientation or spacing, lie side by side, or at no regular distance.
    """
    planes = [frame.plane for frame in seg.frames]
    if not planes:
        raise MaskRefused(MaskFault.EMPTY)
    first = planes[0].affine()
    for plane in planes[1:]:
        if not np.allclose(plane.affine()[:3, :3], first[:3, :3], atol=1e-4):
            raise MaskRefused(MaskFault.OTHER_GRID, "its frames differ in orientation or spacing")
    normal = first[:3, 2]
    places = _places(planes, normal)
    step, count = _regular(places)
    affine = first.copy()
    affine[:3, 2] = normal * step
    affine[:3, 3] = _positions(planes)[int(np.argmin(places))]
    shape = (seg.rows, seg.columns, count)
    if seg.rows * seg.columns * count > MOST_VOXELS or max(shape) > MOST_ALONG_AN_AXIS:
        raise MaskRefused(MaskFault.OTHER_GRID, f"its frames span {' x '.join(map(str, shape))} voxels")
    turn = io_orientation(affine)
    canonical = np.asarray(affine @ inv_ornt_aff(turn, shape), np.float64)
    i, j, k = (shape[int(source)] for source in np.argsort(turn[:, 0]))
    return Grid((i, j, k), canonical, _ALONE, _ALONE)


def _positions(planes: Sequence[Plane]) -> Float64[np.ndarray, "plane 3"]:
    return np.array([plane.affine()[:3, 3] for plane in planes])


def _places(planes: Sequence[Plane], normal: np.ndarray) -> Float64[np.ndarray, " plane"]:
    """Return how far along the normal each frame lies, in mm."""
    positions = _positions(planes)
    places = positions @ normal
    aside = positions - places[:, None] * normal
    if np.abs(aside - aside[0]).max() > ON_VOXEL:
        raise MaskRefused(MaskFault.OTHER_GRID, "its frames do not lie one above the other")
    return places


def _regular(places: Float64[np.ndarray, " plane"]) -> tuple[float, int]:
    """Return the distance of slices, and their number."""
    ordered = np.unique(np.round(places, 4))
    if len(ordered) < 2:
        raise MaskRefused(MaskFault.GAPS, "one plane alone does not tell how far apart slices are")
    step = float(np.diff(ordered).min())
    counts = (ordered - ordered[0]) / step
    if np.abs(counts - np.rint(counts)).max() > 0.05:
        raise MaskRefused(MaskFault.GAPS, "its frames lie at no regular distance")
    count = int(np.rint(counts[-1])) + 1
    return float((ordered[-1] - ordered[0]) / (count - 1)), count
