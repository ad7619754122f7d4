"""Semantic maps, by hand and against scipy."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from willis.shared.recipes.translation.maps import blurred, rounded, semantic_map


def patches_of(image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
    label = torch.full_like(image, -1.0) if label is None else label
    return torch.stack([image, label])[None]


def test_levels_by_hand():
    # Four equal steps of [-1, 1] lie at -1, -1/3, 1/3 and 1; -0.7 is nearer to -1, -0.6 nearer to -1/3.
    values = torch.tensor([-1.0, -0.7, -0.6, 0.3, 0.9, 1.2])
    assert_close(rounded(values, 4), torch.tensor([-1.0, -1.0, -1 / 3, 1 / 3, 1.0, 1.0]))
    assert rounded(values, 1).tolist() == [-1.0] * 6


def test_a_map_by_hand():
    image = torch.full((8, 8), -0.6)
    image[:, 4:] = 0.9
    (found,) = semantic_map(patches_of(image), levels=4, blur=0.0)
    assert_close(found[0, :, :4], torch.full((8, 4), -1 / 3))
    assert_close(found[0, :, 4:], torch.ones(8, 4))
    assert bool((found[1] == -1).all())


def test_one_level_leaves_the_label_alone():
    label = torch.where(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0)
    (found,) = semantic_map(patches_of(torch.rand(8, 8), label), levels=1, blur=1.5)
    assert bool((found[0] == -1).all())
    assert_close(found[1], label)


@pytest.mark.parametrize("size", [(16, 20), (9, 12, 10)])
def test_the_blur_agrees_with_scipy(size):
    image = torch.rand((2, 1, *size), generator=torch.Generator().manual_seed(2))
    theirs = np.stack([gaussian_filter(one[0].numpy(), 1.5, mode="mirror", truncate=3.0) for one in image])
    assert_close(blurred(image, 1.5)[:, 0], torch.from_numpy(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("blur", [0.0, 1.5])
@pytest.mark.parametrize("radius", [2, 9])
def test_a_target_leaves_no_trace_in_the_level(blur, radius):
    """A bright lesion in even tissue, and the same tissue without it, have the same level."""
    row, col = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    lesion = (row - 16) ** 2 + (col - 14) ** 2 <= radius**2
    tissue = torch.full((32, 32), 0.2)
    label = torch.where(lesion, 1.0, -1.0)
    with_it = semantic_map(patches_of(torch.where(lesion, 1.0, tissue), label), levels=6, blur=blur)
    without = semantic_map(patches_of(tissue), levels=6, blur=blur)
    assert_close(with_it[:, 0], without[:, 0])


def test_an_inside_takes_after_its_surroundings_not_after_the_whole():
    """A lesion within the brighter half of a patch is filled with that half's level."""
    image = torch.full((32, 32), -1.0)
    image[:, 16:] = 0.6
    label = torch.full((32, 32), -1.0)
    label[10:20, 20:30] = 1.0
    image[10:20, 20:30] = -0.4
    (found,) = semantic_map(patches_of(image, label), levels=11, blur=1.0)
    assert_close(found[0, 10:20, 22:30], torch.full((10, 8), 0.6))


def test_a_patch_that_is_all_label_has_a_level():
    (found,) = semantic_map(patches_of(torch.ones(8, 8), torch.ones(8, 8)), levels=3, blur=1.0)
    assert bool((found[0] == 0).all())


def test_the_first_image_channel_gives_the_level():
    patches = torch.full((1, 3, 8, 8), -1.0)
    patches[:, 1] = 1.0
    assert bool((semantic_map(patches, levels=4, blur=1.0)[:, 0] == -1).all())


@settings(max_examples=25, deadline=None)
@given(
    levels=st.integers(1, 16), blur=st.floats(0, 16), seed=st.integers(0, 99), space=st.sampled_from([2, 3])
)
@example(levels=2, blur=1e-64, seed=0, space=2)
def test_a_map_has_its_levels_and_the_patchs_label(levels, blur, seed, space):
    dice = torch.Generator().manual_seed(seed)
    patches = 2 * torch.rand((2, 2, *[8] * space), generator=dice) - 1
    patches[:, 1] = torch.where(patches[:, 1] > 0, 1.0, -1.0)
    found = semantic_map(patches, levels=levels, blur=blur)
    assert_close(found[:, 1], patches[:, 1])
    steps = torch.linspace(-1, 1, levels) if levels > 1 else torch.tensor([-1.0])
    assert (found[:, 0, ..., None] - steps).abs().amin(dim=-1).max() < 1e-5


@pytest.mark.parametrize(
    ("levels", "blur", "match"), [(0, 1.0, "levels .* got 0"), (2, -1.0, "got -1"), (2, float("nan"), "nan")]
)
def test_bad_values_are_refused(levels, blur, match):
    with pytest.raises(ValueError, match=match):
        semantic_map(torch.zeros(1, 2, 8, 8), levels=levels, blur=blur)
