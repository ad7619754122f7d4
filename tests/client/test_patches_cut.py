"""Loading, normalising and cutting: by hand, by property, and on real scans where they are there."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes
from PIL import Image
from scipy.ndimage import zoom

from willis.client.cohort import Cohort, Scan, Subject, read_cohort
from willis.client.ingest.check import check_cohort
from willis.client.patches import LoadedScan, cut_patches, load_scan, load_subject, normalise_subject
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec

DATA = Path(os.environ.get("WILLIS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loaded(image, label, slice_axis=None) -> LoadedScan:
    image = None if image is None else np.asarray(image, np.float32)[None]
    label = np.asarray(label, np.uint8)
    return LoadedScan(image, label, (1.0,) * label.ndim, np.eye(4), slice_axis)


def nifti(path: Path, values: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> Path:
    Nifti1Image(values, np.diag([*spacing, 1.0])).to_filename(path)
    return path


def flat(**changes) -> PatchSpec:
    return PatchSpec(**{"size": (8, 8), "per_subject": 6, "percentiles": (0, 100)} | changes)


# --- normalising


def test_percentiles_by_hand_are_over_all_scans_of_the_subject():
    # Values 0..3 and 0..10 together: low 0, high 10, so v becomes v / 5 - 1.
    first, second = loaded([[0, 1], [2, 3]], [[0, 0], [0, 1]]), loaded([[0, 5], [10, 10]], [[0, 0], [0, 1]])
    one, two = normalise_subject([first, second], flat())
    assert np.allclose(one.pixels(), [[[-1, -0.8], [-0.6, -0.4]]])
    assert np.allclose(two.pixels(), [[[-1, 0], [1, 1]]])
    inverted = normalise_subject([first, second], flat(invert=True))[0]
    assert np.allclose(inverted.pixels(), [[[1, 0.8], [0.6, 0.4]]])


def test_what_lies_beyond_the_percentiles_is_clipped():
    image = np.arange(101, dtype=np.float32).reshape(1, 101).repeat(8, 0)
    scan = normalise_subject([loaded(image, image > 50)], flat(percentiles=(10, 90)))[0]
    # Percentile q of 0..100 is q: 10 -> -1, 50 -> 0, 90 -> 1.
    assert np.allclose(scan.pixels()[0, 0, [0, 10, 30, 50, 90, 100]], [-1, -1, -0.5, 0, 1, 1], atol=1e-6)


def test_every_channel_has_its_own_percentiles():
    image = np.stack([np.linspace(0, 1, 64), np.linspace(100, 300, 64)]).reshape(2, 8, 8).astype(np.float32)
    scan = LoadedScan(image, np.ones((8, 8), np.uint8), (1.0, 1.0), np.eye(4), None)
    both = normalise_subject([scan], flat(channels=(Channel.RED, Channel.GREEN)))[0].pixels()
    assert np.allclose(both[0], both[1], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0, float("nan"), float("inf")])
def test_a_constant_or_not_finite_image_is_refused(value):
    with pytest.raises(CohortError, match="percentiles"):
        normalise_subject([loaded(np.full((8, 8), value), np.ones((8, 8)))], flat())


def test_a_mask_without_an_image_is_refused():
    mask = loaded(None, np.ones((8, 8)))
    with pytest.raises(CohortError, match="mask only"):
        normalise_subject([mask, loaded(np.eye(8), np.eye(8))], flat())
    with pytest.raises(CohortError, match="mask only"):
        cut_patches([mask], flat(), dice())


# --- cutting


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_positions(data):
    sides = data.draw(st.tuples(*[st.integers(1, 40)] * data.draw(st.integers(2, 3))))
    size = data.draw(st.tuples(*[st.integers(8, 17)] * data.draw(st.integers(2, len(sides)))))
    axis = data.draw(st.sampled_from(["sagittal", "coronal", "axial"]))
    slice_axis = {"sagittal": 0, "coronal": 1, "axial": 2}[axis] if len(size) < len(sides) else None
    # Every voxel holds its own number, so a patch tells from where it was cut.
    numbers = np.linspace(-0.5, 1, int(np.prod(sides)), dtype=np.float32).reshape(sides)
    label = data.draw(arrays(np.uint8, sides, elements=st.sampled_from([0, 0, 0, 1])))
    spec = PatchSpec(size=size, axis=axis, per_subject=5, foreground_share=data.draw(st.floats(0, 1)))
    patches = cut_patches([loaded(numbers, label, slice_axis)], spec, dice(data.draw(st.integers(0, 9))))

    assert patches.shape == (5, 2, *size)
    assert patches.dtype == np.float32
    n_foreground = int(5 * spec.foreground_share + 0.5) if label.any() else 0
    in_plane = tuple(side for axis, side in enumerate(sides) if axis != slice_axis)
    covered = np.prod([min(side, wanted) for side, wanted in zip(in_plane, size, strict=True)])
    for number, (image, mask) in enumerate(patches):
        inside = image != -1
        assert np.count_nonzero(inside) == covered
        assert np.all(mask[~inside] == -1)
        places = [np.argwhere(numbers == value)[0] for value in image[inside][:: max(1, covered // 5)]]
        got = mask[inside][:: max(1, covered // 5)]
        assert [2 * int(label[tuple(at)]) - 1 for at in places] == got.tolist()
        if slice_axis is not None:
            assert len({at[slice_axis] for at in places}) == 1
        if number < n_foreground:
            assert mask.max() == 1


def test_a_foreground_patch_is_centred_and_moved_inside_at_the_border():
    spec = flat(size=(9, 9), per_subject=1, foreground_share=1)
    for at, seen in [((20, 15), (4, 4)), ((0, 15), (0, 4)), ((39, 38), (8, 7))]:
        label = np.zeros((40, 40))
        label[at] = 1
        patch = cut_patches([loaded(np.zeros((40, 40)), label)], spec, dice())[0]
        assert np.argwhere(patch[1] == 1).tolist() == [list(seen)]


def test_a_small_scan_lies_in_the_middle_of_empty_background():
    for invert, empty in [(False, -1), (True, 1)]:
        spec = flat(size=(8, 9), per_subject=1, invert=invert)
        patch = cut_patches([loaded(np.zeros((4, 4)), np.ones((4, 4)))], spec, dice())[0]
        expected = np.full((8, 9), False)
        expected[2:6, 2:6] = True
        assert np.array_equal(patch[0] == 0, expected)
        assert np.array_equal(patch[0] == empty, ~expected)
        assert np.array_equal(patch[1] == 1, expected)


@pytest.mark.parametrize("invert", [False, True])
def test_empty_background_is_never_a_centre(invert):
    image = np.zeros((64, 64))
    image[40:44, 40:44] = np.arange(16).reshape(4, 4) + 1
    scans = normalise_subject([loaded(image, np.zeros((64, 64)))], flat(invert=invert))
    spec = flat(size=(9, 9), per_subject=40, invert=invert)
    patches = cut_patches(scans, spec, dice())
    empty = 1 if invert else -1
    assert np.all(patches[:, 0, 4, 4] != empty)
    assert np.all(patches[:, 1] == -1)


def test_the_share_of_foreground_and_distinct_centres():
    image = np.linspace(-0.9, 1, 400).reshape(20, 20)
    label = np.zeros((20, 20))
    label[5, 5:8] = 1
    spec = flat(size=(9, 9), per_subject=6, foreground_share=0.5)
    patches = cut_patches([loaded(image, label)], spec, dice())
    centres = {float(value) for value in patches[:3, 0, 4, 4]}
    assert centres == {float(np.float32(value)) for value in image[5, 5:8]}


def test_patches_come_from_all_scans_in_proportion():
    scans = [
        loaded(np.full((30, 10), 0.25), np.zeros((30, 10))),
        loaded(np.full((10, 10), 0.5), np.zeros((10, 10))),
    ]
    patches = cut_patches(scans, flat(per_subject=300), dice())
    from_first = np.count_nonzero(patches[:, 0, 0, 0] == 0.25)
    # 300 of 400 pixels: mean 225, hypergeometric deviation 3.8; five of them.
    assert abs(from_first - 225) < 19


# --- loading


def test_2d_patches_from_a_volume_are_slices_across_the_axis(tmp_path):
    values = np.zeros((12, 13, 14), np.float32)
    values[3], values[:, 5, :], values[:, :, 7] = 1, 2, 3
    scan = Scan(nifti(tmp_path / "i.nii", values), nifti(tmp_path / "l.nii", (values > 0).astype(np.uint8)))
    for axis, number in [("sagittal", 0), ("coronal", 1), ("axial", 2)]:
        spec = flat(axis=axis, size=(14, 14), percentiles=(0, 100))
        assert load_scan(scan, spec).slice_axis == number
        patch = cut_patches(load_subject(Subject("p", "a", (scan,)), spec), spec, dice())[0]
        assert patch.shape == (2, 14, 14)
    assert load_scan(scan, PatchSpec(size=(8, 8, 8))).slice_axis is None


def test_resampling_keeps_edges_and_agrees_with_zoom(tmp_path):
    values = dice(1).random((12, 10, 8), dtype=np.float32)
    label = (values > 0.7).astype(np.uint8)
    scan = Scan(nifti(tmp_path / "i.nii", values, (1, 1, 2)), nifti(tmp_path / "l.nii", label, (1, 1, 2)))
    fine = load_scan(scan, PatchSpec(size=(8, 8, 8), spacing_mm=(0.5, 0.5, 1.0)))
    assert fine.spacing_mm == (0.5, 0.5, 1.0)
    assert fine.label.shape == (24, 20, 16)
    assert np.array_equal(fine.label, label.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    witness = np.asarray(zoom(values, 2, order=1, mode="nearest", grid_mode=True))
    assert np.allclose(fine.pixels()[0], witness, atol=1e-5)
    # The corner of the first voxel stays where it was: -1/2 voxel of the old and of the new grid.
    assert np.allclose(fine.affine @ [-0.5, -0.5, -0.5, 1], [-0.5, -0.5, -1.0, 1])
    assert np.allclose(voxel_sizes(fine.affine), (0.5, 0.5, 1.0))

    in_plane = load_scan(scan, PatchSpec(size=(8, 8), spacing_mm=(2.0, 4.0), axis="coronal"))
    assert in_plane.spacing_mm == (2.0, 1.0, 4.0)
    assert in_plane.pixels().shape == (1, 6, 10, 4)
    same = load_scan(scan, PatchSpec(size=(8, 8), spacing_mm=(1.0, 1.0)))
    assert np.array_equal(same.pixels()[0], values)
    mask_only = load_scan(Scan(None, scan.label), PatchSpec(size=(8, 8), spacing_mm=(0.5, 0.5)))
    assert mask_only.image is None
    assert mask_only.label.shape == (24, 20, 8)


def test_channels_of_pictures_by_hand(tmp_path):
    colour = np.zeros((9, 10, 3), np.uint8)
    colour[..., 0], colour[..., 1], colour[..., 2] = 30, 60, 120
    mask = np.zeros((9, 10), np.uint8)
    mask[2, 3] = 255
    for name, values in [
        ("c.png", colour),
        ("m.png", mask),
        ("g.png", colour[..., [1, 1, 1]]),
        ("l.png", colour[..., 1]),
    ]:
        Image.fromarray(values).save(tmp_path / name)

    def image(name: str, *channels: Channel) -> np.ndarray:
        found = load_scan(Scan(tmp_path / name, tmp_path / "m.png"), flat(channels=channels))
        assert found.label.sum() == found.label[2, 3] == 1
        assert found.spacing_mm == (1.0, 1.0)
        return found.pixels()[:, 0, 0]

    assert image("c.png", Channel.GREEN, Channel.RED, Channel.BLUE).tolist() == [60, 30, 120]
    assert image("c.png", Channel.GREY).tolist() == [70]
    assert image("g.png", Channel.INTENSITY).tolist() == image("l.png", Channel.GREY).tolist() == [60]
    with pytest.raises(CohortError, match="has colours"):
        image("c.png", Channel.INTENSITY)
    with pytest.raises(CohortError, match="one channel"):
        image("l.png", Channel.RED)


def test_what_does_not_fit_the_spec_is_refused(tmp_path):
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "n.png")
    picture = Scan(tmp_path / "m.png", tmp_path / "m.png")
    with pytest.raises(CohortError, match="unknown spacing"):
        load_scan(picture, flat(spacing_mm=(0.5, 0.5)))
    assert load_scan(picture, flat(spacing_mm=(1.0, 1.0))).label.shape == (9, 9)
    with pytest.raises(CohortError, match="is a plane"):
        load_scan(picture, PatchSpec(size=(8, 8, 8)))
    with pytest.raises(CohortError, match="its image"):
        load_scan(Scan(tmp_path / "n.png", tmp_path / "m.png"), flat())


# --- real scans


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
