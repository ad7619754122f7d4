"""Masks of made series: where their voxels must come back, by arithmetic of the test's own."""

import hashlib
from pathlib import Path

import numpy as np
from harness.made_dicom import Made
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from pydicom import dcmread
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.grid import Grid
from willis.client.ingest.dicom.seg_file import FRAME_OF_REFERENCE, SERIES


class PlainDigests:
    """Digests without a key, to see in a test what is compared with what."""

    def of(self, kind: str, value: str) -> str:
        """Return 16 hex digits of kind and value."""
        return hashlib.sha256(f"{kind}/{value}".encode()).hexdigest()[:16]


DIGESTS = PlainDigests()


def on_image(made: Made, values: np.ndarray) -> np.ndarray:
    """Turn (slices, rows, columns) of a made series to the image's closest canonical voxels."""
    return apply_orientation(values.transpose(2, 1, 0), io_orientation(made.affine))


def grid_of(made: Made) -> Grid:
    """Return the grid that a made series is converted to."""
    shape = made.volume().shape
    turn = io_orientation(made.affine)
    turned = on_image(made, made.voxels)
    return Grid(
        shape=turned.shape,
        affine=made.affine @ inv_ornt_aff(turn, shape),
        frame_of_reference=DIGESTS.of(FRAME_OF_REFERENCE, made.frame_of_reference),
        series=DIGESTS.of(SERIES, made.series),
    )


def vessel(made: Made, *, seed: int = 0, share: float = 0.1) -> np.ndarray:
    """Return a random mask (slices, rows, columns) with marks in neighbouring slices, some slices empty."""
    dice = np.random.default_rng(seed)
    mask = (dice.random(made.voxels.shape) < share).astype(np.uint8)
    mask[dice.random(len(mask)) < 0.4] = 0
    mask[4:6, 3, 2:5] = 1
    return mask


def changed(path: Path, name: str, change) -> Path:
    """Write a copy of a file with its data set changed."""
    item: Dataset = dcmread(path)
    change(item)
    out = path.with_name(name)
    item.save_as(out)
    return out
