"""Each lesion is drawn where it lies alone, and that changes nothing."""

import tracemalloc
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.prior import lesions
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family

WIDE = {"halo": (0.2, 0.9), "halo_width": (1.0, 6.0), "decoys": (1.0, 6.0), "lesions": (2.0, 9.0)}


def drawn(seed: int, size: tuple[int, ...]) -> np.ndarray:
    dice = np.random.default_rng(seed)
    return draw_patches(Family.LESIONS, n=1, size=size, generator=dice, ranges=WIDE).numpy()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(24, 24), (64, 40), (17, 90), (20, 24, 28), (12, 50, 16)]))
def test_an_image_is_the_same_as_if_every_lesion_were_drawn_over_all_of_it(seed, size):
    boxed = drawn(seed, size)
    whole = tuple(slice(None) for _ in size)
    with patch.object(lesions, "_box", return_value=whole) as asked:
        assert np.array_equal(drawn(seed, size), boxed)
    assert asked.called


def peak(**ranges: tuple[float, float]) -> int:
    """Most bytes that are held while one image of 48 x 48 x 48 is drawn."""
    tracemalloc.start()
    try:
        dice = np.random.default_rng(1)
        draw_patches(
            Family.LESIONS, n=1, size=(48, 48, 48), generator=dice, ranges={"spots": (-1, -1), **ranges}
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_large_lesions_take_no_more_memory_than_one():
    """Kept all at once they would take 60 times 4 bytes a voxel and more, three times as much as now."""
    few, many = (peak(lesions=(n, n), radius=(20, 20), halo=(0.5, 0.5), halo_width=(20, 20)) for n in (1, 60))
    assert many < 1.2 * few


def test_a_box_is_smaller_than_a_large_image():
    box = lesions._box(np.array([100.0, 5.0, 60.0]), (192, 192, 64), reach=10.5)
    assert box == (slice(88, 113), slice(0, 18), slice(48, 64))
