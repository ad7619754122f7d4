"""Voxels and affines beside three independent witnesses: the maker, highdicom and dcm2niix."""

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from harness.made_dicom import AXIAL, CORONAL, OBLIQUE, SAGITTAL, enhanced, made_uid, series
from harness.made_scan import Scanned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes
from pydicom import dcmread

from willis.client.ingest.dicom.stacks import Stack
from willis.client.ingest.dicom.voxels import volume_of
from willis.shared.errors import CohortError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def same_in_space(found, values: np.ndarray, affine: np.ndarray) -> None:
    """Assert that two grids hold the same value at the same place, whatever their axes."""
    ours, ours_affine = found
    places = np.argwhere(np.ones(ours.shape, dtype=bool))
    there = apply_affine(np.linalg.inv(affine) @ ours_affine, places)
    nearest = np.rint(there).astype(int)
    assert np.abs(there - nearest).max() < 1e-2
    assert sorted(ours.shape) == sorted(values.shape)
    np.testing.assert_array_equal(ours.ravel(), values[tuple(nearest.T)].astype(np.float32))


def only(folder: Path):
    scanned = Scanned(folder)
    (one,) = scanned.found()
    assert isinstance(one, Stack)
    return scanned, one


@pytest.mark.parametrize(
    "direction", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sag", "cor", "oblique"]
)
def test_highdicom_sees_the_same(tmp_path, direction):
    made = series(tmp_path, direction=direction, RescaleSlope="2", RescaleIntercept="-5")
    volume, refused = Scanned(tmp_path).outcome()
    assert refused == {}
    theirs = highdicom.get_volume_from_series([dcmread(path) for path in made.paths])
    (found,) = volume.values()
    same_in_space(found, theirs.array, LPS_TO_RAS @ theirs.affine)
    assert aff2axcodes(found[1]) == ("R", "A", "S")
    assert found[0].dtype == np.float32
    assert found[0].flags.c_contiguous


def test_highdicom_sees_the_same_in_an_enhanced_file(tmp_path):
    made = enhanced(tmp_path, direction=OBLIQUE, order=[5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 11, 10])
    (found,) = Scanned(tmp_path).outcome()[0].values()
    theirs = highdicom.imread(made.paths[0]).get_volume()
    same_in_space(found, theirs.array, LPS_TO_RAS @ theirs.affine)


def dcm2niix(folder: Path, out: Path) -> list[Nifti1Image]:
    """Convert a folder by dcm2niix, unscaled and uncropped."""
    tool = Path(sys.executable).with_name("dcm2niix")
    if not tool.exists():
        pytest.skip("dcm2niix is not installed beside this Python")
    out.mkdir()
    ran = subprocess.run(
        [tool, "-z", "n", "-b", "n", "-m", "o", "-f", "%s", "-o", out, folder],
        capture_output=True,
        timeout=120,
    )
    assert ran.returncode == 0
    images = [nibabel.load(path) for path in sorted(out.glob("*.nii"))]
    return [image for image in images if isinstance(image, Nifti1Image)]


@pytest.mark.parametrize(
    "direction", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sag", "cor", "oblique"]
)
def test_dcm2niix_sees_the_same(tmp_path, direction):
    series(tmp_path / "in", direction=direction)
    (found,) = Scanned(tmp_path / "in").outcome()[0].values()
    (theirs,) = dcm2niix(tmp_path / "in", tmp_path / "out")
    assert theirs.affine is not None
    same_in_space(found, np.asarray(theirs.dataobj), theirs.affine)


def test_dcm2niix_sees_the_same_in_the_real_export(real_data, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(real_data / "dicom_export_aera15T", folder)
    volumes, refused = Scanned(folder, deid="require").outcome()
    assert refused == {}
    assert len(volumes) == 3
    theirs = dcm2niix(folder, tmp_path / "out")
    assert len(theirs) == 3
    by_shape = {tuple(sorted(image.shape)): image for image in theirs}
    for found in volumes.values():
        image = by_shape[tuple(sorted(found[0].shape))]
        assert image.affine is not None
        same_in_space(found, np.asarray(image.get_fdata(dtype=np.float32)), image.affine)
    (tof,) = [found for name, found in volumes.items() if name.endswith("series-7")]
    assert voxel_sizes(tof[1]) == pytest.approx((0.390625, 0.390625, 0.70), abs=1e-3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_direction_comes_back_at_its_place(tmp_path_factory, seed):
    dice = np.random.default_rng(seed)
    turn = np.linalg.qr(dice.normal(size=(3, 3)))[0]
    folder = tmp_path_factory.mktemp("any")
    made = series(folder, shape=(8, 6, 7), direction=(*turn[0], *turn[1]), seed=seed, names="flat")
    (found,) = Scanned(folder).outcome()[0].values()
    same_in_space(found, made.volume(), made.affine)
    assert aff2axcodes(found[1]) == ("R", "A", "S")


def test_a_file_changed_since_the_scan_is_refused(tmp_path):
    made = series(tmp_path)
    scanned, one = only(tmp_path)
    item = dcmread(made.paths[2])
    item.Rows, item.Columns = item.Columns, item.Rows
    item.save_as(made.paths[2])
    with pytest.raises(CohortError, match="series-3: changed: "):
        volume_of(one, scanned.paths)


def test_a_slice_moved_since_the_scan_is_refused(tmp_path):
    made = series(tmp_path)
    scanned, one = only(tmp_path)
    item = dcmread(made.paths[2])
    item.ImagePositionPatient = ["0", "0", "0"]
    item.save_as(made.paths[2])
    with pytest.raises(CohortError, match=r"series-3: uneven-spacing: |series-3: lost-slice: "):
        volume_of(one, scanned.paths)


def test_a_file_gone_since_the_scan_is_refused_without_its_name(tmp_path):
    made = series(tmp_path)
    scanned, one = only(tmp_path)
    made.paths[2].unlink()
    with pytest.raises(CohortError, match="file-gone") as caught:
        volume_of(one, scanned.paths)
    assert made.paths[2].name not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("cut", [0, 100, 700, 1500])
def test_damaged_bytes_are_refused_without_a_library_s_words(tmp_path, cut, capfd):
    made = series(tmp_path, patient="GEHEIM")
    scanned, one = only(tmp_path)
    made.paths[2].write_bytes(made.paths[2].read_bytes()[:cut])
    with pytest.raises(CohortError) as caught:
        volume_of(one, scanned.paths)
    assert "GEHEIM" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_signs_not_carried_on_above_the_stored_bits(tmp_path):
    # 12 bits stored of 16: -1 may stand as 0x0FFF.
    made = series(tmp_path, signed=True)
    values = (made.voxels % 4096).astype(np.uint16)
    for path, plane in zip(made.paths, values, strict=True):
        item = dcmread(path)
        item.PixelData, item.BitsStored, item.HighBit = plane.tobytes(), 12, 11
        item.save_as(path)
    (found,) = Scanned(tmp_path).outcome()[0].values()
    wanted = np.where(values >= 2048, values.astype(int) - 4096, values)
    same_in_space(found, wanted.transpose(2, 1, 0), made.affine)


def test_the_two_volumes_of_one_series_do_not_mix(tmp_path):
    first = series(tmp_path, echo=3.0, seed=1)
    second = series(tmp_path, echo=5.0, seed=2, SOPInstanceUID=lambda k: made_uid("second", k))
    volumes, _ = Scanned(tmp_path).outcome()
    for made, found in zip((first, second), volumes.values(), strict=True):
        same_in_space(found, made.volume(), made.affine)
