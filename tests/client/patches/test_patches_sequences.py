"""Patches from volumes of several sequences: chosen by their place, in the study's order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from harness.made_cohort import nifti
from harness.made_patches import dice, flat

from willis.client.cohort import Cohort, Scan, Subject
from willis.client.evaluation import load_cases
from willis.client.patches import cut_patches, load_scan, load_subject
from willis.client.store import build_store
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec, check_patches

FLIPPED = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS, turned to RAS when read


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """10 x 11 x 12 voxels, three sequences: a ramp along each axis, of 1, 10 and 100 a voxel."""
    ramps = np.moveaxis(np.indices((10, 11, 12), dtype=np.float32), 0, -1) * [1, 10, 100]
    label = np.zeros((10, 11, 12), np.uint8)
    label[2, 3, 4] = 1
    return Scan(
        nifti(tmp_path / "i.nii", ramps.astype(np.float32), FLIPPED),
        nifti(tmp_path / "l.nii", label, FLIPPED),
    )


def test_sequences_are_chosen_by_place_and_follow_the_orientation(scan):
    found = load_scan(scan, flat(channels=(Channel.THIRD, Channel.FIRST)))
    # Flipped along the first two axes: voxel (2, 3, 4) of the file is (7, 7, 4) of the volume.
    assert np.argwhere(found.label).tolist() == [[7, 7, 4]]
    assert found.pixels()[:, 7, 7, 4].tolist() == [400, 2]
    assert load_scan(scan, flat(channels=(Channel.SECOND,))).pixels()[0, 7, 7, 4] == 30


def test_2d_patches_from_sequences_by_hand(scan):
    spec = flat(channels=("first", "second", "third"), axis="axial", per_subject=2, foreground_share=1.0)
    subject = load_subject(Subject("p", "a", (scan,)), spec)
    patches = cut_patches(subject, spec, dice())
    assert patches.shape == (2, 4, 8, 8)
    check_patches(torch.from_numpy(patches), spec)
    # Rows 2 to 9 (moved inside) and columns 3 to 10 of the turned slice 4; each sequence by its own range.
    row, col = np.meshgrid(np.arange(2, 10), np.arange(3, 11), indexing="ij")
    assert np.allclose(patches[0, 0], 2 * (9 - row) / 9 - 1, atol=1e-6)
    assert np.allclose(patches[0, 1], 2 * (10 - col) / 10 - 1, atol=1e-6)
    assert np.allclose(patches[0, 2], 2 * 4 / 11 - 1, atol=1e-6)
    assert np.argwhere(patches[0, 3] == 1).tolist() == [[5, 4]]


def test_3d_patches_store_and_cases_hold_every_sequence(scan, tmp_path):
    spec = PatchSpec.model_validate({"size": (8, 8, 8), "channels": ("first", "third"), "per_subject": 3})
    subject = Subject("p", "a", (scan,))
    store = build_store(Cohort((subject,)), spec, tmp_path / "store", seed=1)
    assert store.bag(0, 3, dice()).shape == (3, 3, 8, 8, 8)
    (case,) = load_cases(subject, spec)
    assert case.image.shape == (2, 10, 11, 12)
    assert case.truth.sum() == 1


def test_resampling_moves_all_sequences_alike(scan):
    fine = load_scan(
        scan,
        PatchSpec.model_validate(
            {"size": (8, 8, 8), "spacing_mm": (0.5, 1, 1), "channels": ("first", "third")}
        ),
    )
    assert fine.pixels().shape == (2, 20, 11, 12)
    assert np.allclose(fine.pixels()[0, 2::2, 0, 0] - fine.pixels()[0, 1:-1:2, 0, 0], -0.5)
    assert np.array_equal(fine.pixels()[1, :, 0, 0], np.zeros(20))


def test_a_sequence_that_is_not_there_is_refused_with_what_there_is(scan, tmp_path):
    def refused(channel: str, image: Scan = scan) -> str:
        with pytest.raises(CohortError) as fault:
            load_scan(image, flat(channels=(channel,)))
        return str(fault.value)

    there = "i.nii has 3 sequences; patch.channels must name some of first, second, third, got"
    for channel in ("fourth", "intensity", "grey", "red"):
        assert refused(channel) == f"{there} {channel}"
    alone = Scan(nifti(tmp_path / "one.nii", np.ones((10, 11, 12), np.float32), FLIPPED), scan.label)
    told = "one.nii has 1 sequence; patch.channels must name some of first (or intensity), got second"
    assert refused("second", alone) == told
    for name in (Channel.FIRST, Channel.INTENSITY, Channel.GREY):
        assert load_scan(alone, flat(channels=(name,))).pixels().shape == (1, 10, 11, 12)


def test_a_picture_has_no_sequences(tmp_path):
    from harness.made_cohort import png

    picture = png(tmp_path / "m.png", np.eye(9, dtype=np.uint8))
    with pytest.raises(CohortError, match=r"m\.png is a picture, and first a volume's sequence"):
        load_scan(Scan(picture, picture), flat(channels=(Channel.FIRST,)))
