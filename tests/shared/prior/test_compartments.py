"""What touches the organ, by hand on plain tissue: layers, folds, large body, pools; and its own greys."""

import numpy as np
import pytest
from numpy import ndarray
from scipy import ndimage
from skimage import measure

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family
from willis.shared.prior.folded import draw_folds

# Plain tissue of 400, an organ of 400 - 100, smooth and straight along the columns; nothing about it.
OFF = ("background_spread", "regions", "spots", "blur", "bias_field", "noise", "bend", "taper", "arch", "cut")
BARE = {
    **dict.fromkeys(OFF, (0.0, 0.0)),
    **dict.fromkeys(("irregularity", "lobes", "offset", "angle", "neighbours", "inner_spread"), (0.0, 0.0)),
    **dict.fromkeys(("inner_slope", "stripe", "coat", "rim", "rim_width", "through"), (0.0, 0.0)),
    **dict.fromkeys(("outside", "bed", "horn", "mass", "pools", "folds", "abutting"), (-1.0, -1.0)),
    "extent": (0.3, 0.3),
    "elongation": (2.0, 2.0),
    "background": (0.4, 0.4),
    "contrast": (-0.1, -0.1),
    "white": (0.3, 0.3),
    "fluid": (-0.3, -0.3),
    "gain": (1000.0, 1000.0),
}
SIZE = (40, 40)


def drawn(seed: int = 0, **changed: float) -> tuple[ndarray, ndarray]:
    ranges = BARE | {name: (value, value) for name, value in changed.items()}
    return draw_subject(Family.ORGAN, size=SIZE, generator=np.random.default_rng(seed), ranges=ranges)


def greys(image: ndarray) -> list[int]:
    return sorted({round(float(value)) for value in np.unique(image)})


def test_bare_organ_on_plain_tissue_has_two_greys() -> None:
    image, label = drawn()
    assert greys(image) == [300, 400]
    np.testing.assert_array_equal(label == 1, image < 350)


def test_a_bed_is_a_bright_layer_near_the_organ() -> None:
    for seed in range(4):
        image, label = drawn(seed, bed=4.0)
        away = np.asarray(ndimage.distance_transform_edt(label == 0))
        assert greys(image) == [300, 400, 700]
        assert float(away[image > 600].max()) < 4 + 0.5 * 4  # the border wanders by half a pixel
        np.testing.assert_array_equal(label == 1, image < 350)


def test_a_horn_is_fluid_on_one_side_between_organ_and_bed() -> None:
    dark = np.concatenate([np.argwhere(drawn(seed, horn=4.0)[0] < 200) for seed in range(8)])
    assert len(dark) > 20
    # The long axis lies along the columns, so the second axis is along the rows: the horn lies below 19.5.
    assert float(np.mean(dark[:, 0] > 19.5)) > 0.9
    image, label = drawn(1, horn=4.0, bed=6.0)
    assert {100, 300, 700} <= set(greys(image))
    touching = ndimage.binary_dilation(label == 1) & (label == 0) & (image < 200)
    assert touching.any()


def test_the_large_body_lies_beyond_its_gap_on_the_horns_side() -> None:
    image, label = drawn(mass=3.0)
    bright = np.argwhere(image > 420)
    assert len(bright) > 100
    assert float(bright[:, 0].mean()) > 26
    np.testing.assert_array_equal(label == 1, image < 350)


def test_pools_cover_their_share_and_absent_ones_none() -> None:
    shares = [float((drawn(seed, pools=0.2, presence=0.0)[0] < 200).mean()) for seed in range(3)]
    assert shares == pytest.approx([0.2] * 3, abs=0.01)


def test_a_body_of_the_same_grey_abuts_the_head_and_is_not_labelled() -> None:
    image, label = drawn(abutting=1.0)
    alike = (image < 350) & (label == 0)
    assert alike.any()
    assert float(np.argwhere(alike)[:, 1].mean()) < 19.5 - 12  # beyond the head, at the start of the columns
    assert int(np.max(np.asarray(measure.label(image < 350, connectivity=1)))) == 1


def test_the_organs_own_greys_by_hand() -> None:
    plain, label = drawn()
    sloped, _ = drawn(inner_slope=0.05)
    change = (sloped - plain)[19]
    ends = np.flatnonzero(label[19])
    assert change[ends[-1]] == pytest.approx(50 * 11.5 / 12, abs=3)
    assert change[ends[0]] == pytest.approx(-50 * 11.5 / 12, abs=3)
    striped, _ = drawn(stripe=-0.1)
    assert striped[19, 19] < 215
    assert striped[14, 19] == pytest.approx(300)  # 5.5 of 6 pixels away from the axis
    coated, _ = drawn(coat=0.1, coat_width=1.5)
    raised = coated - plain
    assert float(np.abs(raised[label == 0]).max()) < 0.5
    assert float(raised[17:23, 14:26].max()) < 0.5
    assert float(raised.max()) > 50


def test_the_tissues_pattern_shows_through_by_its_share() -> None:
    for share in (0.0, 0.5, 1.0):
        image, label = drawn(through=share, background_spread=0.02)
        inner = float(image[label == 1].std())
        full = float(drawn(through=1.0, background_spread=0.02)[0][label == 1].std())
        assert inner == pytest.approx(share * full, abs=0.5)


def test_straight_folds_by_hand() -> None:
    # Clefts every 20 pixels; within 1 of a cleft fluid, then 4 of grey ribbon, then core: 2 + 8 + 10 of 20.
    across = np.tile(np.arange(200, dtype=np.float32)[:, None], (1, 50))
    values = {
        "fold_spacing": 20.0,
        "fold_parallel": 1.0,
        "ribbon": 4.0,
        "sulcus": 2.0,
        "white": 0.3,
        "fluid": -0.3,
    }
    folds = draw_folds(across, values, np.random.default_rng(0))
    column = folds[:, 0]
    assert set(np.round(np.unique(folds), 3)) == {np.float32(-0.3), 0, np.float32(0.3)}
    cores = np.flatnonzero(np.diff((column > 0).astype(int)) == 1)
    np.testing.assert_allclose(np.diff(cores), 20, atol=3)
    assert float((folds < 0).mean()) == pytest.approx(0.1, abs=0.06)


def test_folds_wander_where_they_are_not_parallel_and_keep_their_ribbon() -> None:
    across = np.zeros((96, 96), np.float32)
    values = {
        "fold_spacing": 16.0,
        "fold_parallel": 0.0,
        "ribbon": 3.0,
        "sulcus": -1.0,
        "white": 0.3,
        "fluid": -0.3,
    }
    folds = draw_folds(across, values, np.random.default_rng(1))
    assert not (folds < 0).any()
    thickness = np.asarray(ndimage.distance_transform_edt(folds == 0))[folds == 0]
    assert float(np.percentile(thickness, 90)) == pytest.approx(2.5, abs=1.0)


def test_what_lies_outside_the_tissue_stays_dark() -> None:
    ranges = {
        "outside": (0.4, 0.4),
        "outside_level": (0.0, 0.0),
        "neighbours": (5.0, 5.0),
        "mass": (0.0, 2.0),
    }
    still = dict.fromkeys(("noise", "blur", "coarse", "fluid", "rim"), (0.0, 0.0)) | {"coarse": (1.0, 1.0)}
    for seed in range(6):
        image, label = draw_subject(
            Family.ORGAN, size=(40, 40), generator=np.random.default_rng(seed), ranges=ranges | still
        )
        assert float((image[label == 0] < 1).mean()) > 0.2


def test_volumes_have_compartments_too() -> None:
    ranges = {
        "folds": (1.0, 1.0),
        "mass": (2.0, 4.0),
        "horn": (2.0, 4.0),
        "bed": (2.0, 4.0),
        "pools": (0.1, 0.1),
    }
    patches = draw_patches(
        Family.ORGAN, n=3, size=(20, 24, 22), generator=np.random.default_rng(0), ranges=ranges
    )
    assert bool((patches[:, 1] > 0).flatten(1).any(1).all())
    assert float(patches[:, 0].flatten(1).std(1).min()) > 0.1
