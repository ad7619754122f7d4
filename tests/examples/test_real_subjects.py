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


def test_the_study_s_own_held_out_subjects_test(phantom_cohort, tiny_study):
    training, held_out = real_subjects.divided(phantom_cohort(), tiny_study())
    # Two sites of eight, a fifth of each held out: 1.6 is rounded to 2.
    assert (len(training), len(held_out)) == (12, 4)
    assert not {one.name for one in training.subjects} & {one.name for one in held_out.subjects}


def test_a_cohort_that_leaves_nobody_to_test_on_is_refused(phantom_cohort, tiny_study):
    with pytest.raises(CohortError, match="1 subjects to train on and 0 to test on"):
        real_subjects.divided(phantom_cohort(subjects=1, sites=("site-a",)), tiny_study())


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
    training, _ = real_subjects.divided(phantom_cohort(side=24), tiny_study())
    [(image, label)] = real_subjects.planes_last(training.subjects[0], tiny_study().patch)
    assert (image.shape, label.shape) == ((1, 24, 24, 1), (24, 24, 1))
    values = np.random.default_rng(1).random((6, 7, 8)).astype(np.float32)
    for name, array in (("image", values), ("label", (values > 0.5).astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    subject = Subject("p", "a", (Scan(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"),))
    [(image, label)] = real_subjects.planes_last(subject, PatchSpec(size=(8, 8, 8)))
    assert (image.shape, label.shape) == ((1, 6, 7, 8), (6, 7, 8))
