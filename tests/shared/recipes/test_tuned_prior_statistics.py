"""What a few numbers say of a patch: by hand, on pictures whose answers are known."""

import math

import numpy as np
import pytest
import torch

from willis.shared.recipes.cloud.statistics import STATISTICS, patch_statistics
from willis.shared.recipes.tuned_prior.simulation import features, moments


def picture(target: np.ndarray, *, inside: float, outside: float) -> torch.Tensor:
    image = np.where(target, inside, outside)
    return torch.tensor(np.stack([image, np.where(target, 1.0, -1.0)])[None], dtype=torch.float32)


def of(patches: torch.Tensor) -> dict[str, float]:
    return dict(zip(STATISTICS, patch_statistics(patches)[0].tolist(), strict=True))


def test_statistics_of_a_bar_by_hand():
    target = np.zeros((16, 16), bool)
    target[6:9, 2:14] = True  # 3 x 12 pixels along the last axis
    found = of(picture(target, inside=0.9, outside=-0.9))
    assert found["level"] == pytest.approx(-0.9)
    assert found["contrast"] == pytest.approx(1.8)
    assert found["spread"] == pytest.approx(math.log(0.01), abs=1e-3)  # a flat tissue has the floor alone
    assert found["bright"] == pytest.approx(math.sqrt(36 / 256))
    assert found["dark"] == pytest.approx(math.sqrt(220 / 256))
    assert found["share"] == pytest.approx(math.log(37 / 256))
    # Depths: 1 on the border of the bar, 2 on the 10 pixels within.
    assert found["mean-depth"] == pytest.approx(math.log((26 * 1 + 10 * 2) / 36))
    assert found["most-depth"] == pytest.approx(math.log(2))
    # Variances of 3 and of 12 pixels in a row, each a square: (n^2 - 1) / 12 + 1 / 12.
    assert found["stretch"] == pytest.approx(0.5 * math.log(144 / 9))
    assert found["along"] == pytest.approx((12 - 0.75) / 12.75)
    assert found["across"] == pytest.approx(0, abs=1e-9)
    assert found["pieces"] == pytest.approx(math.log(2))


def test_texture_shows_in_its_band_and_noise_in_the_finest():
    rng = np.random.default_rng(0)
    target = np.zeros((32, 32), bool)
    target[:4, :4] = True
    fine = picture(target, inside=0.0, outside=0.0)
    fine[0, 0] += torch.tensor(0.1 * rng.standard_normal((32, 32)))
    rows = np.sin(2 * np.pi * np.arange(32) / 16)[:, None] * np.ones((1, 32))
    slow = picture(target, inside=0.0, outside=0.0)
    slow[0, 0] += torch.tensor(0.1 * math.sqrt(2) * rows)
    fine_found, slow_found = of(fine), of(slow)
    assert fine_found["spread"] == pytest.approx(slow_found["spread"], abs=0.15)
    assert fine_found["band-1"] > slow_found["band-1"] + 1
    assert fine_found["noise"] > slow_found["noise"] + 1
    assert slow_found["band-4"] > fine_found["band-4"] + 1


def test_a_patch_without_target_or_tissue_says_nothing_of_it():
    empty = of(picture(np.zeros((16, 16), bool), inside=0, outside=0.2))
    full = of(picture(np.ones((16, 16), bool), inside=0.2, outside=0))
    assert math.isnan(empty["contrast"])
    assert math.isnan(empty["mean-depth"])
    assert empty["level"] == pytest.approx(0.2)
    assert math.isnan(full["level"])
    assert full["share"] == pytest.approx(math.log(1 + 1 / 256))
    assert full["most-depth"] == pytest.approx(math.log(16))


def test_a_patch_has_its_statistics_alone_and_3d_has_them_too():
    rng = np.random.default_rng(1)
    patches = torch.tensor(rng.uniform(-1, 1, (3, 2, 10, 9, 8)), dtype=torch.float32)
    together = patch_statistics(patches)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(together[1], patch_statistics(patches[1:2])[0])
    assert patch_statistics(patches[:0]).shape == (0, len(STATISTICS))


def test_features_by_hand():
    # z = 1, -3 (cut from -4) and undefined, which counts as the mean.
    found = features(np.array([[2.0, -8.0, np.nan]]), np.array([1.0, 0, 5]), np.array([1.0, 2, 1]))
    np.testing.assert_allclose(found[0], [1, -3, 0, 0, 8 / math.sqrt(2), -1 / math.sqrt(2)])


def test_moments_leave_out_what_is_not_defined():
    mean, std = moments(np.array([[1.0, np.nan], [3.0, np.nan]]))
    np.testing.assert_allclose(mean, [2, 0])
    np.testing.assert_allclose(std, [1, 1])
