"""Random-convolution features: they see image and label together, and nothing but the patch."""

import math

import numpy as np
import pytest
import torch

from willis.shared.likeness.features import DIRECTIONS, RandomFeatures
from willis.shared.likeness.frechet import frechet_distance
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family


@pytest.fixture(scope="module")
def vessels() -> torch.Tensor:
    """Two halves of patches that one prior drew."""
    return draw_patches(Family.VESSELS, n=400, size=(32, 32), generator=np.random.default_rng(5))


@pytest.fixture(scope="module")
def features(vessels) -> RandomFeatures:
    return RandomFeatures.fitted_on(vessels[:200], seed=3)


def distance(features: RandomFeatures, one: torch.Tensor, other: torch.Tensor) -> float:
    return frechet_distance(features.of(one), features.of(other))


def noise_like(patches: torch.Tensor) -> torch.Tensor:
    return torch.rand(patches.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_training_patches_are_white(vessels, features):
    found = features.of(vessels[:200])
    assert found.shape == (200, DIRECTIONS)
    torch.testing.assert_close(found.mean(0), torch.zeros(24).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.T @ found / 200, torch.eye(24).double(), atol=1e-4, rtol=0)


def test_real_lies_nearer_to_real_than_noise_does(vessels, features):
    apart = distance(features, vessels[200:], vessels[:200])
    assert 0 < 10 * apart < distance(features, noise_like(vessels[200:]), vessels[:200])


def test_labels_shuffled_against_their_images_are_seen(vessels, features):
    others = vessels[200:]
    shuffled = others.clone()
    shuffled[:, -1] = others[:, -1].roll(1, 0)
    # Image by image and label by label the two sets are the same; only what belongs together is not.
    real, seen = (distance(features, one, vessels[:200]) for one in (others, shuffled))
    assert seen > 2 * real


def test_copies_of_training_patches_look_better_than_other_real_patches(vessels, features):
    # No likeness metric sees memorisation: this is why the audit is printed beside it.
    copies = vessels[:200].roll(7, 0)
    assert distance(features, copies, vessels[:200]) == pytest.approx(0, abs=1e-6)
    assert distance(features, copies, vessels[:200]) < distance(features, vessels[200:], vessels[:200])


def test_a_patch_s_features_depend_on_that_patch_and_on_the_seed(vessels, features):
    whole = features.of(vessels[:70])
    torch.testing.assert_close(features.of(vessels[65:66]), whole[65:66], atol=1e-3, rtol=1e-3)
    again = RandomFeatures.fitted_on(vessels[:200], seed=3)
    torch.testing.assert_close(again.of(vessels[:70]), whole)
    other = RandomFeatures.fitted_on(vessels[:200], seed=4)
    assert float((other.of(vessels[:70]) - whole).abs().max()) > 0.1


@pytest.mark.parametrize("shape", [(40, 4, 16, 16), (40, 2, 8, 9, 10), (40, 3, 8, 8, 8)])
def test_any_number_of_channels_in_two_and_three_dimensions(shape):
    patches = noise_like(torch.empty(shape))
    features = RandomFeatures.fitted_on(patches, seed=1)
    whole = features.of(patches)
    assert whole.shape == (40, DIRECTIONS)
    for channel in range(shape[1]):  # every one of them counts
        changed = patches.clone()
        changed[:, channel] *= 0.5
        assert float((features.of(changed) - whole).abs().max()) > 0.1, channel


def test_unfit_patches_are_refused(vessels, features):
    with pytest.raises(ValueError, match=r"2-D with 2 channels .* got \(5, 3, 32, 32\)"):
        features.of(torch.zeros(5, 3, 32, 32))
    with pytest.raises(ValueError, match=r"2-D with 2 channels .* got \(5, 2, 8, 8, 8\)"):
        features.of(torch.zeros(5, 2, 8, 8, 8))
    spoilt = vessels[:3].clone()
    spoilt[1, 1, 4, 4] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 3"):
        features.of(spoilt)
    with pytest.raises(ValueError, match="training patches must be finite"):
        RandomFeatures.fitted_on(spoilt, seed=1)


def test_training_patches_that_tell_too_little_are_refused(vessels):
    with pytest.raises(ValueError, match="at least 25 training patches, got 24"):
        RandomFeatures.fitted_on(vessels[:24], seed=1)
    with pytest.raises(ValueError, match="vary in 24 directions, got 9: are they copies"):
        RandomFeatures.fitted_on(vessels[:10].repeat(5, 1, 1, 1), seed=1)
    with pytest.raises(ValueError, match="vary in 24 directions, got 0"):
        RandomFeatures.fitted_on(vessels[:1].repeat(30, 1, 1, 1), seed=1)
