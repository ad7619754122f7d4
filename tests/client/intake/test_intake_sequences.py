"""A volume whose fourth axis holds sequences: turned to RAS with its space, never with its sequences."""

import numpy as np
import pytest
from harness.made_cohort import GRADIENT, MASK, faults, nifti, run_check, table
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes

from willis.client.ingest.check import Fault
from willis.client.ingest.volume import MOST_SEQUENCES, open_volume
from willis.shared.errors import CohortError

TURNED = np.array([[0, 0, -3.0, 10], [-1, 0, 0, 20], [0, 2, 0, 30], [0, 0, 0, 1]])


def stacked(n: int) -> np.ndarray:
    """Sequence k of the gradient has 100 k added."""
    return np.stack([GRADIENT + 100 * number for number in range(n)], axis=-1)


def test_sequences_by_hand(tmp_path):
    volume = open_volume(nifti(tmp_path / "v.nii", stacked(3)))
    assert volume.shape == (2, 3, 4)
    assert volume.spacing_mm == (1.0, 1.0, 1.0)
    assert volume.pixels().shape == (3, 2, 3, 4)
    assert volume.pixels()[:, 1, 2, 3].tolist() == [23, 123, 223]
    assert volume.pixels()[:, 0, 0, 1].tolist() == [1, 101, 201]


def test_sequences_are_turned_as_a_volume_of_one_is(tmp_path):
    alone = open_volume(nifti(tmp_path / "one.nii", GRADIENT, TURNED))
    volume = open_volume(nifti(tmp_path / "four.nii", stacked(4), TURNED))
    assert aff2axcodes(volume.affine) == ("R", "A", "S")
    assert (volume.shape, volume.spacing_mm) == (alone.shape, alone.spacing_mm) == ((4, 2, 3), (3, 1, 2))
    assert np.array_equal(volume.affine, alone.affine)
    for number, sequence in enumerate(volume.pixels()):
        assert np.array_equal(sequence, alone.pixels()[0] + 100 * number)
    # An independent witness: the value of voxel (1, 2, 0) lies at the same place in mm before and after.
    found = np.argwhere(volume.pixels()[2] == GRADIENT[1, 2, 0] + 200)[0]
    assert np.allclose(apply_affine(volume.affine, found), apply_affine(TURNED, [1, 2, 0]))


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.integers(1, 5))
def test_every_orientation_keeps_values_at_their_place_in_mm(tmp_path_factory, order, signs, n):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[order]
    values = stacked(n)
    volume = open_volume(nifti(tmp_path_factory.mktemp("o") / "v.nii", values, affine))
    pixels = volume.pixels()
    assert pixels.shape == (n, *volume.shape)
    for at in [(0, 0, 0), (1, 2, 3), (1, 0, 2)]:
        place = np.argwhere(pixels[-1] == values[(*at, n - 1)])[0]
        assert np.allclose(apply_affine(volume.affine, place), apply_affine(affine, at))


def test_a_slice_of_several_sequences_is_a_plane(tmp_path):
    volume = open_volume(nifti(tmp_path / "p.nii", stacked(2)[:, :, :1]))
    assert volume.shape == (2, 3)
    assert np.array_equal(volume.pixels(), np.moveaxis(stacked(2)[:, :, 0], -1, 0))


def test_too_many_sequences_and_a_fifth_axis_are_refused(tmp_path):
    most = np.zeros((2, 3, 4, MOST_SEQUENCES), np.float32)
    assert open_volume(nifti(tmp_path / "most.nii", most)).pixels().shape == (16, 2, 3, 4)
    with pytest.raises(CohortError, match=r"at most 16 sequences.*\(2, 3, 4, 17\).*one point in time"):
        open_volume(nifti(tmp_path / "film.nii", np.zeros((2, 3, 4, 17), np.float32)))
    with pytest.raises(CohortError, match=r"two or three axes.*\(2, 3, 4, 2, 3\)"):
        open_volume(nifti(tmp_path / "five.nii", np.zeros((2, 3, 4, 2, 3), np.float32)))


def test_a_label_has_one_integer_a_voxel(tmp_path):
    two = nifti(tmp_path / "two.nii", np.stack([MASK, MASK], axis=-1))
    with pytest.raises(CohortError, match=r"two\.nii has 2 sequences; a label needs one integer a voxel"):
        open_volume(two).label()
    alone = nifti(tmp_path / "alone.nii", MASK[..., None])
    assert np.array_equal(open_volume(alone).label(), MASK)


def test_the_check_takes_sequences_and_refuses_labels_of_several(tmp_path):
    nifti(tmp_path / "image.nii.gz", stacked(4), TURNED)
    nifti(tmp_path / "label.nii.gz", MASK, TURNED)
    nifti(tmp_path / "wide.nii.gz", stacked(2)[:1], TURNED)
    nifti(tmp_path / "labels.nii.gz", np.stack([MASK, MASK], axis=-1), TURNED)
    holed = stacked(2)
    holed[1, 2, 3, 1] = np.nan
    nifti(tmp_path / "holed.nii.gz", holed, TURNED)
    path = table(
        tmp_path, "p,a,image.nii.gz,label.nii.gz", "q,a,image2.nii.gz,labels.nii.gz",
        "r,a,wide.nii.gz,label3.nii.gz", "s,a,holed.nii.gz,label4.nii.gz",
    )  # fmt: skip
    for name in ("image2", "label3", "label4"):
        source = "image" if name.startswith("image") else "label"
        (tmp_path / f"{name}.nii.gz").write_bytes((tmp_path / f"{source}.nii.gz").read_bytes())
    assert faults(path) == [
        set(), {Fault.UNREADABLE_LABEL}, {Fault.OTHER_GRID}, {Fault.NOT_FINITE_IMAGE},
    ]  # fmt: skip
    told = run_check(str(path))
    assert told.exit_code == 1, told.output
    assert "2 sequences" in told.output


@pytest.mark.parametrize("n", [1, 3])
def test_the_header_alone_tells_shape_and_affine(tmp_path, n):
    path = nifti(tmp_path / "v.nii", stacked(n), TURNED)
    whole = path.read_bytes()
    path.write_bytes(whole[: Nifti1Image.header_class.sizeof_hdr + 4])
    assert open_volume(path).shape == (4, 2, 3)
    with pytest.raises(CohortError, match="export it again"):
        open_volume(path).pixels()
