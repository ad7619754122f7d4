"""NIfTI masks beside an export: where the pattern says, never outside it; on its voxels, or refused."""

from pathlib import Path, PurePosixPath

import nibabel
import numpy as np
import pytest
from harness.made_masks import DIGESTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from willis.client.ingest.dicom.labels import (
    Grid,
    MaskFault,
    MaskRefused,
    check_pattern,
    label_from_nifti,
    nifti_beside,
)
from willis.shared.errors import CohortError

GRID = Grid((6, 7, 9), np.diag([0.4, 0.5, 0.7, 1.0]), DIGESTS.of("frame", "1"), DIGESTS.of("series", "1"))
MASK = np.zeros(GRID.shape, np.uint8)
MASK[2:4, 1:5, 3] = [[1, 2, 0, 1], [0, 1, 1, 1]]
PATIENT = "Musterfrau^Erika"
FACTS = {
    "series_folder": PurePosixPath("in/side"), "file_stem": "IM1", "patient_id": PATIENT, "study_uid": "1.2",
    "series_uid": "1.3", "series_number": 3,
}  # fmt: skip


def written(folder: Path, values: np.ndarray, affine: np.ndarray = GRID.affine) -> Path:
    """Write a NIfTI file whose name is a patient's."""
    path = folder / f"{PATIENT}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def fault(path: Path) -> MaskFault:
    """Return why a mask is refused, once its name is found nowhere."""
    with pytest.raises(MaskRefused) as caught:
        label_from_nifti(path, GRID)
    assert caught.value.__context__ is None
    assert "Erika" not in str(caught.value)
    return caught.value.fault


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_turned_as_the_image(tmp_path: Path, flips: tuple, axes: tuple) -> None:
    image = nibabel.Nifti1Image(MASK, GRID.affine)
    turn = [[axes[axis], flips[axis]] for axis in range(3)]
    nibabel.save(image.as_reoriented(turn), tmp_path / "m.nii")
    assert np.array_equal(label_from_nifti(tmp_path / "m.nii", GRID), MASK > 0)


def moved(by: float) -> np.ndarray:
    """Return the grid's affine, moved by mm."""
    affine = GRID.affine.copy()
    affine[0, 3] += by
    return affine


def test_values_and_grids_that_are_refused(tmp_path: Path) -> None:
    for values, affine, expected in (
        (MASK[:, :, 1:], GRID.affine, MaskFault.OTHER_GRID),
        (MASK, moved(0.01), MaskFault.OTHER_GRID),
        (MASK * 0, GRID.affine, MaskFault.EMPTY),
        (MASK * 0 + 1, GRID.affine, MaskFault.TOO_LARGE),
        (MASK * 0.3, GRID.affine, MaskFault.NOT_INTEGER),
        (MASK.astype(float) - 1, GRID.affine, MaskFault.NEGATIVE),
        (np.where(MASK, np.nan, 0), GRID.affine, MaskFault.NOT_FINITE),
    ):
        assert fault(written(tmp_path, values, affine)) == expected
    assert label_from_nifti(written(tmp_path, MASK, moved(0.0005)), GRID).sum() == np.count_nonzero(MASK)


def test_damaged_absent_and_of_another_type(tmp_path: Path) -> None:
    path = written(tmp_path, MASK)
    path.write_bytes(path.read_bytes()[:-30])
    assert fault(path) == MaskFault.DAMAGED
    path.write_bytes(PATIENT.encode())
    assert fault(path) == MaskFault.DAMAGED
    assert fault(tmp_path / f"{PATIENT}-2.nii") == MaskFault.MISSING
    assert fault(tmp_path / f"{PATIENT}.png") == MaskFault.NOT_NIFTI


@pytest.mark.parametrize(
    "pattern",
    [
        "{name}.nii.gz", "{}.nii", "{patient.x}.nii", "{patient[0]}.nii", "{patient!r}.nii",
        "{patient:>9}.nii",
        "{patient.nii", "mask.nii.gz", "/masks/{patient}.nii", "../{patient}.nii", "a/../../{patient}.nii",
        "{patient}.png", "~/{patient}.nii", "a\\{patient}.nii",
    ],
)  # fmt: skip
def test_pattern_that_is_not_sound(pattern: str) -> None:
    with pytest.raises(CohortError, match="pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("masks/{patient}_{series_number}.nii.gz", f"masks/{PATIENT}_3.nii.gz"),
        ("{folder}/{stem}.nii", "in/side/IM1.nii"),
        ("{study}/{series}/mask.nii", "1.2/1.3/mask.nii"),
    ],
)
def test_mask_is_found(tmp_path: Path, pattern: str, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert nifti_beside(pattern, export=tmp_path, **FACTS) == tmp_path / place


def outside(export: Path, pattern: str, **changes: object) -> MaskFault:
    """Return why a path is refused, once no value is found in the refusal."""
    with pytest.raises(MaskRefused) as caught:
        nifti_beside(pattern, export=export, **{**FACTS, **changes})  # pyright: ignore[reportArgumentType]
    assert not any(word in str(caught.value) for word in ("Erika", "secret", str(export)))
    return caught.value.fault


def test_nothing_outside_the_export(tmp_path: Path) -> None:
    export = tmp_path / "export"
    (export / "in").mkdir(parents=True)
    (tmp_path / "secret.nii").touch()
    (export / "link.nii").symlink_to(tmp_path / "secret.nii")
    (export / "linked").symlink_to(tmp_path)
    for patient in ("../secret", "..", "/secret", "a/../../secret", "a\\b", "a\0b", "link", "x" * 300):
        pattern = "{patient}.nii" if patient != ".." else "{patient}/secret.nii"
        assert outside(export, pattern, patient_id=patient) == MaskFault.OUTSIDE_EXPORT
    assert outside(export, "{patient}/secret.nii", patient_id="linked") == MaskFault.OUTSIDE_EXPORT
    for folder in ("../", "/", "in/../.."):
        assert (
            outside(export, "{folder}/secret.nii", series_folder=PurePosixPath(folder))
            == MaskFault.OUTSIDE_EXPORT
        )
    assert outside(export, "{patient}.nii", patient_id="") == MaskFault.MISSING
    assert outside(export, "{patient}.nii") == MaskFault.MISSING


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_value_leads_outside(tmp_path: Path, patient: str, stem: str) -> None:
    export = tmp_path / "export"
    export.mkdir(exist_ok=True)
    (tmp_path / "secret.nii").touch()
    with pytest.raises(MaskRefused):
        nifti_beside(
            "{patient}{stem}/secret.nii", export=export, **{**FACTS, "patient_id": patient, "file_stem": stem}
        )
