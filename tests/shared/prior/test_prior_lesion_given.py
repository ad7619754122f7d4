"""A brain around a given mask: the label is the mask, both sequences show it, the rest is in its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.prior.brain import Head, Matter, draw_matter
from willis.shared.prior.lesion_given import AROUND, draw_brain_around

HEAD = Head((31.5, 31.5), (26, 28))
PLAIN = {
    "noise": (0, 0), "bias_field": (0, 0), "blur": (0, 0), "texture": (0, 0), "grey_spread": (0, 0),
    "lesion_spread": (0, 0), "core": (0, 0), "caps": (0, 0), "softness": (0.1, 0.1), "gain": (1000, 1000),
    "flair_contrast": (0.3, 0.3), "t1_contrast": (-0.2, -0.2), "grain": (0, 0), "stripped": (0, 0),
}  # fmt: skip


def square(side: int = 64) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[36:44, 40:50] = True
    return mask


def test_greys_by_hand_without_a_scanner():
    found = draw_brain_around(square(), HEAD, generator=np.random.default_rng(3), ranges=PLAIN)
    assert found.images.shape == (2, 64, 64)
    flair, t1 = found.images
    # Gain 1000 over the usual greys: air 0.02, fluid, grey, white; a lesion is white matter and its contrast.
    for tissue, grey, other in [(0, 20, 20), (1, 120, 160), (2, 520, 480), (3, 420, 720)]:
        at = (found.matter == tissue) & ~square()
        assert at.any()
        assert np.allclose(flair[at], grey, atol=0.01)
        assert np.allclose(t1[at], other, atol=0.01)
    assert np.allclose(flair[square()], 720, atol=0.01)
    assert np.allclose(t1[square()], 520, atol=0.01)


def test_air_is_empty_after_brain_extraction_alone():
    for stripped in (0.0, 1.0):
        ranges = {"stripped": (stripped, stripped), "noise": (0.02, 0.02)}
        found = draw_brain_around(square(), HEAD, generator=np.random.default_rng(3), ranges=ranges)
        air = found.matter == Matter.OUTSIDE
        assert (found.images[:, air] == 0).all() == bool(stripped)
        assert (found.images[:, ~air] > 0).mean() > 0.99


def test_an_empty_mask_gives_a_healthy_brain_and_the_same_dice_the_same_one():
    nothing = np.zeros((64, 64), bool)
    one, again = (draw_brain_around(nothing, HEAD, generator=np.random.default_rng(5)) for _ in range(2))
    assert not one.label.any()
    assert np.array_equal(one.images, again.images)
    other = draw_brain_around(nothing, HEAD, generator=np.random.default_rng(6))
    assert not np.array_equal(one.images, other.images)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 54), st.integers(0, 54), st.integers(1, 10))
def test_the_label_is_the_mask_and_lies_in_brain(seed, row, col, side):
    mask = np.zeros((64, 64), bool)
    mask[row : row + side, col : col + side] = True
    found = draw_brain_around(mask, HEAD, generator=np.random.default_rng(seed))
    assert np.array_equal(found.label, mask)
    assert np.isfinite(found.images).all()
    assert found.images.min() >= 0
    assert (found.matter[mask] != Matter.OUTSIDE).all()


def test_matter_lies_from_outside_in_and_volumes_are_drawn_too():
    head = Head((31.5, 31.5, 6.0), (26, 28, 24))
    matter = draw_matter(head, (64, 64, 8), generator=np.random.default_rng(1))
    radius = np.hypot((np.arange(64)[:, None] - 31.5) / 26, (np.arange(64) - 31.5) / 28)[..., None]
    far, near = np.broadcast_to(radius > 1.2, matter.shape), np.broadcast_to(radius < 0.8, matter.shape)
    assert (matter[far] == Matter.OUTSIDE).all()
    assert (matter[near] != Matter.OUTSIDE).all()
    assert (matter[near] == Matter.WHITE).mean() > 0.5
    # The ventricles are fluid on both sides of the middle, and mirrored but for their rough outline.
    middle = matter[24:40, 28:36] == Matter.FLUID
    assert middle[:8].any()
    assert middle[8:].any()
    assert set(np.unique(matter)) == set(Matter)


def test_lesions_are_bright_in_flair_and_dark_in_t1_within_usual_ranges():
    for seed in range(10):
        found = draw_brain_around(square(), HEAD, generator=np.random.default_rng(seed))
        white = (found.matter == Matter.WHITE) & (found.label == 0)
        flair, t1 = found.images
        assert flair[square()].mean() > flair[white].mean()
        assert t1[square()].mean() < t1[white].mean()


def test_what_does_not_fit_is_refused_with_values():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"strange is unknown; noise must .* got 0\.5 to 0\.1"):
        draw_brain_around(square(), HEAD, generator=rng, ranges={"strange": (0, 1), "noise": (0.5, 0.1)})
    with pytest.raises(ValueError, match="half axes of at least 4"):
        Head((1, 2), (3, 30))
    with pytest.raises(ValueError, match="axes of size"):
        draw_matter(HEAD, (64, 64, 8), generator=rng)
    with pytest.raises(ValueError, match="must be positive, got 0"):
        draw_matter(HEAD, (64, 64), generator=rng, cortex=0)


@pytest.mark.parametrize("name", AROUND)
def test_usual_ranges_lie_within_bounds(name):
    one = AROUND[name]
    assert one.least <= one.low <= one.high <= one.most
