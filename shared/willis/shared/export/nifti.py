"""One patch as one NIfTI file, on disk or in memory."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from willis.shared.patch import PatchSpec


def save_nifti(values: np.ndarray, path: Path, *, spec: PatchSpec, across_mm: float = 1.0) -> None:
    """Save a patch with its spacing in mm; where the study knows none, 1 of an unknown unit.

    Args:
        values: Of one channel, along the patch's axes.
        across_mm: Spacing across the one slice that a 2-D patch becomes.
    """
    spacing = list(spec.spacing_mm or [1.0] * spec.dimensions)
    if spec.dimensions == 2:
        values, spacing = values[:, :, None], [*spacing, across_mm]
    nibabel.save(_volume(values, spacing, known=spec.spacing_mm is not None), path)


def nifti_bytes(values: np.ndarray, *, spacing_mm: Sequence[float], known: bool) -> bytes:
    """Return a volume as a NIfTI-1 file, axes to the right, front and top (RAS).

    Args:
        values: Along three axes; the file has their type.
        spacing_mm: Of a voxel along each axis; where it is not known, its proportions.
        known: Whether it is in mm; else the file says that the unit is unknown.
    """
    return _volume(values, spacing_mm, known=known).to_bytes()


def _volume(values: np.ndarray, spacing_mm: Sequence[float], *, known: bool) -> nibabel.Nifti1Image:
    picture = nibabel.Nifti1Image(values, np.diag([*spacing_mm, 1.0]))
    picture.header.set_xyzt_units("mm" if known else "unknown")
    return picture
