"""What a patch looks like in numbers, and how it is given another look."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray

from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family
from willis.shared.recipes.appearance.statistics import (
    BANDS,
    CALIBRE,
    CELLS,
    GROUPS,
    LEVEL,
    N_STATISTICS,
    calibres,
    measure,
    octaves,
    smooth,
)
from willis.shared.recipes.appearance.transfer import transfer


def bar(width: int, *, inside: float = 0.4, outside: float = -0.1) -> tuple[ndarray, ndarray]:
    """A bar of so many rows across a plane of one grey."""
    label = np.zeros((40, 48), bool)
    label[20 : 20 + width] = True
    return np.where(label, np.float32(inside), np.float32(outside)), label


def drawn(
    seed: int, family: Family = Family.VESSELS, size: tuple[int, ...] = (48, 48)
) -> tuple[ndarray, ndarray]:
    patch = draw_patches(family, n=1, size=size, generator=np.random.default_rng(seed))[0].numpy()
    return patch[0], patch[1] > 0


def profile(values: ndarray) -> ndarray:
    """Calibre by shell: three inside from the border inwards, three outside."""
    return values[CELLS].reshape(4, 6)


def test_groups_part_the_statistics() -> None:
    covered = np.concatenate([np.arange(N_STATISTICS)[group] for group in GROUPS])
    np.testing.assert_array_equal(covered, np.arange(N_STATISTICS))


@pytest.mark.parametrize(("width", "calibre", "shells"), [(1, 0, 1), (3, 1, 2), (5, 2, 3), (9, 3, 3)])
def test_a_bar_by_hand(width: int, calibre: int, shells: int) -> None:
    # Half width (width + 1) / 2 to the next pixel outside: 1, 2, 3, 5. It stands 0.5 above the plane.
    image, label = bar(width)
    values = measure(image, label).values
    assert values[LEVEL][0] == pytest.approx(-0.1)
    np.testing.assert_allclose(values[BANDS], np.log(1e-3), atol=1e-3)
    shown = profile(values)
    assert np.isnan(np.delete(shown, calibre, 0)).all()
    np.testing.assert_allclose(shown[calibre, :shells], 0.5, atol=1e-5)
    np.testing.assert_allclose(shown[calibre, 3:], 0, atol=1e-5)
    shares = np.exp(values[CALIBRE]) - 2e-3
    np.testing.assert_allclose(shares, np.eye(4)[calibre] * width / 40, atol=1e-9)


def test_white_noise_loses_power_by_the_octave() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    values = measure(noise, np.zeros((128, 128), bool)).values
    assert bool((np.diff(values[BANDS][:5]) < -0.3).all())
    assert values[LEVEL][0] == pytest.approx(0, abs=0.005)
    assert np.isnan(values[CELLS]).all()
    # Independent witness: a Gaussian of deviation s leaves white noise 1 / (2 s sqrt(pi)) of its deviation.
    left = smooth(noise, np.ones((128, 128), bool), 2.8)[16:-16, 16:-16].std()
    assert left == pytest.approx(0.1 / (2 * 2.8 * np.sqrt(np.pi)), rel=0.1)


def test_calibres_need_the_label_alone() -> None:
    image, label = drawn(1)
    np.testing.assert_array_equal(calibres(label), measure(image, label).values[CALIBRE])


def test_saturated_pixels_and_full_or_empty_labels_tell_nothing_of_the_background() -> None:
    white = np.ones((32, 32), np.float32)
    nothing = measure(white, np.zeros((32, 32), bool)).values
    assert np.isnan(nothing[: CELLS.stop]).all()
    assert np.isfinite(nothing[CALIBRE]).all()
    full = measure(np.zeros((32, 32), np.float32), np.ones((32, 32), bool)).values
    assert np.isnan(full[: CELLS.stop]).all()
    assert np.exp(full[CALIBRE][-1]) == pytest.approx(1.002)


def test_octaves_add_up_to_the_image() -> None:
    image, label = drawn(2)
    bands, coarse = octaves(image, ~label)
    np.testing.assert_allclose(sum(bands) + coarse, image, atol=1e-5)


def test_smoothing_sees_known_pixels_only() -> None:
    image = np.where(np.arange(40)[:, None] < 20, np.float32(0.3), np.float32(9)) * np.ones(
        (40, 40), np.float32
    )
    np.testing.assert_allclose(smooth(image, image < 1, 2.0), 0.3, atol=1e-6)
    np.testing.assert_allclose(smooth(image, np.zeros_like(image, bool), 2.0), 0.0)


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("size", [(40, 48), (16, 20, 18)], ids=["2-D", "3-D"])
def test_every_family_is_measured_and_mirrored_it_is_the_same(family: Family, size: tuple[int, ...]) -> None:
    for seed in range(3):
        image, label = drawn(seed, family, size)
        values = measure(image, label).values
        assert values.shape == (N_STATISTICS,)
        np.testing.assert_allclose(measure(image[::-1], label[::-1]).values, values, atol=2e-3)


def test_no_change_changes_nothing() -> None:
    image, label = drawn(3)
    assert transfer(image, measure(image, label), np.zeros(N_STATISTICS)) is image


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(-0.5, 0.5))
def test_any_change_stays_in_range_and_leaves_saturated_pixels(seed: int, gain: float, shift: float) -> None:
    image, label = drawn(seed)
    look = measure(image, label)
    change = np.zeros(N_STATISTICS)
    change[BANDS], change[LEVEL], change[CELLS] = gain, shift, shift
    moved = transfer(image, look, change)
    assert np.isfinite(moved).all()
    assert float(np.abs(moved).max()) <= 1
    np.testing.assert_array_equal(moved[~look.seen], image[~look.seen])


def test_a_changed_patch_measures_as_it_was_told() -> None:
    told, got = [], []
    for seed in range(6):
        image, label = drawn(seed)
        look = measure(0.5 * image, label)  # room on both sides
        change = np.zeros(N_STATISTICS)
        change[LEVEL], change[BANDS], change[CELLS] = 0.1, np.log(0.7), 0.05
        moved = measure(transfer(0.5 * image, look, change), label).values - look.values
        told.append(change)
        got.append(moved)
    far = np.ma.masked_invalid(np.array(got) - np.array(told)).mean(0)
    assert abs(far[LEVEL][0]) < 0.02
    assert np.abs(far[BANDS][:5]).max() < 0.15
    inside = np.array([0, 6, 7, 12, 13, 14])  # on the target, by calibre; beside it the background interferes
    assert np.abs(far[CELLS][inside]).max() < 0.03


def test_a_label_is_chosen_not_changed() -> None:
    image, label = drawn(4)
    change = np.zeros(N_STATISTICS)
    change[CALIBRE] = 5.0
    assert transfer(image, measure(image, label), change) is image
