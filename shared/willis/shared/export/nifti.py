"""One patch as one NIfTI file."""

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
    picture = nibabel.Nifti1Image(values, np.diag([*spacing, 1.0]))
    picture.header.set_xyzt_units("mm" if spec.spacing_mm is not None else "unknown")
    nibabel.save(picture, path)
