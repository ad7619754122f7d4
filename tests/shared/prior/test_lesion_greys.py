"""Lesions by hand on plain tissue: border, core, texture, halo, decoys, ventricles, mass effect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from scipy import ndimage
from skimage import measure

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family, parameters_of
from willis.shared.prior.lesion_surroundings import draw_ventricles, pushed_aside
from willis.shared.prior.tissue import Tissue

# One round lesion of 400 + 200 in plain tissue of 400, radius 8, sharp and even; nothing about it.
BARE = {
    **dict.fromkeys(("background_spread", "regions", "spots", "blur", "bias_field", "noise"), (0.0, 0.0)),
    **dict.fromkeys(("irregularity", "contrast_spread", "softness", "core", "core_size"), (0.0, 0.0)),
    **dict.fromkeys(("lesion_spread", "halo", "halo_width", "halo_labelled", "decoys"), (0.0, 0.0)),
    **dict.fromkeys(("outside", "ventricles", "mass_effect"), (-1.0, -1.0)),
    "lesions": (1.0, 1.0),
    "radius": (8.0, 8.0),
    "stretch": (1.0, 1.0),
    "background": (0.4, 0.4),
    "contrast": (0.2, 0.2),
    "fluid": (-0.3, -0.3),
    "gain": (1000.0, 1000.0),
}


def drawn(seed: int = 0, **changed: float) -> tuple[ndarray, ndarray]:
    ranges = BARE | {name: (value, value) for name, value in changed.items()}
    return draw_subject(Family.LESIONS, size=(48, 48), generator=np.random.default_rng(seed), ranges=ranges)


def whole(**changed: float) -> tuple[ndarray, ndarray]:
    """A lesion that lies wholly within the image."""
    for seed in range(50):
        image, label = drawn(seed, **changed)
        edges = label[0].any() or label[-1].any() or label[:, 0].any() or label[:, -1].any()
        if not edges and label.any():
            return image, label
    raise AssertionError("no lesion of 50 lies within the image")


def depth_of(label: ndarray) -> ndarray:
    return np.asarray(ndimage.distance_transform_edt(label))


def test_a_bare_lesion_is_an_even_disc() -> None:
    image, label = whole()
    assert sorted({round(float(value)) for value in np.unique(image)}) == [400, 600]
    np.testing.assert_array_equal(label == 1, image > 500)
    assert int(label.sum()) == pytest.approx(np.pi * 64, rel=0.05)


def test_a_soft_border_fades_inside_the_label_and_never_vanishes() -> None:
    image, label = whole(softness=4.0)
    depth = depth_of(label)
    np.testing.assert_array_equal(label == 1, image > 400.5)
    assert float(image[depth > 5].min()) == pytest.approx(600, abs=1)
    assert float(image[depth == 1].max()) < 500
    assert float(image[label == 1].min()) >= 430 - 1e-2  # 0.15 of the contrast


def test_a_core_is_darker_and_reaches_as_far_as_it_is_told() -> None:
    image, label = whole(core=-0.5, core_size=0.5)
    depth = depth_of(label)
    assert float(image[depth > 7].min()) == pytest.approx(500, abs=12)
    np.testing.assert_allclose(image[(depth > 0) & (depth < 3)], 600, atol=0.5)


def test_texture_varies_the_lesion_alone() -> None:
    image, label = whole(lesion_spread=0.2)
    assert 10 < float(image[label == 1].std()) < 80
    assert float(np.abs(image[label == 0] - 400).max()) < 0.01


@pytest.mark.parametrize("labelled", [0.0, 1.0])
def test_a_halo_surrounds_the_lesion_and_is_labelled_on_request(labelled: float) -> None:
    image, label = whole(halo=0.5, halo_width=4.0, halo_labelled=labelled)
    lesion = image > 599.5
    around = np.asarray(ndimage.distance_transform_edt(~lesion))
    assert float(image[(around > 0) & (around <= 1)].min()) > 450
    np.testing.assert_allclose(image[around > 5.5], 400, atol=0.01)
    np.testing.assert_array_equal(label == 1, image > 400 + 1e-2 if labelled else lesion)


def test_decoys_look_like_lesions_and_are_not_labelled() -> None:
    for seed in range(4):
        image, label = drawn(seed, lesions=0.0, decoys=6.0, decoy_radius=2.0, decoy_contrast=1.0)
        assert not label.any()
        assert float(image.max()) > 450
        assert float((image > 401).mean()) < 0.3


def test_ventricles_are_dark_and_no_lesion_lies_in_them() -> None:
    seen = 0
    for seed in range(12):
        image, label = drawn(seed, lesions=4.0, ventricles=12.0, midline=2.0, contrast=-0.1)
        dark = image < 150
        assert not (dark & (label == 1)).any()
        seen += int(dark.sum())
    assert seen > 100


def test_ventricles_mirror_each_other_by_hand() -> None:
    values = {"ventricles": 10.0, "midline": 0.0}
    size, smooth = (61, 61), np.zeros((61, 61), np.float32)
    both = [
        draw_ventricles(size, smooth, values=values, generator=np.random.default_rng(s)) for s in range(9)
    ]
    counts = [int(np.max(np.asarray(measure.label(pair, connectivity=1)))) for pair in both]
    assert max(counts) == 2
    area = max(int(pair.sum()) for pair in both)
    # Two ellipses of half axes 10 and 2.5 to 4.5.
    assert 0.8 * 2 * np.pi * 10 * 2.5 < area < 1.2 * 2 * np.pi * 10 * 4.5
    off = values | {"ventricles": 0.0}
    assert not draw_ventricles(size, smooth, values=off, generator=np.random.default_rng(0)).any()


def test_a_lesion_pushes_tissue_outwards_by_hand() -> None:
    # Brightness equals the column. A lesion of radius 8 at the middle pushes what lies at its border outwards
    # by 3: the border on the right shows what was 3 to the left, the one on the left 3 to the right.
    rows, columns = np.mgrid[:41, :41].astype(np.float32)
    depth = 8 - np.hypot(rows - 20, columns - 20).astype(np.float32)
    tissue = Tissue(columns, np.ones((41, 41), bool))
    change = pushed_aside(tissue, [(depth, 8.0)], 3.0)
    assert change[20, 28] == pytest.approx(-3, abs=0.1)
    assert change[20, 12] == pytest.approx(3, abs=0.1)
    assert abs(float(change[20, 40])) < 1
    assert abs(float(change[28, 20])) < 0.1
    assert not pushed_aside(tissue, [(depth, 8.0)], -1.0).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 9), (30, 26), (9, 12, 8)]), st.data())
def test_any_parameters_give_a_label_and_a_finite_image(
    seed: int, size: tuple[int, ...], data: st.DataObject
) -> None:
    table = parameters_of(Family.LESIONS)
    ranges = {}
    for name in list(table)[: list(table).index("mass_effect") + 1]:
        at = data.draw(st.floats(table[name].least, table[name].most))
        ranges[name] = (at, at)
    patch = draw_patches(Family.LESIONS, n=1, size=size, generator=np.random.default_rng(seed), ranges=ranges)
    assert bool(patch.isfinite().all())
    assert set(patch[:, 1].unique().tolist()) <= {-1.0, 1.0}
