"""Frechet distance, coverage and diversity: closed forms, by hand, and against scipy's matrix root."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.linalg import sqrtm

from willis.shared.likeness.coverage import coverage_and_density
from willis.shared.likeness.diversity import ms_ssim_diversity, ms_ssim_scales
from willis.shared.likeness.frechet import CUT, TrainingScale, frechet_distance
from willis.shared.likeness.patches import check_patches


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(mean: list[float], root: list[list[float]], *, n: int = 50, seed: int = 0) -> torch.Tensor:
    """Return rows whose mean is ``mean`` and whose covariance is ``root @ root.T``, both exactly."""
    drawn = torch.randn(n, len(mean), generator=dice(seed), dtype=torch.float64)
    drawn = drawn - drawn.mean(0)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(drawn.T))).T
    return white @ torch.tensor(root, dtype=torch.float64).T + torch.tensor(mean, dtype=torch.float64)


def turned(rows: torch.Tensor, angle: float) -> torch.Tensor:
    """Return rows in the plane, turned about the origin."""
    cos, sin = math.cos(angle), math.sin(angle)
    return rows @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)


def test_frechet_distance_of_two_diagonal_gaussians():
    one = rows_of([0, 0], [[1, 0], [0, 2]])
    other = rows_of([3, 4], [[2, 0], [0, 5]], n=70, seed=1)
    # Means 5 apart; deviations 1 against 2, and 2 against 5: 25 + 1 + 9.
    assert frechet_distance(one, other) == pytest.approx(35)
    assert frechet_distance(turned(one, 0.7), turned(other, 0.7)) == pytest.approx(35)


def test_frechet_distance_of_a_gaussian_and_itself_turned():
    one, other = rows_of([0, 0], [[1, 0], [0, 3]]), turned(rows_of([0, 0], [[1, 0], [0, 3]]), math.pi / 4)
    # S1 = diag(1, 9), S2 = [[5, 4], [4, 5]] (or -4): tr(S1 S2) = 50, det(S1 S2) = 81, and the trace of the
    # root of a 2 x 2 matrix is sqrt(tr + 2 sqrt(det)) = sqrt(68).
    assert frechet_distance(one, other) == pytest.approx(10 + 10 - 2 * math.sqrt(68))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_frechet_distance_agrees_with_the_general_matrix_root(seed, length):
    one = torch.randn(20, length, generator=dice(seed), dtype=torch.float64)
    mixing = torch.randn(length, length, generator=dice(seed + 1), dtype=torch.float64)
    other = torch.randn(30, length, generator=dice(seed + 2), dtype=torch.float64) @ mixing + 1
    first, second = (torch.cov(rows.T).reshape(length, length).numpy() for rows in (one, other))
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    root = np.real(np.asarray(sqrtm(first @ second)))
    expected = apart + float((first + second - 2 * root).trace())
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_distance_is_zero_for_itself_and_sees_no_order():
    one, other = torch.randn(60, 24, generator=dice(1)), torch.randn(60, 24, generator=dice(2))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    shuffled = other[torch.randperm(60, generator=dice(3))]
    assert frechet_distance(one, shuffled) == pytest.approx(frechet_distance(one, other), rel=1e-9)


def test_frechet_distance_refuses_too_few_patches_and_nan():
    enough = torch.randn(25, 24, generator=dice())
    assert math.isfinite(frechet_distance(enough, enough + 1))
    with pytest.raises(ValueError, match=r"24 features needs at least 25 patches.*got 24: give more"):
        frechet_distance(enough, enough[:24])
    spoilt = enough.clone()
    spoilt[4, 5] = math.nan
    with pytest.raises(ValueError, match="finite, got 1"):
        frechet_distance(enough, spoilt)


def test_training_scale_by_hand():
    # Mean 2, deviation 1 over the two; the second feature never varies, so that any other value is cut.
    scale = TrainingScale.fitted_on(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    found = scale.of(torch.tensor([[2.5, 7.0], [100.0, 7.5], [-100.0, 6.5]]))
    assert found.tolist() == [[0.5, 0.0], [CUT, CUT], [-CUT, -CUT]]


def test_coverage_and_density_of_points_on_a_line():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    fake = torch.tensor([[0.5], [0.5], [100.0], [3.0]])
    # Nearest other real: 1, 1, 1, 8. Open balls (-1, 1), (0, 2), (1, 3), (2, 18) hold 2, 2, 0 and 1 fakes.
    found = coverage_and_density(fake, real, neighbours=1)
    assert found.coverage == 3 / 4
    assert found.density == 5 / 4
    # The second nearest: 2, 1, 2, 9. Balls (-2, 2), (0, 2), (0, 4), (1, 19) hold 2, 2, 3 and 1.
    found = coverage_and_density(fake, real, neighbours=2)
    assert found.coverage == 1
    assert found.density == 8 / 4 / 2


def test_coverage_falls_where_fakes_gather_and_density_where_they_stray():
    real, other = (torch.randn(200, 3, generator=dice(seed)) for seed in (1, 2))
    alike, gathered = coverage_and_density(other, real), coverage_and_density(other * 0.1, real)
    assert alike.coverage > 0.9
    assert gathered.coverage < 0.5
    assert gathered.density > 0.8  # they lie among real patches: density alone sees no collapse
    astray = coverage_and_density(other + 3, real)
    assert astray.density < 0.3 < alike.density


def test_coverage_refuses_unequal_and_too_few_and_nan():
    points = torch.arange(6.0)[:, None]
    assert coverage_and_density(points, points).coverage == 1
    with pytest.raises((ValueError, TypeCheckError), match=r"got 5 and 6|f32\[6,1\]"):
        coverage_and_density(points[:5], points)
    with pytest.raises(ValueError, match="more than the 5 neighbours, got 5 and 5"):
        coverage_and_density(points[:5], points[:5])
    with pytest.raises(ValueError, match="finite"):
        coverage_and_density(points * math.nan, points)


@pytest.mark.parametrize(("side", "scales"), [(7, 1), (13, 1), (14, 2), (27, 2), (28, 3), (96, 3)])
def test_ms_ssim_takes_the_scales_that_fit(side, scales):
    assert ms_ssim_scales((200, side)) == scales
    patches = torch.rand(2, 2, side, side, generator=dice()) * 2 - 1
    assert 0 <= ms_ssim_diversity(patches, dice=dice(), pairs=2) < 1


@pytest.mark.parametrize("space", [(32, 32), (16, 16, 16)])
def test_ms_ssim_is_one_for_one_image_and_falls_as_images_differ(space):
    image = torch.rand(1, 3, *space, generator=dice(1)) * 2 - 1
    noise = torch.rand(12, 3, *space, generator=dice(2)) * 2 - 1
    same = image.repeat(12, *[1] * (image.ndim - 1))
    found = [
        ms_ssim_diversity(same * (1 - share) + noise * share, dice=dice(), pairs=20)
        for share in (0.0, 0.3, 0.6, 1.0)
    ]
    assert found[0] == pytest.approx(1, abs=1e-4)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5


def test_ms_ssim_pairs_never_hold_one_patch_twice_and_follow_the_dice():
    # Of two patches there is one pair: every draw of pairs gives the same figure, never that of a copy.
    patches = torch.rand(2, 2, 32, 32, generator=dice(1)) * 2 - 1
    one, other = (ms_ssim_diversity(patches, dice=dice(seed), pairs=50) for seed in (3, 4))
    assert one == pytest.approx(other, abs=1e-6)
    many = torch.rand(30, 2, 32, 32, generator=dice(1)) * 2 - 1
    assert ms_ssim_diversity(many, dice=dice(3)) == ms_ssim_diversity(many, dice=dice(3))
    assert ms_ssim_diversity(many, dice=dice(3)) != ms_ssim_diversity(many, dice=dice(4))


def test_ms_ssim_refuses_what_has_no_pair():
    with pytest.raises(ValueError, match="got 1 patches"):
        ms_ssim_diversity(torch.zeros(1, 2, 32, 32), dice=dice())
    with pytest.raises(ValueError, match=r"at least 7 pixels a side, got \(32, 6\)"):
        ms_ssim_diversity(torch.zeros(2, 2, 32, 6), dice=dice())


def test_unfit_patches_are_refused():
    good = torch.zeros(3, 2, 8, 8)
    check_patches(good)
    with pytest.raises(ValueError, match=r"reference must be .* got \(3, 1, 8, 8\)"):
        check_patches(good[:, :1], place="reference")
    with pytest.raises(ValueError, match="at least one patch"):
        check_patches(good[:0])
    with pytest.raises((ValueError, TypeCheckError), match=r"\(8, 8\)|f32\[8,8\]"):
        check_patches(good[0, 0])
    good[1, 0, 2, 2] = math.inf
    with pytest.raises(ValueError, match="infinity in 1 of 3"):
        check_patches(good)
