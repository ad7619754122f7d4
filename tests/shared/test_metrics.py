"""Metrics: by hand, by property, and against scipy's distance transform."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from jaxtyping import TypeCheckError
from scipy.ndimage import binary_erosion, distance_transform_edt

from willis.shared.likeness.patches import degenerate_masks
from willis.shared.metrics.interval import bootstrap_interval, mean_over_subjects, paired_difference_interval
from willis.shared.metrics.masks import cldice, diagonal, dice, hd95


def mask(*shape: int, at: tuple = ()) -> np.ndarray:
    """Return an empty mask, or one with foreground at an index."""
    result = np.zeros(shape, dtype=bool)
    if at:
        result[at] = True
    return result


def pairs(least: int = 1):
    """Return a strategy of two masks of one shape, 2-D or 3-D."""
    shapes = array_shapes(min_dims=2, max_dims=3, min_side=least, max_side=9)
    return shapes.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))


def test_dice_by_hand():
    prediction, truth = mask(4, 4, at=np.s_[0, :3]), mask(4, 4, at=np.s_[0, 1:])
    # 3 and 3 pixels, 2 shared.
    assert dice(prediction, truth) == pytest.approx(2 * 2 / 6)


def test_dice_counts_empty_masks():
    something, nothing = mask(4, 4, at=(1, 1)), mask(4, 4)
    assert dice(nothing, nothing) == 1
    assert dice(something, nothing) == 0
    assert dice(nothing, something) == 0


@given(pairs())
def test_dice_is_symmetric_bounded_and_one_only_on_equal_masks(both):
    one, other = both
    assert dice(one, other) == dice(other, one)
    assert 0 <= dice(one, other) <= 1
    assert (dice(one, other) == 1) == np.array_equal(one, other)


@pytest.mark.parametrize("metric", [dice, cldice, lambda one, other: hd95(one, other, (1.0, 1.0))])
def test_masks_that_do_not_fit_are_refused(metric):
    # By the functions, or before them by the shapes in their signatures where those are checked.
    with pytest.raises((ValueError, TypeCheckError), match=r"\(4, 4\) and \(4, 5\)|bool\[4,5\]"):
        metric(mask(4, 4), mask(4, 5))
    with pytest.raises((ValueError, TypeCheckError), match=r"float64|f64"):
        metric(np.zeros((4, 4)), mask(4, 4))
    with pytest.raises(ValueError, match="2-D or 3-D"):
        metric(mask(4), mask(4))


def test_hd95_by_hand_in_mm():
    # One pixel each, 3 rows of 2 mm and 4 columns of 1.5 mm apart: sqrt(36 + 36).
    one, other = mask(8, 8, at=(1, 1)), mask(8, 8, at=(4, 5))
    assert hd95(one, other, (2.0, 1.5)) == pytest.approx(math.sqrt(72))


def test_hd95_is_the_larger_of_two_directed_percentiles():
    # Prediction: truth's pixel and another 10 away. Prediction to truth: 0 and 10, 95th percentile 9.5.
    # Truth to prediction: 0. Pooled it would be the percentile of 0, 0, 10, which is 9.
    truth, prediction = mask(3, 16, at=(1, 2)), mask(3, 16, at=(1, [2, 12]))
    assert hd95(prediction, truth, (1.0, 1.0)) == pytest.approx(9.5)
    assert hd95(truth, prediction, (1.0, 1.0)) == pytest.approx(9.5)


def test_hd95_counts_empty_masks():
    something, nothing = mask(4, 5, 6, at=(1, 1, 1)), mask(4, 5, 6)
    spacing = (1.0, 2.0, 0.5)
    assert hd95(nothing, nothing, spacing) == 0
    # Corner to corner: 3 x 1, 4 x 2 and 5 x 0.5 mm.
    assert hd95(nothing, something, spacing) == pytest.approx(math.sqrt(9 + 64 + 6.25))
    assert hd95(something, nothing, spacing) == hd95(nothing, something, spacing)


@settings(max_examples=60, deadline=None)
@given(pairs(least=2), st.data())
def test_hd95_agrees_with_a_distance_transform(both, data):
    one, other = both
    spacing = tuple(data.draw(st.sampled_from([0.4, 1.0, 2.5])) for _ in one.shape)
    assume(one.any() and other.any())
    edges = [shape & np.logical_not(binary_erosion(shape)) for shape in both]
    directed: list[float] = []
    for this in (0, 1):
        away = distance_transform_edt(np.logical_not(edges[1 - this]), sampling=spacing)
        directed.append(float(np.percentile(np.asarray(away)[edges[this]], 95)))
    # MONAI interpolates in float32.
    assert hd95(one, other, spacing) == pytest.approx(max(directed), rel=1e-5, abs=1e-5)
    assert hd95(one, other, spacing) <= diagonal(one.shape, spacing) + 1e-4


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, math.nan), (1.0, math.inf), (1.0, 1.0, 1.0)])
def test_hd95_refuses_spacing(spacing):
    with pytest.raises(ValueError, match="spacing must be 2 positive"):
        hd95(mask(4, 4, at=(1, 1)), mask(4, 4, at=(1, 1)), spacing)


def test_hd95_refuses_a_distance_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(
        "willis.shared.metrics.masks.compute_hausdorff_distance", lambda *_, **__: torch.tensor(math.nan)
    )
    with pytest.raises(ValueError, match="is nan"):
        hd95(mask(4, 4, at=(1, 1)), mask(4, 4, at=(1, 2)), (1.0, 1.0))


def test_cldice_by_hand():
    # Lines one pixel wide are their own skeletons. Half of the prediction lies in the truth, all truth in it.
    prediction, truth = mask(5, 20, at=np.s_[2, 2:18]), mask(5, 20, at=np.s_[2, 2:10])
    assert cldice(prediction, truth) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_cldice_in_three_dimensions_ignores_the_width_of_a_vessel():
    truth = mask(9, 9, 30, at=np.s_[3:6, 3:6, 2:28])
    thin = mask(9, 9, 30, at=np.s_[4, 4, 4:26])
    assert dice(thin, truth) < 0.2
    assert cldice(thin, truth) > 0.9


def test_cldice_does_not_reward_a_mask_of_all_foreground():
    # One vessel; all foreground has a skeleton that lies almost wholly outside it.
    truth = mask(32, 64, at=np.s_[5, :])
    assert cldice(np.ones((32, 64), dtype=bool), truth) < 0.2


def test_cldice_counts_empty_masks_and_misses():
    something, elsewhere, nothing = mask(4, 4, at=(1, 1)), mask(4, 4, at=(3, 3)), mask(4, 4)
    assert cldice(nothing, nothing) == 1
    assert cldice(something, nothing) == 0
    assert cldice(nothing, something) == 0
    assert cldice(something, elsewhere) == 0


@settings(max_examples=40, deadline=None)
@given(pairs(least=2))
def test_cldice_is_symmetric_bounded_and_one_on_equal_masks(both):
    one, other = both
    assert cldice(one, other) == pytest.approx(cldice(other, one))
    assert 0 <= cldice(one, other) <= 1
    assert cldice(one, one) == 1


def test_an_interval_by_hand():
    # Two subjects, 0 and 1: a resample's mean is 0, 1/2 or 1 with chance 1/4, 1/2, 1/4; so the middle
    # half runs from 0 or 1/2 to 1/2 or 1, and 95 % from 0 to 1.
    rng = np.random.default_rng(0)
    assert bootstrap_interval([0.0, 1.0], rng=rng) == (0, 1)
    assert bootstrap_interval([0.0, 1.0], rng=rng, level=0.4) == (0.5, 0.5)
    assert bootstrap_interval([0.7], rng=rng) == (0.7, 0.7)


def test_an_interval_agrees_with_the_normal_one_on_many_subjects():
    scores = np.random.default_rng(1).normal(0.6, 0.1, 400)
    low, high = bootstrap_interval(list(scores), rng=np.random.default_rng(2))
    half = 1.96 * scores.std() / 20
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.15 * half)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_an_interval_lies_within_the_scores(scores):
    low, high = bootstrap_interval(scores, rng=np.random.default_rng(3), resamples=50)
    assert min(scores) - 1e-12 <= low <= high <= max(scores) + 1e-12


def test_an_interval_is_seeded():
    scores = [0.1, 0.4, 0.9, 0.35]
    twice = [bootstrap_interval(scores, rng=np.random.default_rng(4), resamples=100) for _ in range(2)]
    assert twice[0] == twice[1]


def test_pairing_removes_what_subjects_share():
    # Scores differ widely between subjects, the rows by exactly 0.1.
    first = [0.2, 0.5, 0.9, 0.3]
    second = [score - 0.1 for score in first]
    low, high = paired_difference_interval(first, second, rng=np.random.default_rng(5))
    assert (low, high) == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError, match="got 4 and 3"):
        paired_difference_interval(first, second[:3], rng=np.random.default_rng(5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_never_reaches_a_mean(bad):
    with pytest.raises(ValueError, match=f"score 1 of 2 is {bad}"):
        mean_over_subjects([0.5, bad])
    with pytest.raises(ValueError, match="score 1 of 2"):
        bootstrap_interval([0.5, bad], rng=np.random.default_rng(6))


@pytest.mark.parametrize(
    ("more", "message"),
    [({"level": 1.0}, "level"), ({"level": math.nan}, "level"), ({"resamples": 0}, "resamples")],
)
def test_an_interval_refuses_bad_values(more, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval([0.5], rng=np.random.default_rng(7), **more)
    with pytest.raises(ValueError, match="at least one subject"):
        mean_over_subjects([])


def test_degenerate_masks_by_hand():
    patches = torch.full((5, 2, 8, 8), -1.0)
    patches[1, 1] = 1.0  # full
    patches[2, 1, 0, :7] = 1.0  # 7 pixels
    patches[3, 1, 0, :8] = 1.0  # 8 pixels: enough
    patches[4, 1, :4] = 0.5  # neither
    counts = degenerate_masks(patches)
    assert counts == {"patches": 5, "empty": 1, "full": 1, "small": 1, "not_binary": 1}


def test_degenerate_masks_refuses_what_is_not_labelled_patches():
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 8\)"):
        degenerate_masks(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="finite"):
        degenerate_masks(torch.full((1, 2, 8, 8), math.nan))
