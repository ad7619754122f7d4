"""The parts of the prior by hand: tubes, fields, organ, lesions, scanner, gallery."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray
from PIL import Image
from skimage import measure

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family, parameters_of
from willis.shared.prior.gallery import gallery
from willis.shared.prior.scanner import scan
from willis.shared.prior.tissue import count_in, draw_tissue, power_law_field
from willis.shared.prior.tubes import Raster, Tubes, rasterise
from willis.shared.prior.vessels import shade


def values_of(family: Family, **changed: float) -> dict[str, float]:
    """The middle of every usual range, some replaced."""
    middle = {name: (p.low + p.high) / 2 for name, p in parameters_of(family).items()}
    return middle | changed


def straight(radius: float, along: int, *, length: int, at: tuple[float, float, float]) -> Tubes:
    centres = np.tile(np.array(at, np.float32), (length, 1))
    centres[:, along] += np.arange(length)
    tangents = np.zeros_like(centres)
    tangents[:, along] = 1
    return Tubes(centres, tangents, np.full(length, radius, np.float32))


def test_straight_tube_in_the_plane_by_hand() -> None:
    # Radius 2.2 about row 10, across the image: rows 8 to 12, all 30 columns, 5 x 30 pixels.
    raster = rasterise(straight(2.2, 2, length=30, at=(0, 10, 0)), (20, 30))
    expected = np.zeros((20, 30), bool)
    expected[8:13] = True
    np.testing.assert_array_equal(raster.radius > 0, expected)
    np.testing.assert_allclose(raster.depth[10], 1)
    np.testing.assert_allclose(raster.depth[12], 1 - (2 / 2.2) ** 2, rtol=1e-5)


def test_tube_across_the_plane_is_a_disc_by_hand() -> None:
    # Of the 25 pixels around (8, 8), 4 corners are 2.83 away and 8 beside them 2.24: 13 within 2.1.
    raster = rasterise(straight(2.1, 0, length=5, at=(-2, 8, 8)), (17, 17))
    assert int((raster.radius > 0).sum()) == 13


def test_straight_tube_in_space_by_hand() -> None:
    # Nine pixels of the cross-section are within 1.5 of the axis (3 x 3, corners at 1.41): 9 x 16 voxels.
    raster = rasterise(straight(1.5, 1, length=16, at=(6, 0, 7)), (12, 16, 14))
    assert int((raster.radius > 0).sum()) == 9 * 16


def test_ends_are_round_and_the_widest_tube_wins() -> None:
    short = straight(3.0, 2, length=1, at=(0, 10, 10))
    wide = straight(4.0, 2, length=21, at=(0, 10, 12))
    both = Tubes(
        np.concatenate([short.centres, wide.centres]),
        np.concatenate([short.tangents, wide.tangents]),
        np.concatenate([short.radii, wide.radii]),
    )
    raster = rasterise(both, (21, 40))
    assert raster.radius[10, 7] == 3  # 3 from the short tube's centre, on its rim with the half piece
    assert raster.radius[10, 6] == 0
    assert raster.radius[10, 11] == 4


def test_oblique_tube_agrees_with_a_distance_by_brute_force() -> None:
    generator = np.random.default_rng(4)
    direction = np.array([0.3, 0.5, 0.81])
    direction /= np.linalg.norm(direction)
    centres = (np.array([8.2, 7.1, 3.3]) + np.arange(12)[:, None] * direction).astype(np.float32)
    radii = generator.uniform(0.7, 3.0, 12).astype(np.float32)
    tubes = Tubes(centres, np.tile(direction, (12, 1)).astype(np.float32), radii)
    size = (20, 18, 22)
    voxels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).astype(float)
    expected = np.zeros(size, bool)
    for centre, radius in zip(centres.astype(float), radii, strict=True):
        away = voxels - centre
        along = np.clip(away @ direction, -0.5, 0.5)
        expected |= np.linalg.norm(away - along[..., None] * direction, axis=-1) <= radius
    np.testing.assert_array_equal(rasterise(tubes, size).radius > 0, expected)


def test_thin_vessels_are_fainter_and_the_axis_differs_by_hand() -> None:
    radius, depth = np.array([0.0, 2.0, 2.0], np.float32), np.array([0.0, 0.0, 1.0], np.float32)
    raster = Raster(radius, depth, np.array([0.0, 1.0, 0.5], np.float32))
    values = {"contrast_by_radius": 0.5, "core": 0.2, "core_width": 1.0, "roundness": 0.0, "swell": 0.0}
    got = shade(raster, values)
    faded = 1 - 0.5 / np.e
    np.testing.assert_allclose(got, [0, faded * (1 + 0.2 / np.e), 0.5 * 1.2 * faded], rtol=1e-5)


def test_branches_add_vessel_and_thinner_trunks_take_it_away() -> None:
    def area(**ranges: tuple[float, float]) -> float:
        patches = draw_patches(
            Family.VESSELS,
            n=30,
            size=(48, 48),
            generator=np.random.default_rng(0),
            ranges={"tilt": (0, 0), **ranges},
        )
        return float((patches[:, 1] > 0).float().mean())

    assert area(branching=(0, 0)) < area(branching=(5, 5))
    assert area(radius=(1, 1)) < area(radius=(4, 4))
    assert area(trees=(1, 1)) < area(trees=(4, 4))


@pytest.mark.parametrize(("slope", "size"), [(0.0, (256, 256)), (2.0, (256, 256)), (3.0, (64, 64, 64))])
def test_field_has_the_power_law_that_was_asked_for(slope: float, size: tuple[int, ...]) -> None:
    field = power_law_field(size, slope, np.random.default_rng(0))
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-3)
    window = np.ones(())
    for side in size:
        window = np.multiply.outer(window, np.hanning(side))
    power = np.abs(np.fft.fftn(field * window)) ** 2
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(s) for s in size), indexing="ij")))
    low, high = ((frequency > f) & (frequency < 1.3 * f) for f in (0.08, 0.3))
    measured = np.log(power[low].mean() / power[high].mean()) / np.log(0.3 / 0.08)
    assert measured == pytest.approx(slope + len(size) - 2, abs=0.2)


def test_tissue_by_its_parameters() -> None:
    nothing = {
        "background_spread": 0.0,
        "regions": 0.0,
        "spots": 0.0,
        "discs": 0.0,
        "bumps": 0.0,
        "outside": -1.0,
    }
    plain = values_of(Family.VESSELS, background=0.5, **nothing)
    assert np.ptp(draw_tissue((32, 32), plain, np.random.default_rng(0)).intensity) == 0
    dark = draw_tissue((40, 40), plain | {"outside": 0.25, "outside_level": 0.01}, np.random.default_rng(0))
    assert (~dark.inside).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(dark.intensity[~dark.inside], 0.01)
    regions = draw_tissue((40, 40), plain | {"regions": 3.0, "region_spread": 0.1}, np.random.default_rng(0))
    assert 2 <= len(np.unique(regions.intensity)) <= 4
    spotted = draw_tissue((48, 48), plain | {"spots": 2.0, "spot_contrast": -0.2}, np.random.default_rng(0))
    assert spotted.intensity.min() < 0.45
    assert spotted.intensity.max() == pytest.approx(0.5)


def test_counts_grow_with_the_image_by_hand() -> None:
    # 3 in 48 x 48 are 12 in 96 x 96, and never fewer than one where one was asked for.
    assert count_in((48, 48), 3.0) == 3
    assert count_in((96, 96), 3.0) == 12
    assert count_in((8, 8), 3.0) == 1
    assert count_in((8, 8), 0.4) == 0


@pytest.mark.parametrize("size", [(36, 50), (24, 32, 24)])
def test_the_organ_is_one_piece(size: tuple[int, ...]) -> None:
    for seed in range(12):
        _, label = draw_subject(
            Family.ORGAN, size=size, generator=np.random.default_rng(seed), ranges={"irregularity": (0.5, 1)}
        )
        assert np.max(np.asarray(measure.label(label, connectivity=1))) == 1


def test_even_the_smallest_and_roughest_organ_has_a_pixel() -> None:
    ranges = {
        "extent": (0.05, 0.05),
        "elongation": (8, 8),
        "irregularity": (1, 1),
        "bend": (2, 2),
        "offset": (0.5, 0.5),
    }
    areas = [
        draw_subject(Family.ORGAN, size=(8, 9), generator=np.random.default_rng(seed), ranges=ranges)[1].sum()
        for seed in range(60)
    ]
    assert min(areas) == 1


def test_smooth_straight_organ_is_an_ellipsoid_by_hand() -> None:
    # Half length 0.3 x 40 = 12, half width 12 / 2 = 6: area pi x 12 x 6 = 226; 45 degrees is the diagonal.
    ranges = {
        "extent": (0.3, 0.3),
        "elongation": (2.0, 2.0),
        "angle": (45.0, 45.0),
        "offset": (0.0, 0.0),
    } | dict.fromkeys(("bend", "irregularity", "taper", "arch", "cut", "lobes"), (0.0, 0.0))
    _, label = draw_subject(Family.ORGAN, size=(40, 40), generator=np.random.default_rng(0), ranges=ranges)
    assert int(label.sum()) == pytest.approx(np.pi * 12 * 6, rel=0.03)
    rows, columns = np.nonzero(label)
    assert (rows.mean(), columns.mean()) == pytest.approx((19.5, 19.5))
    axes = np.linalg.eigh(np.cov(rows, columns))[1]
    assert abs(axes[:, 1] @ np.array([1, 1])) == pytest.approx(np.sqrt(2), abs=0.02)


def test_one_round_lesion_is_a_disc_by_hand() -> None:
    ranges = {
        "lesions": (1, 1),
        "radius": (6, 6),
        "stretch": (1, 1),
        "irregularity": (0, 0),
        "outside": (-1, -1),
    }
    areas = [
        draw_subject(Family.LESIONS, size=(48, 48), generator=np.random.default_rng(seed), ranges=ranges)[
            1
        ].sum()
        for seed in range(12)
    ]
    assert max(areas) == pytest.approx(np.pi * 36, rel=0.03)  # some lie partly beyond the border


def test_lesions_lie_inside_the_tissue_and_may_be_absent() -> None:
    ranges = {"outside": (0.4, 0.4), "outside_level": (0, 0), "background": (1, 1), "contrast": (0.5, 0.5)}
    still = dict.fromkeys(("noise", "blur", "background_spread", "regions", "spots"), (0.0, 0.0))
    for seed in range(5):
        image, label = draw_subject(
            Family.LESIONS, size=(48, 48), generator=np.random.default_rng(seed), ranges=ranges | still
        )
        assert image[label == 1].min() > 0
    empty = draw_subject(
        Family.LESIONS, size=(48, 48), generator=np.random.default_rng(0), ranges={"lesions": (0, 0)}
    )
    assert not empty[1].any()


def scanned(**changed: float) -> ndarray:
    plain = {"blur": 0, "bias_field": 0, "noise": 0, "grain": 0, "gain": 1, "gamma": 1, "coarse": 1}
    anatomy = np.zeros((101, 101), np.float32)
    anatomy[50, 50] = 1
    return scan(anatomy + changed.pop("level", 0.0), plain | changed, np.random.default_rng(0))


def test_scanner_parts_by_hand() -> None:
    assert scanned(gain=7).max() == 7
    assert not scanned(level=-2.0).any()
    # A point blurred by sigma 2 peaks at 1 / (2 pi sigma^2) and keeps its sum.
    blurred = scanned(blur=2.0)
    assert blurred.sum() == pytest.approx(1, rel=1e-4)
    assert blurred.max() == pytest.approx(1 / (2 * np.pi * 4), rel=0.02)
    biased = np.log(scanned(level=1.0, bias_field=0.5)[0])
    assert np.abs(biased).max() <= 0.5
    assert np.ptp(biased) > 0.05


@pytest.mark.parametrize("grain", [0.0, 0.8])
def test_noise_of_an_empty_image_is_rayleigh(grain: float) -> None:
    # Mean sigma x sqrt(pi / 2), standard deviation sigma x sqrt(2 - pi / 2).
    noise = scanned(noise=0.1, grain=grain)
    assert noise.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.05)
    assert noise.std() == pytest.approx(0.1 * np.sqrt(2 - np.pi / 2), rel=0.05)


def test_gallery_puts_every_label_below_its_image(tmp_path: Path) -> None:
    patches = torch.full((3, 2, 8, 8), -1.0)
    patches[0, 0] = 1.0
    patches[2, 1] = 1.0
    gallery(patches, tmp_path / "g.png", columns=2)
    picture = np.asarray(Image.open(tmp_path / "g.png"))
    assert picture.shape == (2 * 2 * 10, 2 * 10)
    middles = picture[4::10, 4::10]
    np.testing.assert_array_equal(middles, [[255, 0], [0, 0], [0, 96], [255, 96]])


def test_gallery_of_volumes_shows_the_fullest_slice(tmp_path: Path) -> None:
    patches = torch.full((2, 2, 9, 8, 8), -1.0)
    patches[0, 1, 7] = 1.0  # the slice of most label
    patches[0, 0, 7] = 0.0
    patches[1, 0, 4] = 1.0  # no label: the middle
    gallery(patches, tmp_path / "g.png")
    picture = np.asarray(Image.open(tmp_path / "g.png"))
    np.testing.assert_array_equal(picture[4::10, 4:20:10], [[128, 255], [255, 0]])


def test_gallery_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        gallery(torch.zeros(1, 2, 8, 8), tmp_path / "g.png", columns=0)
    with pytest.raises(ValueError, match=r"at least one, got \(0, 2, 8, 8\)"):
        gallery(torch.zeros(0, 2, 8, 8), tmp_path / "g.png")
