"""Every fault of a row, an image or a label by its name."""

import numpy as np
import pytest
from harness.made_cohort import GRADIENT, MASK, faults, nifti, png, table

from willis.client.ingest.check import Fault, check_cohort


def test_sound_rows_are_accepted_images_and_masks_only(folder):
    path = table(folder, "p1,a,image.nii.gz,label.nii.gz", "", "p2,b,,label2.nii.gz")
    assert faults(path) == [set(), set()]
    assert check_cohort(path).subjects_by_site() == {"a": 1, "b": 1}
    assert check_cohort(path).counts() == {}


def _with(values, index, value):
    changed = values.astype(np.float32)
    changed[index] = value
    return changed


MOVED = np.eye(4)
MOVED[0, 3] = 0.01
NEARLY = np.eye(4)
NEARLY[0, 3] = 0.0005


@pytest.mark.parametrize(
    ("values", "affine", "expected"),
    [
        (_with(GRADIENT, (0, 0, 0), np.nan), None, {Fault.NOT_FINITE_IMAGE}),
        (_with(GRADIENT, (0, 0, 0), np.inf), None, {Fault.NOT_FINITE_IMAGE}),
        (np.full_like(GRADIENT, 7), None, {Fault.CONSTANT_IMAGE}),
        (GRADIENT[:, :, :3], None, {Fault.OTHER_GRID}),
        (GRADIENT, MOVED, {Fault.OTHER_GRID}),
        (GRADIENT, NEARLY, set()),
        (np.stack([GRADIENT, GRADIENT], axis=-1), None, set()),
        (np.stack([GRADIENT, GRADIENT], axis=-1)[:, :, :, None], None, {Fault.UNREADABLE_IMAGE}),
        (GRADIENT.astype(np.complex64), None, {Fault.UNREADABLE_IMAGE}),
    ],
)
def test_image_faults_by_name(folder, values, affine, expected):
    nifti(folder / "bad.nii.gz", values, affine)
    assert faults(table(folder, "p1,a,bad.nii.gz,label.nii.gz")) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (_with(MASK, (0, 0, 0), np.nan), {Fault.NOT_FINITE_LABEL}),
        (_with(MASK, (0, 0, 0), 0.5), {Fault.NOT_INTEGER_LABEL}),
        (_with(MASK, (0, 0, 0), 0.9999), set()),
        (_with(MASK, (0, 0, 0), -1), {Fault.NEGATIVE_LABEL}),
        (_with(np.zeros_like(MASK), (0, 0, 0), -0.3), {Fault.NOT_INTEGER_LABEL, Fault.EMPTY_LABEL}),
        (np.zeros_like(MASK), {Fault.EMPTY_LABEL}),
        (MASK * 3, set()),
    ],
)
def test_label_faults_by_name(folder, values, expected):
    nifti(folder / "bad.nii.gz", values)
    assert faults(table(folder, "p1,a,image.nii.gz,bad.nii.gz")) == [expected]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([",a,image.nii.gz,label.nii.gz"], [{Fault.EMPTY_SUBJECT}]),
        (["p1,,image.nii.gz,label.nii.gz"], [{Fault.EMPTY_SITE}]),
        (["p1,a,image.nii.gz,"], [{Fault.NO_LABEL}]),
        (["p1,a,image.nii.gz"], [{Fault.RAGGED_ROW, Fault.NO_LABEL}]),
        (["p1,a,image.nii.gz,label.nii.gz,more"], [{Fault.RAGGED_ROW}]),
        (["p1,a,no.nii.gz,none.nii.gz"], [{Fault.MISSING_IMAGE, Fault.MISSING_LABEL}]),
        (["p1,a,image.dcm,label.nii.gz"], [{Fault.MISSING_IMAGE}]),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p1,a,./image.nii.gz,label.nii.gz"],
            [set(), {Fault.DUPLICATE_ROW}],
        ),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p1,b,image2.nii.gz,label2.nii.gz"],
            [{Fault.TWO_SITES}, {Fault.TWO_SITES}],
        ),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p2,a,image.nii.gz,label2.nii.gz"],
            [{Fault.SHARED_FILE}, {Fault.SHARED_FILE}],
        ),
        (["p1,a,image.nii.gz,label.nii.gz", "p1,a,image2.nii.gz,label.nii.gz"], [set(), set()]),
    ],
)
def test_row_faults_by_name(folder, rows, expected):
    assert faults(table(folder, *rows)) == expected


@pytest.mark.parametrize(
    "name", ["unknown.dcm", "cut.nii.gz", "cut.nii", "text.nii.gz", "cut.png", "flat.nii"]
)
def test_unreadable_files_are_refused_by_name(folder, name):
    whole = {".gz": folder / "image.nii.gz", "nii": nifti(folder / "w.nii", GRADIENT)}
    png(folder / "w.png", np.zeros((9, 9), np.uint8))
    content = {
        "unknown.dcm": b"DICM",
        "cut.nii.gz": whole[".gz"].read_bytes()[:60],
        "cut.nii": whole["nii"].read_bytes()[:380],
        "text.nii.gz": b"no scan",
        "cut.png": (folder / "w.png").read_bytes()[:45],
        "flat.nii": b"",
    }[name]
    (folder / name).write_bytes(content)
    found = faults(table(folder, f"p1,a,{name},label.nii.gz", f"p2,a,image2.nii.gz,{name}"))
    assert Fault.UNREADABLE_IMAGE in found[0]
    assert Fault.UNREADABLE_LABEL in found[1]


def test_several_faults_of_one_row_are_all_told(folder):
    nifti(folder / "bad.nii.gz", np.full((5, 5, 5), 3, np.float32))
    nifti(folder / "worse.nii.gz", np.zeros((4, 4, 4), np.float32))
    path = table(folder, ",,bad.nii.gz,worse.nii.gz", "p1,a,image.nii.gz,label.nii.gz")
    expected = {
        Fault.EMPTY_SUBJECT, Fault.EMPTY_SITE, Fault.OTHER_GRID, Fault.CONSTANT_IMAGE, Fault.EMPTY_LABEL
    }  # fmt: skip
    assert faults(path) == [expected, set()]
    assert check_cohort(path).counts() == dict.fromkeys((f for f in Fault if f in expected), 1)
