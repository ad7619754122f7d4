"""Who trains and who tests in the examples, and how a scan lies in memory there."""

import importlib.util
from pathlib import Path

import nibabel
import numpy as np
import pytest

from willis.client.cohort import Cohort, Scan, Subject
from willis.shared.errors import CohortError
from willis.shared.patch import PatchSpec

_FILE = Path(__file__).parents[2] / "docs" / "examples" / "real_subjects.py"
_spec = importlib.util.spec_from_file_location("real_subjects", _FILE)
assert _spec is not None
assert _spec.loader is not None
real_subjects = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(real_subjects)


def table_of(whole: Path, name: str, subjects: set[str]) -> Path:
    """Write the rows of some subjects beside a table."""
    head, *rows = whole.read_text().splitlines()
    made = whole.with_name(name)
    made.write_text("\n".join([head, *(row for row in rows if row.partition(",")[0] in subjects)]) + "\n")
    return made


def test_whoever_the_tables_name_trains_and_tests(phantom_cohort):
    whole = phantom_cohort(subjects=3, sites=("site-a",))
    training, test = table_of(whole, "training.csv", {"p0", "p2"}), table_of(whole, "test.csv", {"p1"})
    tested, trained = real_subjects.read_apart(test, training)
    assert [one.name for one in tested.subjects] == ["p1"]
    assert [one.name for one in trained.subjects] == ["p0", "p2"]
    assert real_subjects.read_apart(test, None) == (tested, None)


@pytest.mark.parametrize("renamed", [False, True])
def test_nobody_may_be_in_both_tables_under_another_name_either(phantom_cohort, renamed):
    whole = phantom_cohort(subjects=3, sites=("site-a",))
    training, test = table_of(whole, "training.csv", {"p0", "p2"}), table_of(whole, "test.csv", {"p1", "p2"})
    if renamed:
        test.write_text(test.read_text().replace("p2,site-a", "q2,site-a"))
    found = "q2: a file of it is in both tables" if renamed else "p2: in both tables"
    with pytest.raises(CohortError, match=f"1 test subjects train too(.|\n)*{found}"):
        real_subjects.read_apart(test, training)


def test_what_is_said_of_those_who_tested_is_what_was_given(tmp_path):
    test, training = tmp_path / "a.csv", tmp_path / "b.csv"
    without = real_subjects.who_tested([1, 2], test, None)
    assert without.startswith(
        f"2 scans of {test}; whether they trained the release, only its sites can tell."
    )
    both = real_subjects.who_tested([1], test, training)
    assert both.startswith(f"1 scans of {test}; none of them is in {training}.")
    assert all(real_subjects.UNPAID in said and "held" not in said for said in (without, both))


def test_some_are_drawn_from_a_seed_and_all_where_there_are_fewer():
    cohort = Cohort(tuple(Subject(f"p{number}", "a", (Scan(None, Path("x")),)) for number in range(9)))
    three = real_subjects.some(cohort, 3, seed=1)
    assert three == real_subjects.some(cohort, 3, seed=1)
    assert len({one.name for one in three}) == 3
    assert {real_subjects.some(cohort, 3, seed=seed) for seed in range(5)} != {three}
    assert real_subjects.some(cohort, 99, seed=1) == cohort.subjects
    with pytest.raises(ValueError, match="at least one subject is needed, got 0"):
        real_subjects.some(cohort, 0, seed=1)


@pytest.mark.parametrize(("axis", "place"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_planes_lie_along_the_last_axis(tmp_path, axis, place):
    values = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    for name, array in (("image", values), ("label", (values > 30).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    subject = Subject("p", "a", (Scan(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"),))
    spec = PatchSpec.model_validate({"size": (8, 8), "axis": axis, "percentiles": (0, 100)})
    [(image, label)] = real_subjects.planes_last(subject, spec)
    by_hand = np.moveaxis(values, place, -1)
    assert image.shape == (1, *by_hand.shape)
    # The darkest voxel is 0 and the brightest 59: -1 and 1.
    np.testing.assert_allclose(image[0], 2 * by_hand / 59 - 1, atol=1e-6)
    np.testing.assert_array_equal(label, by_hand > 30)


def test_a_picture_has_one_plane_and_a_volume_keeps_its_axes(tmp_path, phantom_cohort, tiny_study):
    cohort, _ = real_subjects.read_apart(phantom_cohort(side=24), None)
    [(image, label)] = real_subjects.planes_last(cohort.subjects[0], tiny_study().patch)
    assert (image.shape, label.shape) == ((1, 24, 24, 1), (24, 24, 1))
    values = np.random.default_rng(1).random((6, 7, 8)).astype(np.float32)
    for name, array in (("image", values), ("label", (values > 0.5).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    subject = Subject("p", "a", (Scan(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"),))
    [(image, label)] = real_subjects.planes_last(subject, PatchSpec(size=(8, 8, 8)))
    assert (image.shape, label.shape) == ((1, 6, 7, 8), (6, 7, 8))
