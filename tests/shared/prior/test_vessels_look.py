"""How vessels and their images look: profile, swell, companions, loops, lines, textures, tone, resolution."""

import numpy as np
import pytest
import torch
from numpy import ndarray

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family, parameters_of
from willis.shared.prior.scanner import scan
from willis.shared.prior.tissue import bump_field, draw_tissue
from willis.shared.prior.tubes import Raster, Tubes, rasterise
from willis.shared.prior.vessels import draw_vessels, shade

# The first four are drawn alike by all: one straight, untapered trunk in plain tissue, seen where labelled.
PLAIN = {
    "trees": (1.0, 1.0),
    "radius": (3.0, 3.0),
    "curvature": (0.0, 0.0),
    "taper": (0.0, 0.0),
    "beading": (0.0, 0.0),
    "branching": (0.0, 0.0),
    "paired": (0.0, 0.0),
    "loops": (-1.0, -1.0),
    "tilt": (0.0, 0.0),
    "contrast_by_radius": (0.0, 0.0),
    "fading": (0.0, 0.0),
    "roundness": (0.0, 0.0),
    "core": (0.0, 0.0),
    "swell": (0.0, 0.0),
    "edge": (0.0, 0.0),
    "lines": (-1.0, -1.0),
    "background": (0.5, 0.5),
    "background_spread": (0.0, 0.0),
    "regions": (0.0, 0.0),
    "spots": (-1.0, -1.0),
    "discs": (-1.0, -1.0),
    "bumps": (0.0, 0.0),
    "outside": (-1.0, -1.0),
    "contrast": (0.2, 0.2),
    "gamma": (1.0, 1.0),
    "blur": (0.0, 0.0),
    "bias_field": (0.0, 0.0),
    "noise": (0.0, 0.0),
    "coarse": (1.0, 1.0),
    "gain": (1.0, 1.0),
}


def drawn(seed: int = 0, **ranges: tuple[float, float]) -> tuple[ndarray, ndarray]:
    generator = np.random.default_rng(seed)
    return draw_subject(Family.VESSELS, size=(64, 64), generator=generator, ranges=PLAIN | ranges)


def area(**ranges: tuple[float, float]) -> float:
    return float(np.mean([drawn(seed, **ranges)[1].mean() for seed in range(8)]))


def raster_of(*depths: float) -> Raster:
    ones = np.ones(len(depths), np.float32)
    return Raster(2 * ones, np.array(depths, np.float32), ones)


def look(**changed: float) -> dict[str, float]:
    flat = {"contrast_by_radius": 0.0, "core": 0.0, "core_width": 0.5, "roundness": 0.0, "swell": 0.0}
    return flat | changed


def test_roundness_is_the_depth_of_a_cylinder_by_hand() -> None:
    # Half way to the wall the chord is sqrt(1 - 1/4) of the diameter: depth 3/4, to the power of 1/2.
    got = shade(raster_of(1.0, 0.75), look(roundness=0.5))
    np.testing.assert_allclose(got, [1.0, np.sqrt(0.75)], rtol=1e-6)


def test_a_reflex_is_a_bell_across_the_vessel_by_hand() -> None:
    # Half width 0.5 of the radius: half way to the wall (1 - depth = 1/4) it is 1/e of that on the axis.
    got = shade(raster_of(1.0, 0.75), look(core=-0.4, core_width=0.5))
    np.testing.assert_allclose(got, [0.6, 1 - 0.4 / np.e], rtol=1e-6)


def test_below_its_label_a_vessel_shows_nothing_by_hand() -> None:
    # Seen up to half the radius: (d / r) ** 2 <= 1/4, that is, depth >= 3/4.
    got = shade(raster_of(1.0, 0.8, 0.7, 0.1), look(swell=-0.5))
    np.testing.assert_allclose(got, [1, 1, 0, 0])


def test_a_swollen_vessel_is_seen_beyond_the_same_label() -> None:
    image, label = drawn()
    swollen, same = drawn(swell=(0.5, 0.5))
    np.testing.assert_array_equal(label, same)
    np.testing.assert_array_equal(label == 1, image > 0.6)
    seen = swollen > 0.6
    assert bool(seen[label == 1].all())
    assert int(seen.sum()) == pytest.approx(1.5 * int(label.sum()), rel=0.15)


def test_the_vessels_own_blur_leaves_tissue_and_label_alone() -> None:
    _, label = drawn()
    blurred, same = drawn(edge=(1.5, 1.5))
    np.testing.assert_array_equal(label, same)
    assert float(blurred.min()) == pytest.approx(0.5)  # far from the vessel, the tissue's own
    assert 0.52 < float(np.median(blurred[(blurred > 0.501) & (label == 0)])) < 0.6


def test_fading_changes_the_contrast_along_a_vessel_and_never_its_sign() -> None:
    image, label = drawn(fading=(0.8, 0.8))
    along = image[label == 1] - 0.5
    assert float(along.std()) > 0.02
    assert float(along.min()) >= 0.2 * 0.1 - 1e-6


def test_polarity_turns_brighter_into_darker_by_as_much() -> None:
    bright, label = drawn()
    dark, same = drawn(polarity=(-1.0, -1.0))
    np.testing.assert_array_equal(label, same)
    np.testing.assert_allclose(bright - 0.5, 0.5 - dark, atol=1e-6)


def test_companions_loops_and_trees_add_vessel() -> None:
    alone = area()
    assert area(paired=(1.0, 1.0)) > 1.3 * alone
    assert area(loops=(3.0, 3.0)) > 1.2 * alone
    assert area(trees=(3.0, 3.0)) > 1.5 * alone


def test_longer_branches_add_vessel() -> None:
    branching = {"branching": (4.0, 4.0)}
    assert area(**branching, branch_length=(120.0, 120.0)) > 1.1 * area(**branching, branch_length=(1.0, 1.0))


def test_single_trees_may_be_fainter_and_the_first_is_not() -> None:
    levels = {
        round(float(level), 4)
        for seed in range(6)
        for level in np.unique(drawn(seed, trees=(3.0, 3.0), contrast_spread=(0.9, 0.9))[0])
    }
    assert 0.7 in levels
    assert any(0.5 < level < 0.69 for level in levels)


def test_lines_are_seen_beside_vessels_and_never_labelled() -> None:
    image, label = drawn()
    lined, same = drawn(lines=(3.0, 3.0), line_contrast=(-0.5, -0.5), line_blur=(0.0, 0.0))
    np.testing.assert_array_equal(label, same)
    np.testing.assert_allclose(lined[label == 1], image[label == 1])
    assert float(lined.min()) >= 0.5 - 0.5 * 0.2 - 1e-6
    assert float((lined < 0.49).mean()) > 0.01


def test_no_vessel_lies_beyond_the_tissue_and_the_label_is_never_empty() -> None:
    for seed in range(30):
        ranges = {"outside": (0.9, 0.9), "outside_level": (1.0, 1.0), "outside_edge": (0.0, 0.0)}
        image, label = drawn(seed, **ranges)
        assert bool(label.any())
        assert not bool(label[image >= 0.99].any())


def test_the_strongest_tube_over_a_pixel_wins() -> None:
    centres = np.array([[0, 5, 5], [0, 5, 6]], np.float32)
    tangents = np.array([[0, 0, 1], [0, 0, 1]], np.float32)
    strengths = np.array([0.3, 0.8], np.float32)
    tubes = Tubes(centres, tangents, np.full(2, 2, np.float32), strengths=strengths)
    raster = rasterise(tubes, (11, 12))
    assert raster.strength[5, 5] == np.float32(0.8)
    assert raster.strength[5, 3] == np.float32(0.3)
    assert raster.strength[0, 0] == 0


@pytest.mark.parametrize("diameter", [2.0, 6.0])
def test_bumps_have_the_size_that_was_asked_for(diameter: float) -> None:
    field = bump_field((256, 256), diameter, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    near = np.abs(np.log(frequency * 2 * diameter, where=frequency > 0, out=np.full_like(power, 9))) < 0.5
    assert power[near].sum() > 0.9 * power.sum()


def test_a_disc_has_its_contrast_and_size() -> None:
    middle = {name: (p.low + p.high) / 2 for name, p in parameters_of(Family.VESSELS).items()}
    flat = {
        "background": 0.5,
        "background_spread": 0.0,
        "regions": 0.0,
        "spots": -1.0,
        "bumps": 0.0,
        "outside": -1.0,
    }
    values = middle | flat | {"discs": 1.0, "disc_radius": 20.0, "disc_contrast": -0.3}
    tissue = [draw_tissue((64, 64), values, np.random.default_rng(seed)).intensity for seed in range(12)]
    assert min(float(field.min()) for field in tissue) == pytest.approx(0.2)
    # At half its contrast a disc is as wide as it says, and no disc shows more of itself than there is.
    shown = [float((field < 0.35).sum()) for field in tissue]
    assert max(shown) <= np.pi * 20**2 * 1.05
    assert max(shown) > np.pi * 20**2 * 0.6


PLAIN_SCAN = {
    "blur": 0.0,
    "bias_field": 0.0,
    "noise": 0.0,
    "grain": 0.0,
    "gain": 1.0,
    "gamma": 1.0,
    "coarse": 1.0,
}


def test_the_tone_curve_by_hand() -> None:
    image = scan(np.full((9, 9), 0.25, np.float32), PLAIN_SCAN | {"gamma": 0.5}, np.random.default_rng(0))
    np.testing.assert_allclose(image, 0.5)


def test_a_coarser_grid_keeps_ramps_and_loses_checkers() -> None:
    rows, columns = np.mgrid[:24, :24].astype(np.float32)
    coarse = PLAIN_SCAN | {"coarse": 2.0}
    ramp = scan(rows, coarse, np.random.default_rng(0))
    np.testing.assert_allclose(ramp[4:-4], rows[4:-4], atol=1e-4)
    checkers = scan((rows + columns) % 2, coarse, np.random.default_rng(0))
    assert float(checkers.std()) < 0.05


def test_an_absolute_patch_keeps_the_scanners_scale() -> None:
    generator = np.random.default_rng(0)
    ranges = PLAIN | {"absolute": (1.0, 1.0), "gain": (300.0, 300.0)}
    patch = draw_patches(Family.VESSELS, n=1, size=(32, 32), generator=generator, ranges=ranges)[0]
    torch.testing.assert_close(patch[0], torch.where(patch[1] > 0, 0.4, 0.0), atol=1e-5, rtol=0)


def test_vessels_in_space_have_every_look_too() -> None:
    values = {name: (p.low + p.high) / 2 for name, p in parameters_of(Family.VESSELS).items()}
    values |= {
        "loops": 2.0,
        "lines": 2.0,
        "paired": 1.0,
        "swell": 0.3,
        "edge": 0.5,
        "fading": 0.2,
        "discs": 1.0,
    }
    generator = np.random.default_rng(0)
    target = draw_vessels(draw_tissue((20, 24, 16), values, generator), values, generator)
    assert target.label.shape == target.shade.shape == target.surroundings.shape == (20, 24, 16)
    assert bool(target.label.any())
    assert not bool(target.surroundings[target.label].any())
    assert not bool(target.shade[~target.label].any())
