"""No image under another patient's name, no label of another image, no scan half old and half new."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from harness.made_dicom import Made, seg, series
from nibabel.loadsave import save
from nibabel.nifti1 import Nifti1Image

from willis.client.cohort import read_cohort
from willis.client.ingest.dicom import cohort_folder
from willis.client.ingest.dicom.intake import KEY_FILE, Intake, ingest
from willis.client.ingest.dicom.report import IntakeResult
from willis.client.ingest.dicom.rule import IntakeRule
from willis.shared.errors import CohortError, StateError
from willis.shared.settings import parse


def an_intake(folder: Path, **rule) -> Intake:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    made_by = parse(rule, IntakeRule, where="rule", error=CohortError)
    memory = site / "state" / "intake"
    return Intake(folder / "export", folder / "cohort", "site-a", made_by, site / KEY_FILE, memory)


def marked(made: Made) -> np.ndarray:
    return (made.voxels > np.quantile(made.voxels, 0.9)).astype(np.uint8)


def a_patient(folder: Path, name: str, **rest) -> Made:
    made = series(folder, patient=name, **rest)
    seg(folder, made, marked(made), name=f"seg-{made.series[-6:]}.dcm")
    return made


def mask_beside(path: Path, made: Made) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(Nifti1Image(marked(made).transpose(2, 1, 0), made.affine), path)


def codes(result: IntakeResult) -> list[str]:
    return [one.code for one in result.verdicts]


def test_another_patient_under_the_same_file_names_and_times_is_never_the_first(tmp_path):
    rule = {"source": "nifti", "pattern": "masks/{series_number}.nii.gz"}

    def taken_in(name: str, seed: int) -> tuple[IntakeResult, np.ndarray]:
        shutil.rmtree(tmp_path / "export", ignore_errors=True)
        made = series(tmp_path / "export", patient=name, names="flat", seed=seed)
        mask_beside(tmp_path / "export" / "masks" / "3.nii.gz", made)
        for path in made.paths:
            os.utime(path, ns=(10**18, 10**18))
        return ingest(an_intake(tmp_path, label=rule)), np.sort(made.voxels.ravel())

    first, _ = taken_in("PAT-A", 1)
    second, voxels = taken_in("PAT-B", 2)
    assert codes(first) == ["taken"]
    assert codes(second) in (["taken"], ["changed"])
    for scan in second.scans:
        assert scan.subject != first.scans[0].subject
        image = Nifti1Image.from_filename(tmp_path / "cohort" / "images" / cohort_folder.file_of(scan.name))
        np.testing.assert_array_equal(np.sort(np.asarray(image.dataobj).ravel()), voxels)


@pytest.mark.parametrize("pattern", ["masks/{stem}.nii.gz", "masks/{series_number}.nii.gz"])
def test_one_mask_is_not_the_label_of_two_images(tmp_path, pattern):
    series(tmp_path / "export" / "A", patient="A", names="IM0001", seed=1)
    made = series(tmp_path / "export" / "B", patient="B", names="IM0001", seed=2)
    for name in ("IM0001", "3"):
        mask_beside(tmp_path / "export" / "masks" / f"{name}.nii.gz", made)
    rule = {"source": "nifti", "pattern": pattern}
    assert codes(ingest(an_intake(tmp_path, label=rule))) == ["shared-label"] * 2
    one_each = {"source": "nifti", "pattern": "masks/{patient}.nii.gz"}
    for name in ("A", "B"):
        mask_beside(tmp_path / "export" / "masks" / f"{name}.nii.gz", made)
    assert codes(ingest(an_intake(tmp_path, label=one_each))) == ["taken"] * 2


def test_copies_of_equal_pixels_and_another_intercept_differ(tmp_path):
    made = a_patient(tmp_path / "export", "A", modality="CT")
    item = pydicom.dcmread(made.paths[3])
    item.save_as(tmp_path / "export" / "copy.dcm")
    result = ingest(an_intake(tmp_path, image={"modality": "CT"}))
    assert (codes(result), result.duplicates) == (["taken"], 1)
    item.RescaleIntercept = "0"
    item.save_as(tmp_path / "export" / "copy.dcm")
    assert codes(ingest(an_intake(tmp_path, image={"modality": "CT"}))) == ["copies-differ"]


def test_a_full_disk_between_image_and_label_leaves_no_cohort_that_joins_new_to_old(tmp_path, monkeypatch):
    a_patient(tmp_path / "export", "A", study="late", StudyDate="20240505", seed=1)
    ingest(an_intake(tmp_path))
    a_patient(tmp_path / "export", "A", study="early", StudyDate="20200101", seed=2)  # it is study-1 now
    write = cohort_folder.write_whole

    def full(path: Path, data: bytes, **rest) -> None:
        if path.parent.name == "labels":
            raise StateError("the disk is full")
        write(path, data, **rest)

    monkeypatch.setattr(cohort_folder, "write_whole", full)
    with pytest.raises(StateError, match="full"):
        ingest(an_intake(tmp_path))
    with pytest.raises(CohortError):
        read_cohort(tmp_path / "cohort" / "cohort.csv")
    monkeypatch.setattr(cohort_folder, "write_whole", write)
    assert codes(ingest(an_intake(tmp_path))) == ["taken", "taken"]


def test_the_last_of_two_series_of_one_number_is_none(tmp_path):
    for n, name in enumerate(("first", "second")):
        a_patient(tmp_path / "export" / name, "A", series=name, number=3, seed=n)
    assert codes(ingest(an_intake(tmp_path, image={"several": "last"}))) == ["several", "several"]


def test_masks_alone_of_nobody_are_nobodys_and_copies_count_once(tmp_path):
    for name in ("A", "B"):
        made = a_patient(tmp_path / "export" / name, name, seed=ord(name))
        (mask,) = (tmp_path / "export" / name).glob("seg-*")
        shutil.copy(mask, mask.with_name("again.dcm"))
        for path in made.paths:
            path.unlink()
    alone = {"source": "masks-alone"}
    result = ingest(an_intake(tmp_path, label=alone))
    assert (codes(result), result.subjects, result.duplicates) == (["taken"] * 2, 2, 2)
    for path in (tmp_path / "export").rglob("*.dcm"):
        item = pydicom.dcmread(path)
        item.PatientID = item.PatientName = ""
        item.save_as(path)
    assert codes(ingest(an_intake(tmp_path, label=alone))) == ["no-patient"] * 2


def test_a_lost_key_is_not_replaced_and_nothing_is_made_in_the_export(tmp_path):
    a_patient(tmp_path / "export", "A")
    intake = an_intake(tmp_path)
    ingest(intake)
    intake.key.rename(tmp_path / "copy")
    with pytest.raises(CohortError, match="restore it"):
        ingest(intake)
    assert not intake.key.exists()
    before = sorted((tmp_path / "export").rglob("*"))
    for inside in (
        replace(intake, memory=tmp_path / "export" / "state"),
        replace(intake, memory=tmp_path / "other", key=tmp_path / "export" / "key"),
    ):
        with pytest.raises(CohortError, match="must not lie in the export"):
            ingest(inside)
    assert sorted((tmp_path / "export").rglob("*")) == before
