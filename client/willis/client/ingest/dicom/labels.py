"""The one label of an image, of all segmentations that a patient's export holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from willis.client.ingest.dicom.grid import Grid
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused
from willis.client.ingest.dicom.nifti_label import check_pattern, label_from_nifti, nifti_beside
from willis.client.ingest.dicom.seg_file import Digests, read_seg
from willis.client.ingest.dicom.seg_label import label_from_seg, label_of_seg

__all__ = (
    "Grid", "Label", "MaskFault", "MaskRefused", "check_pattern", "label_from_nifti", "label_from_seg",
    "label_of", "nifti_beside",
)  # fmt: skip

_OF_ANOTHER_IMAGE = (MaskFault.OTHER_SERIES, MaskFault.OTHER_FRAME)


@dataclass(frozen=True, repr=False)
class Label:
    """The label of an image, and what became of every mask that was asked.

    Attributes:
        voxels: 0 and 1 on the image's voxels.
        taken: Which of the masks it is, by place in the order given.
        refused: Place and fault of each that does not fit; with ``newest``, only of those of other images.
    """

    voxels: UInt8[np.ndarray, "i j k"]
    taken: int
    refused: tuple[tuple[int, MaskFault], ...]


def label_of(
    paths: Sequence[Path],
    grid: Grid,
    *,
    segments: Sequence[str] = (),
    pseudonyms: Digests,
    several: Literal["refuse", "newest"] = "refuse",
) -> Label:
    """Find the one segmentation that is an image's label.

    Guarantees:
        ``refuse``: exactly one of the masks fits. ``newest``: of those of this image, the one with the latest
        content date and time was taken, and it fits; an older one never stands in for it.

    Raises:
        MaskRefused: No mask, none that fits (a single one gives its own fault), several, or no newest.
    """
    if not paths:
        raise MaskRefused(MaskFault.MISSING)
    if several == "newest":
        return _newest(paths, grid, segments=segments, pseudonyms=pseudonyms)
    fits: list[tuple[int, UInt8[np.ndarray, "i j k"]]] = []
    refused: list[tuple[int, MaskRefused]] = []
    for place, path in enumerate(paths):
        try:
            fits.append((place, label_from_seg(path, grid, segments=segments, pseudonyms=pseudonyms)))
        except MaskRefused as refusal:
            refused.append((place, refusal))
        if len(fits) > 1:
            raise MaskRefused(MaskFault.SEVERAL)
    if not fits:
        raise _none([refusal for _, refusal in refused])
    place, voxels = fits[0]
    return Label(voxels, place, tuple((one, refusal.fault) for one, refusal in refused))


def _newest(paths: Sequence[Path], grid: Grid, *, segments: Sequence[str], pseudonyms: Digests) -> Label:
    ours: list[tuple[str, int]] = []
    others: list[tuple[int, MaskRefused]] = []
    for place, path in enumerate(paths):
        seg = read_seg(path, pseudonyms)  # a damaged one may be the newest: it is refused, not passed over
        if grid.series in seg.series:
            ours.append((seg.when, place))
        else:
            others.append((place, MaskRefused(MaskFault.OTHER_SERIES)))
    if not ours:
        raise _none([refusal for _, refusal in others])
    when, place = max(ours)
    if len(ours) > 1 and ([one for one, _ in ours].count(when) > 1 or not all(one for one, _ in ours)):
        raise MaskRefused(MaskFault.SEVERAL, "their content dates do not tell which is the newest")
    voxels = label_of_seg(read_seg(paths[place], pseudonyms), grid, segments=segments)
    return Label(voxels, place, tuple((one, refusal.fault) for one, refusal in others))


def _none(refusals: Sequence[MaskRefused]) -> MaskRefused:
    """Return the refusal of several masks: that of the only one of this image, else all faults counted."""
    near = [one for one in refusals if one.fault not in _OF_ANOTHER_IMAGE] or refusals
    if len(near) == 1 or len(refusals) == 1:
        return near[0]
    counted = Counter(one.fault.value for one in refusals)
    return MaskRefused(MaskFault.NONE_FITS, ", ".join(f"{n} {fault}" for fault, n in sorted(counted.items())))
