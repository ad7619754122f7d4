"""Patches of real scans, where they are there."""

import os
from pathlib import Path

import numpy as np
import pytest
from harness.made_patches import dice, flat
from nibabel.orientations import aff2axcodes

from willis.client.cohort import Cohort, Scan, Subject, read_cohort
from willis.client.ingest.check import check_cohort
from willis.client.patches import cut_patches, load_scan, load_subject
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec

DATA = Path(os.environ.get("WILLIS_DATA", Path(__file__).parents[4] / "shared" / "data"))


def real(folder: str) -> Path:
    path = DATA / folder
    if not path.is_dir():
        pytest.skip(f"{folder} is not there: set WILLIS_DATA to the folder of real data")
    return path


def first(cohort: Cohort, spec: PatchSpec) -> np.ndarray:
    return cut_patches(load_subject(cohort.subjects[0], spec), spec, dice())


def check_real(patches: np.ndarray, spec: PatchSpec) -> None:
    assert patches.shape == (spec.per_subject, spec.n_channels, *spec.size)
    assert np.abs(patches).max() <= 1
    n_foreground = int(spec.per_subject * spec.foreground_share + 0.5)
    assert np.all(patches[:n_foreground, -1].reshape(n_foreground, -1).max(axis=1) == 1)
    assert patches[:, 0].std() > 0.1


def test_hippocampus_is_accepted_whole():
    cohort = read_cohort(real("hippocampus_msd") / "cohort.csv")
    assert (len(cohort), [len(cohort.at(site)) for site in cohort.sites()]) == (208, [52] * 4)
    for spec in [PatchSpec(size=(32, 32), axis="coronal"), PatchSpec(size=(32, 32, 32), per_subject=4)]:
        check_real(first(cohort, spec), spec)


def test_retina_vessels_are_bright_after_inversion():
    cohort = read_cohort(real("retina_hrf_quarter") / "cohort.csv")
    assert (len(cohort), len(cohort.sites())) == (30, 3)
    spec = PatchSpec(size=(96, 96), channels=(Channel.GREEN,), invert=True)
    patches = first(cohort, spec)
    check_real(patches, spec)
    vessel = patches[:, 1] > 0
    near = np.abs(patches[:, 0]) < 1
    assert patches[:, 0][vessel & near].mean() > patches[:, 0][~vessel & near].mean() + 0.1


def test_tof_gives_patches_at_another_spacing():
    cohort = read_cohort(real("tof_siteA_aera15T") / "cohort.csv")
    spec = PatchSpec(size=(64, 64), spacing_mm=(0.5, 0.5), per_subject=16)
    scan = load_subject(cohort.subjects[0], spec)[0]
    # 348 and 323 voxels of 0.390625 mm are 271.9 and 252.3 of 0.5 mm.
    assert scan.label.shape == (272, 252, 106)
    assert aff2axcodes(scan.affine) == ("R", "A", "S")
    patches = cut_patches([scan], spec, dice())
    check_real(patches, spec)
    vessel = patches[:, 1] > 0
    assert patches[:, 0][vessel].mean() > patches[:, 0][~vessel].mean() + 0.5  # blood is bright in TOF


def test_lesions_of_multiple_sclerosis_are_bright_in_flair():
    cohort = read_cohort(real("open_ms_mni") / "cohort.csv")
    spec = PatchSpec(size=(64, 64), per_subject=16)
    patches = first(cohort, spec)
    check_real(patches, spec)
    lesion = patches[:, 1] > 0
    assert patches[:, 0][lesion].mean() > patches[:, 0][~lesion].mean()


def test_a_stroke_mask_fits_its_diffusion_image_and_not_its_flair(tmp_path):
    stem = real("isles22_case0009") / "sub-strokecase0009_ses-0001"
    path = tmp_path / "cohort.csv"
    rows = [f"p,a,{stem}_{image}.nii.gz,{stem}_msk.nii.gz" for image in ("dwi", "flair")]
    path.write_text("\n".join(["subject,site,image,label", *rows]))
    found = [[reason.fault.value for reason in row.reasons] for row in check_cohort(path).rows]
    assert found == [[], ["other-grid"]]
    spec = PatchSpec(size=(32, 32), per_subject=8)
    check_real(first(read_cohort(path), spec), spec)


def test_masks_alone_are_read_and_refused_as_patches():
    folder = real("lesymap_lesions")
    subject = Subject("p", "a", (Scan(None, folder / "Subject_002.nii.gz"),))
    assert load_scan(subject.scans[0], flat()).label.max() == 1
    with pytest.raises(CohortError, match="mask only"):
        load_subject(subject, flat())
