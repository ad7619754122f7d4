"""The atlas' geometry: bases, distances, warps, registration; and the grey across a border."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from willis.shared.recipes.atlas.frame import (
    FAR,
    border_distance,
    cosines,
    displacement,
    inverse,
    register,
    warp_std,
    warped,
)
from willis.shared.recipes.atlas.inference import lacking
from willis.shared.recipes.atlas.layout import USUAL_POWER
from willis.shared.recipes.atlas.profile import N_PROFILE, places, profile_field, profile_means
from willis.shared.recipes.atlas.question import residual_power

SIZE = (32, 24)


def square(n: int = 1) -> torch.Tensor:
    label = torch.full((n, *SIZE), -1.0)
    label[:, 8:24, 6:18] = 1
    return label


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.5))
def test_a_basis_is_orthonormal_in_the_mean_square(seed: int, highest: float):
    basis = cosines(SIZE, highest=highest)
    coefficients = torch.randn(2, len(basis.waves), generator=torch.Generator().manual_seed(seed))
    planes = basis.draw(coefficients)
    assert_close(basis.analyse(planes), coefficients, rtol=1e-3, atol=1e-3)
    assert_close(planes.square().mean((1, 2)), coefficients.square().sum(1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("highest", [0.0, 0.6, float("nan")])
def test_a_frequency_beyond_the_grid_is_refused(highest: float):
    with pytest.raises(ValueError, match="cycles a pixel"):
        cosines(SIZE, highest=highest)


def test_distance_by_hand():
    # Three of five pixels are inside, their centres 0.5, 1.5 and 0.5 pixels from the border.
    label = torch.full((1, 9, 5), -1.0)
    label[:, :, 1:4] = 1
    assert_close(FAR * border_distance(label)[0, 4], torch.tensor([-0.5, 0.5, 1.5, 0.5, -0.5]))
    assert border_distance(torch.full((1, 4, 4), -1.0)).unique().tolist() == [-1]
    assert border_distance(torch.ones(1, 4, 4)).unique().tolist() == [1]


def test_a_translation_is_undone_by_its_inverse():
    planes = torch.arange(32.0)[:, None].expand(1, 1, *SIZE) + torch.arange(24.0)
    u = torch.tensor([2.0, -1.5])[None, :, None, None].expand(1, 2, *SIZE)
    moved = warped(planes, u)
    assert_close(moved[0, 0, 5:25, 5:20], planes[0, 0, 5:25, 5:20] + 0.5)  # 2 rows down, 1.5 columns left
    back = warped(moved, inverse(u))
    assert_close(back[0, 0, 5:25, 5:20], planes[0, 0, 5:25, 5:20])


def test_registration_finds_a_planted_warp():
    basis = cosines(SIZE, highest=1.5 / SIZE[1])
    template = torch.stack([0.8 * border_distance(square())[0], border_distance(square())[0]])[None]
    planted = warp_std(basis) * torch.randn(
        1, 2 * len(basis.waves), generator=torch.Generator().manual_seed(1)
    )
    patch = warped(template, displacement(planted, basis))
    found = warped(template, displacement(register(template, patch, basis), basis))
    before, after = ((patch - other).square().mean().sqrt() for other in (template, found))
    assert after < 0.3 * before, (before, after)


def test_power_adds_up_to_the_mean_square():
    # Small enough that no band is cut at its most.
    left = 0.05 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert_close(USUAL_POWER * residual_power(left).sum(1), left.square().mean((1, 2)), rtol=1e-4, atol=1e-7)


def test_places_share_every_pixel_near_the_border_and_none_far_off():
    shares = places(square()).sum(1)[0]
    near = border_distance(square())[0] > -1
    assert_close(shares, near.float(), rtol=0, atol=1e-5)
    assert places(torch.full((1, *SIZE), -1.0)).sum() == 0


def test_a_profile_is_read_from_what_it_drew():
    # One place at a time: along straight borders directions do not mix, so the mean at a place is its grey.
    label, profile = square(), torch.zeros(N_PROFILE)
    down_outside = 4 * 4  # ring 4 is the first outside, leaving downwards
    profile[down_outside] = 0.5
    image = profile_field(profile, label)
    means, present = profile_means(image, label)
    assert float(present[0, down_outside]) == 1
    assert int(means[0].argmax()) == down_outside
    assert 0.3 < float(means[0, down_outside]) <= 0.5
    assert float(image[0, 24, 12]) == pytest.approx(0.5, abs=0.02)  # just below the square
    assert float(image[0, 7, 12]) == pytest.approx(0, abs=0.02)  # just above it


def test_what_draws_lack_is_found_as_far_as_noise_lets():
    label = square(4)
    draws = torch.stack([torch.zeros_like(label), label], dim=1)
    wanted = (
        profile_means(profile_field(torch.full((N_PROFILE,), 0.3), label), label)[0].mean(0).double().numpy()
    )
    exact, noisy = (lacking(wanted, draws, std=std) for std in (0.0, 10.0))
    assert abs(exact - wanted)[abs(wanted) > 0].max() < 1e-3
    assert abs(noisy).max() == 0
