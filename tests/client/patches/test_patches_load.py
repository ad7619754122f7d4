"""Loading scans for patches: slices, resampling, channels, and what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from harness.made_patches import dice, flat
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from PIL import Image
from scipy.ndimage import zoom

from willis.client.cohort import Scan, Subject
from willis.client.patches import cut_patches, load_scan, load_subject
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec


def nifti(path: Path, values: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> Path:
    Nifti1Image(values, np.diag([*spacing, 1.0])).to_filename(path)
    return path


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
