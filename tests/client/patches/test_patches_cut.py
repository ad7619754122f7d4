"""Normalising and cutting patches, by hand and by property."""

import numpy as np
import pytest
from harness.made_patches import dice, flat, loaded
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from willis.client.patches import LoadedScan, cut_patches, normalise_subject
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec

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
