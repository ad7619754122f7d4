"""The prior in images larger than a patch: structures keep their size in pixels, and come as densely."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from willis.shared.prior.draw import draw_patches
from willis.shared.prior.enlarged import enlarged_ranges
from willis.shared.prior.families import Family, check_ranges, ranges_of
from willis.shared.prior_draws import prior_patch
from willis.shared.prior_volumes import prior_volume

PATCH, LARGE = (24, 24, 24), (48, 48, 48)


@pytest.mark.parametrize("family", list(Family))
def test_at_the_size_of_a_patch_nothing_changes(family):
    assert enlarged_ranges(family, {}, patch=PATCH, size=PATCH) == ranges_of(family, {})


def test_what_is_told_in_images_by_hand():
    given_ranges = {"extent": (0.2, 0.4), "regions": (1.0, 7.0), "radius": (2.0, 3.0)}
    vessels = {name: given_ranges[name] for name in ("regions", "radius")}
    found = enlarged_ranges(Family.VESSELS, vessels, patch=(8, 16, 16), size=(64, 16, 16))
    assert found["regions"] == (2.0, 12.0), (
        "sides are twice as long in the mean (8 ** (1 / 3)); 12 is the most"
    )
    assert found["radius"] == (2.0, 3.0), "pixels stay pixels"
    organ = {name: given_ranges[name] for name in ("extent", "regions")}
    found = enlarged_ranges(Family.ORGAN, organ, patch=(8, 16, 16), size=(16, 32, 16))
    assert found["extent"] == (0.1, 0.2), "half a length of 3.2 to 6.4 pixels, of 32 instead of 16"


def test_an_organ_that_would_be_too_small_a_share_is_refused():
    ranges = {"extent": (0.25, 0.4)}
    enlarged_ranges(Family.ORGAN, ranges, patch=(16, 16, 16), size=(80, 16, 16))
    with pytest.raises(ValueError, match=r"the longest side must be at most 80"):
        enlarged_ranges(Family.ORGAN, ranges, patch=(16, 16, 16), size=(81, 16, 16))
    with pytest.raises(ValueError, match="size must have 3 numbers"):
        enlarged_ranges(Family.ORGAN, ranges, patch=(16, 16, 16), size=(32, 32))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(Family)), st.lists(st.integers(24, 80), min_size=3, max_size=3))
def test_ranges_stay_within_their_bounds(family, sides):
    check_ranges(family, enlarged_ranges(family, {}, patch=PATCH, size=tuple(sides)))


@pytest.mark.parametrize("family", [family.value for family in Family])
def test_a_volume_of_the_size_of_a_patch_is_that_patch(tiny_study, family):
    study = tiny_study(patch={"size": [12, 16, 8]}, prior={"family": family})
    for seed in (1, 2):
        patch = prior_patch(study, torch.Generator().manual_seed(seed))
        volume = prior_volume(study, torch.Generator().manual_seed(seed), size=(12, 16, 8))
        assert torch.equal(patch, volume)


def labels(family: Family, size: tuple[int, ...], *, n: int, ranges: dict) -> np.ndarray:
    used = enlarged_ranges(family, ranges, patch=PATCH, size=size)
    drawn = draw_patches(family, n=n, size=size, generator=np.random.default_rng(3), ranges=used)
    return drawn[:, 1].numpy() > 0


def thickest(masks: np.ndarray) -> float:
    """Mean over images of the largest distance to the border, in pixels; an image's own border is none."""
    padded = [np.pad(mask, 1, mode="edge") for mask in masks if mask.any()]
    return float(np.mean([np.asarray(ndimage.distance_transform_edt(mask)).max() for mask in padded]))


def test_an_organ_keeps_its_size_in_pixels():
    """Without the change it would be 8 times as large: 2 ** 3."""
    small, large = (labels(Family.ORGAN, size, n=24, ranges={}) for size in (PATCH, LARGE))
    voxels = [masks.sum((1, 2, 3)).mean() for masks in (small, large)]
    assert 0.8 < voxels[1] / voxels[0] < 2, "a patch cuts off what reaches beyond it"


def test_lesions_keep_their_size_and_density():
    """2 in a patch, 16 in 8 times the room: the largest grows until they have the same volume in the mean."""
    ranges = {"lesions": (16, 16), "radius": (4, 4), "stretch": (1, 1), "irregularity": (0, 0)}
    ranges |= {"clustering": (0, 0), "ventricles": (-1, -1), "outside": (-1, -1)}
    found = enlarged_ranges(Family.LESIONS, ranges, patch=PATCH, size=LARGE)
    # The largest counts 1, the others the mean of u ** 3 over 1/4 to 1, 0.332.
    by_hand = 4 * ((1 + 0.332) / 2 / ((1 + 15 * 0.332) / 16)) ** (1 / 3)
    assert found["radius"] == pytest.approx((by_hand, by_hand), abs=1e-3)
    small, large = (labels(Family.LESIONS, size, n=n, ranges=ranges) for size, n in ((PATCH, 64), (LARGE, 8)))
    assert 3.5 < thickest(large) <= 6.5, "4.84 pixels, and what flows together"
    assert large.mean() / small.mean() == pytest.approx(1, abs=0.25), "a patch cuts off what reaches beyond"


def test_counts_are_those_that_a_patch_has_by_hand():
    """In 24 x 24 x 24, an eighth of the room, 2 to 10 give 1 below 12: one in an eighth is 8."""
    told = {"lesions": (2.0, 10.0), "decoys": (0.0, 2.0), "spots": (-3.0, 0.4), "clustering": (0.2, 1.0)}
    found = enlarged_ranges(Family.LESIONS, told, patch=PATCH, size=LARGE)
    assert found["lesions"] == pytest.approx((8, 8))
    # None below 0.5, then one: 0 for a quarter of the values, 8 for the rest; the line nearest to it rises by
    # 12 times the mean of (u - 1/2) Q(u), which is 8 (1 - 1/16 - 3/4) / 2 = 3/4: by 9 about the mean of 6.
    assert found["decoys"] == pytest.approx((1.5, 10.5), abs=0.02)
    assert found["spots"] == (0, 0), "never one in a patch, never one in a volume"
    assert found["clustering"] == pytest.approx((0.1, 0.5)), "as many pixels of twice as many"
    vessels = {"trees": (0.6, 2.4), "lines": (-1.0, 1.5), "discs": (1.0, 1.0), "disc_radius": (10.0, 10.0)}
    found = enlarged_ranges(Family.VESSELS, vessels, patch=PATCH, size=LARGE)
    assert found["trees"] == pytest.approx((4, 4)), "one across 24 voxels is four across 48"
    assert found["lines"] == (0, 0)
    assert found["discs"] == pytest.approx((62**3 / 38**3,) * 2), "centres lie up to 7 voxels beyond an image"


def test_the_mean_is_kept_as_far_as_bounds_let_it():
    """One lesion in 8 x 8 x 8 is 216 in 48 x 48 x 48, and there may be 60."""
    found = enlarged_ranges(Family.LESIONS, {}, patch=(8, 8, 8), size=(16, 16, 16))
    assert found["lesions"] == (60, 60)
    few = enlarged_ranges(Family.LESIONS, {"decoys": (0, 0.6)}, patch=PATCH, size=LARGE)["decoys"]
    assert few[0] == 0
    assert sum(few) / 2 == pytest.approx(8 / 6, abs=0.02), "one in a patch of six"


@pytest.mark.slow
@pytest.mark.parametrize("family", [Family.LESIONS, Family.VESSELS])
@pytest.mark.parametrize(("side", "large", "before"), [(16, 40, 0.3), (24, 48, 0.5), (32, 64, 0.65)])
def test_the_familys_own_ranges_mark_as_much_of_a_volume_as_of_a_patch(family, side, large, before):
    """The radius in eight steps, so that few volumes tell: the share of label is known within some 15 %.

    Power: with the ranges as they are told, a volume has less than ``before`` of a patch's share.
    """
    low, high = ranges_of(family, {})["radius"]
    shares: dict[str, float] = dict.fromkeys(("patch", "volume", "as told"), 0.0)
    for step in range(8):
        radius = low + (high - low) * (step + 0.5) / 8
        own = {"radius": (radius, radius)}
        used = enlarged_ranges(family, own, patch=(side,) * 3, size=(large,) * 3)
        asked = {"patch": (side, 40, own), "volume": (large, 4, used), "as told": (large, 4, own)}
        for kind, (sides, n, ranges) in asked.items():
            dice = np.random.default_rng([step, 5])
            drawn = draw_patches(family, n=n, size=(sides,) * 3, generator=dice, ranges=ranges)
            shares[kind] += float((drawn[:, 1] > 0).float().mean()) / 8
    assert 0.6 < shares["volume"] / shares["patch"] < 1.6, shares
    assert shares["as told"] / shares["patch"] < before, shares


def test_vessels_keep_their_size_and_density():
    """One trunk across 24 voxels, four across 48: the same length a voxel of room, as thick."""
    ranges = {"radius": (2, 2), "outside": (-1, -1), "trees": (4, 4), "loops": (-1, -1)}
    ranges |= dict.fromkeys(("radius_spread", "branching", "paired", "taper", "beading"), (0, 0))
    small, large = (
        labels(Family.VESSELS, size, n=n, ranges=ranges) for size, n in ((PATCH, 48), (LARGE, 12))
    )
    assert thickest(large) == pytest.approx(thickest(small), abs=1)
    assert large.mean() / small.mean() == pytest.approx(1, abs=0.3)
