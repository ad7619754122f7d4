"""Cohorts with lesions: drawn around masks, and real subjects on one grid."""

from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import map_coordinates

from willis.client.cohort import read_cohort
from willis.client.ingest.check import check_cohort
from willis.client.ingest.volume import open_volume
from willis.client.patches import load_subject
from willis.shared.errors import CohortError
from willis.shared.patch import PatchSpec, check_patches
from willis.shared.prior.brain import Matter
from willis.simulations.experiments.lesion_cohort import draw_brain_patches, write_lesion_cohort
from willis.simulations.experiments.lesion_cohort_masks import find_masks, halved, slab_about
from willis.simulations.experiments.lesion_cohort_real import on_grid, write_real_subjects

SPEC = PatchSpec.model_validate({"size": (32, 32), "channels": ("first", "second")})


@pytest.fixture(scope="module")
def slabs():
    return find_masks(None, subjects=5, slices=3, seed=1).slabs


def template_mask(folder: Path, name: str, at: tuple[slice, slice, slice]) -> None:
    mask = np.zeros((181, 217, 181), np.uint8)
    mask[at] = 1
    affine = np.eye(4)
    affine[:3, 3] = (-90, -125, -71)
    Nifti1Image(mask, affine).to_filename(folder / name)


def test_a_written_cohort_is_read_by_the_intake(slabs, tmp_path):
    table = write_lesion_cohort(slabs, tmp_path / "c", seed=3)
    assert not check_cohort(table).refused
    cohort = read_cohort(table)
    assert len(cohort) == 5
    assert cohort.sites() == ("site-a", "site-b", "site-c", "site-d")
    by_name = {subject.name: subject for subject in cohort.subjects}
    for slab in slabs:
        (scan,) = load_subject(by_name[slab.name], SPEC)
        assert scan.pixels().shape == (2, 80, 96, 3)
        assert scan.spacing_mm == (2.0, 2.0, 2.0)
        assert np.array_equal(scan.label, slab.mask)
        flair, t1 = scan.pixels()
        assert flair[slab.mask].mean() > flair[~slab.mask].mean()
        assert not np.allclose(flair, t1)


def test_the_same_seed_writes_the_same_images_and_names_come_once(slabs, tmp_path):
    for place, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_lesion_cohort(slabs[:2], tmp_path / place, seed=seed)
    one, same, other = (
        open_volume(tmp_path / place / f"{slabs[1].name}_image.nii.gz").pixels() for place in "abc"
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="name of its own, got 2"):
        write_lesion_cohort([slabs[0], slabs[0]], tmp_path / "d", seed=1)


def test_masks_of_the_prior_say_so_and_lie_in_the_brain(slabs):
    source = find_masks(None, subjects=5, slices=3, seed=1)
    assert not source.real
    assert "procedural prior" in source.about
    for slab, again in zip(slabs, source.slabs, strict=True):
        assert slab.mask.shape == (80, 96, 3)
        assert slab.mask.sum() >= 150
        assert np.array_equal(slab.mask, again.mask)
        assert not slab.mask[[0, -1]].any()


def test_real_masks_are_cut_at_their_largest_slices_by_hand(tmp_path):
    folder = tmp_path / "lesymap_lesions"
    folder.mkdir()
    # 20 x 20 mm over slices 60 to 79 of 1 mm; with 40 x 20 mm in 70 to 75: slices 35, 36, 37 of 2 mm.
    mask = np.zeros((181, 217, 181), np.uint8)
    mask[50:70, 48:68, 60:80] = 1
    mask[50:90, 48:68, 70:76] = 1
    Nifti1Image(mask, np.eye(4)).to_filename(folder / "Subject_001.nii.gz")
    template_mask(folder, "Subject_002.nii.gz", (slice(30, 50), slice(60, 80), slice(90, 110)))
    source = find_masks(tmp_path, subjects=0, slices=3, seed=1)
    assert source.real
    assert "2 real stroke lesion masks" in source.about
    first = source.slabs[0]
    assert (first.name, first.first) == ("lesymap-Subject_001", 35)
    # The crop starts at 10 and 8 mm: rows 50 to 89 become (50 - 10) / 2 = 20 to 39.
    wanted = np.zeros((80, 96, 3), bool)
    wanted[20:40, 20:30] = True
    assert np.array_equal(first.mask, wanted)
    assert first.head.centre[2] == 40.0 - 35
    with pytest.raises(CohortError, match="3 lesion masks are asked for"):
        find_masks(tmp_path, subjects=3, slices=3, seed=1)
    Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_filename(folder / "Subject_000.nii.gz")
    with pytest.raises(CohortError, match=r"Subject_000.*\(4, 4, 4\) voxels"):
        find_masks(tmp_path, subjects=1, slices=3, seed=1)


def test_halves_and_slabs_by_hand():
    values = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    # Rows 0 and 1, columns 0 and 1, both slices: (0 + 1 + 2 + 3 + 8 + 9 + 10 + 11) / 8.
    assert halved(values).tolist() == [[[5.5], [9.5]]]
    lesion = np.zeros((2, 2, 6), bool)
    lesion[0, 0, 1] = lesion[:, :, 4] = lesion[0, :, 5] = True
    assert slab_about(lesion, 2) == 4
    with pytest.raises(CohortError, match="no slab of 7"):
        slab_about(lesion, 7)


def test_another_grid_agrees_with_interpolation_at_the_same_places_in_mm(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((12, 10, 6), dtype=np.float32)
    coarse = np.diag([0.5, 0.5, 3.0, 1.0])
    Nifti1Image(values, coarse).to_filename(tmp_path / "flair.nii.gz")
    affine = np.array([[1.0, 0, 0, 0.25], [0, 1, 0, 0.5], [0, 0, 2, 1], [0, 0, 0, 1]])
    found = on_grid(open_volume(tmp_path / "flair.nii.gz"), affine, (5, 4, 7))
    places = np.stack(np.meshgrid(range(5), range(4), range(7), indexing="ij")).reshape(3, -1)
    mm = affine[:3, :3] @ places + affine[:3, 3:]
    witness = map_coordinates(values, mm / [[0.5], [0.5], [3.0]], order=1, mode="constant")
    assert np.allclose(found.ravel(), witness, atol=1e-6)


def test_brain_patches_have_lesions_where_masks_are_given(slabs):
    healthy = draw_brain_patches(6, side=32, seed=1)
    check_patches(healthy.patches, SPEC)
    assert (healthy.patches[:, -1] == -1).all()
    assert healthy.matter.shape == (6, 32, 32)
    assert set(np.unique(healthy.matter)) <= set(Matter)
    ill = draw_brain_patches(6, side=32, seed=1, masks=slabs, channels=1)
    assert ill.patches.shape == (6, 2, 32, 32)
    assert (ill.patches[:, -1] > 0).flatten(1).any(1).all()
    fewer = draw_brain_patches(2, side=32, seed=1, masks=slabs, channels=1)
    assert np.array_equal(fewer.patches, ill.patches[:2])
    with pytest.raises(ValueError, match="got 0, 32, 2"):
        draw_brain_patches(0, side=32, seed=1)


def test_real_subjects_where_they_are_at_hand(real_data, tmp_path):
    table = write_real_subjects(real_data, tmp_path / "r", slices=12, with_t1=False)
    assert table is not None
    assert not check_cohort(table).refused
    cohort = read_cohort(table)
    assert [subject.name for subject in cohort.subjects] == ["isles-0009", "patient07", "patient19"]
    for subject in cohort.subjects:
        (scan,) = load_subject(subject, PatchSpec.model_validate({"size": (32, 32), "channels": ("first",)}))
        inside = scan.pixels()[0][scan.label > 0].mean()
        assert inside > np.median(scan.pixels()[0][scan.pixels()[0] > -0.9])
    two = write_real_subjects(real_data, tmp_path / "t", slices=4, with_t1=True)
    assert two is not None
    assert len(read_cohort(two)) == 2


def test_no_folder_no_real_subjects(tmp_path):
    assert write_real_subjects(None, tmp_path / "r", slices=4, with_t1=True) is None
    assert write_real_subjects(tmp_path, tmp_path / "r", slices=4, with_t1=False) is None
