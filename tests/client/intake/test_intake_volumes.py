"""Volumes and pictures as they are read; damaged files are refused, never crash."""

from pathlib import Path

import numpy as np
import pytest
from harness.made_cohort import GRADIENT, faults, nifti, png, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes
from PIL import Image

from willis.client.ingest.check import Fault
from willis.client.ingest.picture import read_picture
from willis.client.ingest.volume import open_volume
from willis.shared.errors import CohortError


def test_singular_affine_is_unreadable(folder):
    image = Nifti1Image(GRADIENT, np.eye(4))
    image.header["srow_x"], image.header["pixdim"] = 0, 1
    image.header["sform_code"] = 1
    raw = bytearray(image.to_bytes())
    raw[280:296] = bytes(16)  # srow_x
    (folder / "flat.nii").write_bytes(raw)
    with pytest.raises(CohortError, match="without inverse"):
        open_volume(folder / "flat.nii")


def test_picture_labels(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    disc = np.hypot(*np.mgrid[-8:8, -8:8]) < 5
    Image.fromarray(colour).save(tmp_path / "image.jpg")
    png(tmp_path / "one.png", disc)
    png(tmp_path / "byte.png", (disc * 255).astype(np.uint8))
    png(tmp_path / "three.png", np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2))
    png(tmp_path / "sixteen.png", disc.astype(np.uint16) * 2)
    png(tmp_path / "colour.png", colour)
    Image.fromarray((disc * 255).astype(np.uint8)).save(tmp_path / "rings.jpg", quality=60)
    palette = Image.fromarray(disc.astype(np.uint8), mode=None).convert("P")
    palette.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)
    palette.save(tmp_path / "palette.png")
    names = ["one.png", "byte.png", "three.png", "sixteen.png", "palette.png", "colour.png", "rings.jpg"]
    path = table(tmp_path, *(f"p,a,image.jpg,{name}" for name in names))
    expected = [set()] * 5 + [{Fault.UNREADABLE_LABEL}, {Fault.LOSSY_LABEL}]
    assert faults(path) == expected
    for name in names[:5]:
        assert np.array_equal(open_volume(tmp_path / name).label() > 0, disc)
    assert np.array_equal(read_picture(tmp_path / "palette.png")[:, 8, 8], [200, 0, 0])


def test_transparent_pictures_lose_their_alpha(tmp_path):
    png(tmp_path / "a.png", np.full((4, 5, 4), 7, np.uint8))
    Image.fromarray(np.full((4, 5), 7, np.uint8)).convert("LA").save(tmp_path / "la.png")
    assert read_picture(tmp_path / "a.png").shape == (3, 4, 5)
    assert read_picture(tmp_path / "la.png").shape == (1, 4, 5)


def test_a_volume_is_turned_to_closest_canonical_and_keeps_world_coordinates(tmp_path):
    affine = np.array([[0, 0, -3.0, 10], [-1, 0, 0, 20], [0, 2, 0, 30], [0, 0, 0, 1]])
    volume = open_volume(nifti(tmp_path / "v.nii", GRADIENT, affine))
    assert volume.shape == (4, 2, 3)
    assert volume.spacing_mm == (3.0, 1.0, 2.0)
    assert aff2axcodes(volume.affine) == ("R", "A", "S")
    # The voxel with value v lies at the same place in mm before and after.
    values = volume.pixels()[0]
    for old in [(0, 0, 0), (1, 2, 3), (0, 1, 3)]:
        new = np.argwhere(values == GRADIENT[old])[0]
        assert np.allclose(volume.affine @ [*new, 1], affine @ [*old, 1])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 1, 3), (1, 2, 3), (2, 3, 1, 1)])
def test_a_volume_of_one_slice_is_a_plane(tmp_path, shape):
    values = np.arange(6, dtype=np.int16).reshape(shape)
    volume = open_volume(nifti(tmp_path / "p.nii", values, np.diag([2.0, 3, 4, 1])))
    assert volume.shape == (2, 3)
    assert np.array_equal(volume.pixels()[0], values.reshape(2, 3))
    across = next((axis for axis, side in enumerate(shape[:3]) if side == 1), 2)
    old = np.insert([1.0, 2.0], across, 0.0)
    assert np.allclose((volume.affine @ [1, 2, 0, 1])[:3], old * [2, 3, 4])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["w.nii", "w.png", "w.jpg"]), st.integers(0, 2000), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_read_or_refused_never_a_crash(tmp_path, name, at, value, cut):
    if not (tmp_path / name).exists():
        values = np.random.default_rng(0).integers(0, 255, (12, 13), dtype=np.uint8)
        nifti(tmp_path / name, values) if name == "w.nii" else png(tmp_path / name, values)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[at % len(raw)] = value
    damaged = tmp_path / f"damaged{Path(name).suffix}"
    damaged.write_bytes(raw[: at % len(raw)] if cut else raw)
    try:
        volume = open_volume(damaged)
        shape = volume.pixels().shape[1:]
    except CohortError:
        return
    assert shape == volume.shape
