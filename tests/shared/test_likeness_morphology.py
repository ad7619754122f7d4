"""The thirteen figures of morphology: by hand on masks that a reader can draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import disk

from willis.shared.likeness.morphology import MORPHOLOGY, betti_numbers, box_dimension, morpho13


def labelled(mask: np.ndarray, image: np.ndarray | None = None) -> torch.Tensor:
    """Return one patch, black where no image is given."""
    image = np.full(mask.shape, -1.0) if image is None else image
    return torch.tensor(np.stack([image, np.where(mask, 1.0, -1.0)])[None], dtype=torch.float32)


def figures(patches: torch.Tensor) -> dict[str, float]:
    """Return the figures of the first patch by name."""
    return dict(zip(MORPHOLOGY, morpho13(patches)[0].tolist(), strict=True))


def drawn(*shape: int, at: list | None = None) -> np.ndarray:
    """Return a mask with foreground at some indices."""
    mask = np.zeros(shape, dtype=bool)
    for index in at or []:
        mask[index] = True
    return mask


def ring(side: int = 32) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    mask[disk((16, 16), 10)] = True
    mask[disk((16, 16), 6)] = False
    return mask


def test_there_are_thirteen_and_each_has_a_name():
    assert len(MORPHOLOGY) == len(set(MORPHOLOGY)) == 13
    assert morpho13(labelled(ring()).repeat(3, 1, 1, 1)).shape == (3, 13)


def test_betti_numbers_of_drawn_masks():
    assert betti_numbers(ring()) == (1, 1)
    assert betti_numbers(drawn(16, 16, at=[np.s_[2:4, 2:4], np.s_[9:12, 9:12]])) == (2, 0)
    assert betti_numbers(drawn(16, 16)) == (0, 0)
    assert betti_numbers(np.ones((16, 16), dtype=bool)) == (1, 0)
    # Two holes in one piece; two pixels that meet at a corner are one piece.
    assert betti_numbers(~drawn(16, 16, at=[np.s_[3:5, 3:5], np.s_[9:12, 9:12]])) == (1, 2)
    assert betti_numbers(drawn(16, 16, at=[(4, 4), (5, 5)])) == (1, 0)
    # A hole that is open towards the border of the patch is none.
    assert betti_numbers(drawn(16, 16, at=[np.s_[0:5, 4], np.s_[4, 4:9], np.s_[0:5, 8]])) == (1, 0)


def test_betti_numbers_in_three_dimensions():
    assert betti_numbers(np.repeat(ring()[..., None], 3, axis=2)) == (1, 1)  # a tunnel
    shell = drawn(12, 12, 12, at=[np.s_[2:10, 2:10, 2:10]])
    shell[5:7, 5:7, 5:7] = False
    assert betti_numbers(shell) == (1, 0)  # a cavity is no tunnel
    assert betti_numbers(drawn(12, 12, 12, at=[(1, 1, 1), (5, 5, 5), (9, 9, 9)])) == (3, 0)


@pytest.mark.parametrize("size", [(96, 96), (64, 100), (32, 32, 32)])
def test_box_dimension_of_a_line_and_a_filled_square(size):
    line = np.zeros(size, dtype=bool)
    line[(slice(None), *[3] * (len(size) - 1))] = True
    assert box_dimension(line) == pytest.approx(1, abs=0.02)
    assert box_dimension(np.ones(size, dtype=bool)) == pytest.approx(len(size), abs=0.08)
    assert box_dimension(np.zeros(size, dtype=bool)) == 0
    point = np.zeros(size, dtype=bool)
    point[tuple(side // 2 for side in size)] = True
    assert box_dimension(point) == 0


def test_box_dimension_of_a_diagonal_and_of_a_sierpinski_carpet_of_halves():
    assert box_dimension(np.eye(64, dtype=bool)) == pytest.approx(1)
    # Pascal's triangle modulo 2: a side twice as long holds three times as many, log 3 / log 2.
    rows = np.arange(64)
    triangle = (rows[:, None] & rows[None, :]) == 0
    assert box_dimension(triangle) == pytest.approx(math.log2(3))
    with pytest.raises(ValueError, match=r"at least 4 pixels, got \(3, 8\)"):
        box_dimension(np.ones((3, 8), dtype=bool))


def test_shape_of_a_straight_bar_by_hand():
    # Five rows of 32 columns from border to border: its skeleton runs in the middle row, 2.5 pixels from both
    # edges, except near the border, where it may end early.
    found = figures(labelled(drawn(32, 32, at=[np.s_[10:15]])))
    assert found["vessel-density"] == pytest.approx(5 / 32)
    assert found["skeleton-length"] == pytest.approx(30, abs=4)
    assert found["radius-mean"] == pytest.approx(2.5, abs=0.1)
    assert found["radius-sd"] == pytest.approx(0, abs=0.3)
    assert found["radius-p90"] == pytest.approx(2.5)


def test_radii_tell_one_width_from_two():
    even = figures(labelled(drawn(64, 64, at=[np.s_[10:15], np.s_[40:45]])))
    uneven = figures(labelled(drawn(64, 64, at=[np.s_[10:13], np.s_[40:49]])))
    assert uneven["radius-sd"] > even["radius-sd"] + 1
    assert uneven["radius-p90"] == pytest.approx(4.5)


def test_grey_levels_by_hand():
    mask = drawn(16, 16, at=[np.s_[:, 8:]])
    image = np.zeros((16, 16))
    image[:, 8:] = np.where(np.arange(16) % 2, 0.6, 0.4)[:, None]
    image[:, 6:8] = -0.5
    found = figures(labelled(mask, image))
    assert found["inside-mean"] == pytest.approx(0.5)
    assert found["inside-sd"] == pytest.approx(0.1, rel=1e-5)
    assert found["outside-mean"] == pytest.approx(-0.5 * 2 / 8)
    assert found["outside-sd"] == pytest.approx(math.sqrt(0.25 * 2 / 8 - 0.125**2), rel=1e-5)
    # Two columns on either side of the border: 0.5 within, -0.5 without.
    assert found["rim-contrast"] == pytest.approx(1.0)


@pytest.mark.parametrize("space", [(16, 16), (8, 9, 10)])
def test_empty_and_full_masks_have_figures(space):
    image = np.linspace(-1, 1, math.prod(space)).reshape(space)
    empty = figures(labelled(np.zeros(space, dtype=bool), image))
    full = figures(labelled(np.ones(space, dtype=bool), image))
    assert [empty[name] for name in MORPHOLOGY[:8]] == [0.0] * 8
    assert (full["vessel-density"], full["betti-0"], full["betti-1"]) == (1, 1, 0)
    assert (full["radius-mean"], full["radius-sd"], full["radius-p90"]) == (min(space) / 2, 0, min(space) / 2)
    for found in (empty, full):
        assert found["inside-mean"] == found["outside-mean"] == pytest.approx(0, abs=1e-6)
        assert found["inside-sd"] == found["outside-sd"] == pytest.approx(image.std(), rel=1e-5)
        assert found["rim-contrast"] == 0


@given(st.sampled_from([(4, 4), (9, 12), (5, 6, 4)]).flatmap(lambda space: arrays(np.bool_, space)))
@settings(max_examples=60, deadline=None)
def test_every_mask_has_finite_figures_and_its_mirror_image_the_same_topology(mask):
    one, other = figures(labelled(mask)), figures(labelled(mask[::-1].copy()))
    assert all(math.isfinite(value) for value in one.values())
    assert 0 <= one["box-dimension"] <= mask.ndim + 0.01
    for name in ("vessel-density", "betti-0", "betti-1"):
        assert one[name] == other[name] >= 0


def test_nan_and_a_missing_label_are_refused():
    spoilt = labelled(ring())
    spoilt[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 1"):
        morpho13(spoilt)
    with pytest.raises(ValueError, match="image channels and label"):
        morpho13(labelled(ring())[:, :1])
