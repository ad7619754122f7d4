"""A folder of two sound scans with their masks."""

from pathlib import Path

import pytest
from harness.made_cohort import GRADIENT, MASK, nifti


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nifti(tmp_path / "image.nii.gz", GRADIENT)
    nifti(tmp_path / "label.nii.gz", MASK)
    nifti(tmp_path / "image2.nii.gz", GRADIENT + 1)
    nifti(tmp_path / "label2.nii.gz", MASK)
    return tmp_path
