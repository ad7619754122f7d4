"""Draws of the prior: seeded, in range, and labels that fit their images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family
from willis.shared.prior.scanner import normalise

families = pytest.mark.parametrize("family", list(Family))
sizes = pytest.mark.parametrize("size", [(40, 48), (16, 24, 20)], ids=["2-D", "3-D"])

# No texture, no other greys, no scanner: an image is tissue of 0.4 and whatever the family drew into it.
CLEAN = {
    "background": (0.4, 0.4),
    "background_spread": (0.0, 0.0),
    "regions": (0.0, 0.0),
    "spots": (0.0, 0.0),
    "discs": (-1.0, -1.0),
    "bumps": (0.0, 0.0),
    "outside": (-1.0, -1.0),
    "gamma": (1.0, 1.0),
    "coarse": (1.0, 1.0),
    "blur": (0.0, 0.0),
    "bias_field": (0.0, 0.0),
    "noise": (0.0, 0.0),
    "gain": (1000.0, 1000.0),
    "contrast": (0.2, 0.2),
}
# Vessels seen exactly where their label is, and nothing that looks like them.
SHARP = {
    "swell": (0.0, 0.0),
    "edge": (0.0, 0.0),
    "lines": (-1.0, -1.0),
    "roundness": (0.0, 0.0),
    "fading": (0.0, 0.0),
}
ALONE = dict.fromkeys(("neighbours", "rim", "white", "fluid", "coat", "abutting"), (0.0, 0.0))
CRISP = dict.fromkeys(("halo", "decoys", "ventricles"), (0.0, 0.0))


def dice(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@families
@sizes
def test_patches_have_shape_type_and_range(family: Family, size: tuple[int, ...]) -> None:
    patches = draw_patches(family, n=4, size=size, generator=dice(0))
    assert patches.shape == (4, 2, *size)
    assert patches.dtype == torch.float32
    assert set(patches[:, 1].unique().tolist()) == {-1.0, 1.0}
    images = patches[:, 0].flatten(1)
    assert bool(((images >= -1) & (images <= 1)).all())
    assert bool((images.std(1) > 0.01).all())


@families
@sizes
def test_same_seed_same_bytes_and_a_patch_does_not_depend_on_n(family: Family, size: tuple[int, ...]) -> None:
    few = draw_patches(family, n=2, size=size, generator=dice(5))
    many = draw_patches(family, n=4, size=size, generator=dice(5))
    other = draw_patches(family, n=2, size=size, generator=dice(6))
    assert torch.equal(few, many[:2])
    assert not torch.equal(many[0], many[2])
    assert not torch.equal(few, other)


def test_a_second_call_on_the_same_generator_gives_other_patches() -> None:
    generator = dice(1)
    first = draw_patches(Family.VESSELS, n=1, size=(16, 16), generator=generator)
    second = draw_patches(Family.VESSELS, n=1, size=(16, 16), generator=generator)
    assert not torch.equal(first, second)


@families
@sizes
@pytest.mark.parametrize("sign", [1, -1])
def test_label_is_exactly_what_stands_out_before_the_scanner(
    family: Family, size: tuple[int, ...], sign: int
) -> None:
    apart = {Family.ORGAN: ALONE, Family.VESSELS: SHARP, Family.LESIONS: CRISP}[family]
    ranges = CLEAN | {"contrast": (0.2 * sign, 0.2 * sign)} | apart
    for seed in range(6):
        image, label = draw_subject(family, size=size, generator=dice(seed), ranges=ranges)
        assert image.dtype == np.float32
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label == 1, sign * (image - 400) > 0.5)


def test_usual_vessels_on_plain_tissue_are_brighter_than_all_of_it() -> None:
    ranges = {name: CLEAN[name] for name in CLEAN if name != "contrast"} | SHARP
    for seed in range(20):
        image, label = draw_subject(Family.VESSELS, size=(48, 48), generator=dice(seed), ranges=ranges)
        assert image[label == 1].min() > image[label == 0].max()


@families
def test_a_subject_is_never_negative_and_scales_with_the_gain(family: Family) -> None:
    one, label = draw_subject(family, size=(32, 40), generator=dice(2), ranges={"gain": (1, 1)})
    many, same = draw_subject(family, size=(32, 40), generator=dice(2), ranges={"gain": (500, 500)})
    assert one.min() >= 0
    np.testing.assert_allclose(many, 500 * one, rtol=1e-5)
    np.testing.assert_array_equal(label, same)


def test_a_patch_is_the_normalised_image_of_the_same_draw() -> None:
    plain = {"margin_low": (0.0, 0.0), "margin_high": (0.0, 0.0)}
    patch = draw_patches(Family.LESIONS, n=1, size=(24, 24), generator=dice(9), ranges=plain)[0]
    image, label = draw_subject(Family.LESIONS, size=(24, 24), generator=dice(9), ranges=plain)
    low, high = np.percentile(image, [0.5, 99.5])
    expected = np.clip((image - low) / (high - low) * 2 - 1, -1, 1)
    np.testing.assert_allclose(patch[0].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(patch[1].numpy() > 0, label == 1)


@pytest.mark.parametrize("family", [Family.VESSELS, Family.ORGAN])
@pytest.mark.parametrize(("n", "size"), [(150, (32, 32)), (20, (16, 16, 16))])
def test_vessels_and_organ_labels_are_never_empty_nor_full(
    family: Family, n: int, size: tuple[int, ...]
) -> None:
    share = (draw_patches(family, n=n, size=size, generator=dice(0))[:, 1] > 0).float().flatten(1).mean(1)
    assert float(share.min()) > 0
    assert float(share.max()) < 0.95


def test_lesion_labels_are_rarely_empty() -> None:
    labels = draw_patches(Family.LESIONS, n=200, size=(48, 48), generator=dice(0))[:, 1] > 0
    assert int(labels.flatten(1).any(1).sum()) >= 198


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(Family)),
    st.one_of(st.tuples(*[st.integers(8, 70)] * 2), st.tuples(*[st.integers(8, 20)] * 3)),
    st.integers(0, 2**32 - 1),
)
def test_any_size_and_seed_draws(family: Family, size: tuple[int, ...], seed: int) -> None:
    patches = draw_patches(family, n=1, size=size, generator=dice(seed))
    assert patches.shape == (1, 2, *size)
    assert bool(torch.isfinite(patches).all())
    assert float(patches.abs().max()) <= 1


@pytest.mark.parametrize("size", [(48,), (7, 48), (8, 8, 8, 8), ()])
def test_unfit_size_is_refused_with_its_value(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="size must be two or three numbers of at least 8"):
        draw_patches(Family.VESSELS, n=1, size=size, generator=dice(0))


def test_unfit_number_and_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="n must not be negative, got -1"):
        draw_patches(Family.VESSELS, n=-1, size=(16, 16), generator=dice(0))
    with pytest.raises(ValueError, match="unknown: shine"):
        draw_subject(Family.VESSELS, size=(16, 16), generator=dice(0), ranges={"shine": (0, 1)})
    assert draw_patches(Family.VESSELS, n=0, size=(16, 16), generator=dice(0)).shape == (0, 2, 16, 16)


def test_normalise_by_hand() -> None:
    # Of 0 .. 1000 the percentiles are 5 and 995; a margin of 1 below makes the span -985 .. 995.
    image = np.arange(1001, dtype=np.float32)
    plain = normalise(image)
    assert plain[5] == pytest.approx(-1)
    assert plain[500] == pytest.approx(0, abs=1e-6)
    assert plain[0] == -1
    assert plain[1000] == 1
    widened = normalise(image, margin_low=1.0)
    assert widened[5] == pytest.approx(0, abs=1e-6)
    assert widened[995] == pytest.approx(1)


def test_a_constant_image_normalises_to_zero() -> None:
    assert not normalise(np.full((9, 9), 7.0, np.float32)).any()
