"""Spots and discs are added where they lie alone, and that changes nothing; many of them take no memory."""

import tracemalloc
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.prior import tissue
from willis.shared.prior.families import Family, ranges_of
from willis.shared.prior.tissue import draw_tissue

MIDDLE = {name: (low + high) / 2 for name, (low, high) in ranges_of(Family.LESIONS, {}).items()}
boxed = tissue._ball


def over_all(size, centre, *, radius, edge):
    """The ball by its formula over the whole image."""
    away = np.indices(size, np.float32) - np.asarray(centre, np.float32).reshape(-1, *[1] * len(size))
    ball = (np.float32(radius) - np.sqrt((away**2).sum(0))) / np.float32(edge) + np.float32(0.5)
    return tuple(slice(0, side) for side in size), np.clip(ball, 0, 1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(24, 24), (64, 40), (16, 20, 24)]),
    st.floats(1, 9),
    st.floats(0.5, 6),
    st.floats(-0.7, 1.7),
)
def test_a_ball_is_what_its_formula_says_and_nothing_lies_beyond_its_box(seed, size, radius, edge, place):
    centre = np.random.default_rng(seed).uniform(-1, 1, len(size)) + place * np.array(size)
    box, ball = boxed(size, centre, radius=radius, edge=edge)
    whole = np.zeros(size, np.float32)
    whole[box] = ball
    np.testing.assert_allclose(whole, over_all(size, centre, radius=radius, edge=edge)[1], atol=1e-4)


def test_a_tissue_is_the_same_as_if_every_ball_were_drawn_over_all_of_it():
    values = MIDDLE | {"spots": 30.0, "discs": 3.0}
    for size in ((48, 48), (24, 32, 28)):
        drawn = draw_tissue(size, values, np.random.default_rng(5)).intensity
        with patch.object(tissue, "_ball", over_all):
            whole = draw_tissue(size, values, np.random.default_rng(5)).intensity
        np.testing.assert_allclose(drawn, whole, atol=1e-4)
        assert drawn.std() > 0


def test_many_spots_take_no_more_memory_than_few():
    def peak(spots: float) -> int:
        tracemalloc.start()
        draw_tissue((48, 48, 48), MIDDLE | {"spots": spots}, np.random.default_rng(1))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # what is kept between draws
    assert peak(100) < 1.2 * peak(1)
