"""Whole volumes: what they are made of, that no border of a window shows, and who is refused."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from harness.made_release import write
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from willis.shared import volumes
from willis.shared.errors import ReleaseError
from willis.shared.networks.build import public_generator
from willis.shared.prior_volumes import prior_volume
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.volumes import volume_source
from willis.shared.release import GeneratorRelease
from willis.shared.synthesis import draw_pairs
from willis.shared.volumes import draw_volumes, export_volumes, stream_volumes, window_weights

SITES = {"sites": [{"name": name, "subjects": 6} for name in ("north", "south")]}
ABLE = {
    "pix2pix": {"name": "pix2pix", "maps": "prior", "levels": 3},
    "spade": {"name": "spade", "maps": "prior", "levels": 3, "edit": {"moved": 0.2, "mirrored": True}},
    "cyclegan": {"name": "cyclegan", "maps": "prior"},
    "refiner": {"name": "dp-wgan", "refiner": True, "prior_draws": 16},
}


@pytest.fixture(scope="module")
def released(tiny_study, tmp_path_factory):
    """Write a release of first weights, three times as large: a refiner's that do nothing are made to."""

    def build(recipe: dict, size: tuple[int, ...] = (8, 12, 8), family: str = "lesions") -> GeneratorRelease:
        study = tiny_study(
            patch={"size": list(size)},
            prior={"family": family},
            recipe=recipe,
            training={"protocol": "pooled", "critic_steps": 1},
            federation=SITES,
        )
        made = recipe_of(study)
        arrays = {name: 3 * value for name, value in made.released(made.start()).items()}
        arrays |= {name: value + 0.5 for name, value in arrays.items() if name.endswith("gain")}
        return write(tmp_path_factory.mktemp("volumes") / "release", study=study, arrays=arrays)

    return build


@pytest.fixture(scope="module")
def refined(released) -> GeneratorRelease:
    return released(ABLE["refiner"])


@pytest.mark.parametrize("recipe", list(ABLE))
def test_a_volume_of_the_size_of_a_patch_has_the_label_of_the_pair(released, recipe):
    release = released(ABLE[recipe])
    drawn = draw_volumes(release, n=2, seed=5, size=(8, 12, 8), device="cpu")
    pairs = draw_pairs(release, n=2, seed=5, device="cpu")
    assert torch.equal(drawn[:, 1], pairs[:, 1])
    assert drawn[:, 0].std() > 0.01


@pytest.mark.parametrize("recipe", list(ABLE))
def test_a_window_shows_what_the_pair_was_made_from(released, recipe):
    """Level or prior, label and noise are the pair's, so that the network makes the pair's image of them."""
    release = released(ABLE[recipe])
    source = volume_source(release.study, release.arrays)
    shown = source.shown((8, 12, 8), public_generator("synthesis", 5, 0))
    made = torch.cat([source.image(shown), shown[:, 1:2]], dim=1)
    pair = draw_pairs(release, n=1, seed=5, device="cpu")
    torch.testing.assert_close(made, pair, rtol=0, atol=1e-4)  # one window at a time rounds differently


def test_the_label_is_the_priors_whatever_the_network_and_the_overlap(released, refined):
    """The first number that a volume's die throws is the seed of its prior; label and anatomy follow."""
    size, labels = (11, 12, 17), []
    for release, overlap in ((refined, 0.5), (refined, 0.25), (released(ABLE["pix2pix"]), 0.5)):
        drawn = draw_volumes(release, n=2, seed=5, size=size, overlap=overlap, device="cpu")
        labels.append(drawn[:, 1])
    dice = [public_generator("synthesis", 5, number) for number in range(2)]
    prior = torch.cat([prior_volume(refined.study, die, size=size) for die in dice])
    assert 0 < (prior[:, 1] > 0).float().mean() < 1
    for label in labels:
        assert torch.equal(label, prior[:, 1])


def test_a_refiner_that_changes_nothing_returns_the_prior(tiny_study, tmp_path):
    study = tiny_study(
        patch={"size": [8, 8, 8]},
        recipe=ABLE["refiner"],
        training={"protocol": "pooled", "critic_steps": 1},
        federation=SITES,
    )
    recipe = recipe_of(study)
    release = write(tmp_path / "release", study=study, arrays=recipe.released(recipe.start()))
    drawn = draw_volumes(release, n=1, seed=0, size=(13, 20, 9), device="cpu")
    prior = prior_volume(study, public_generator("synthesis", 0, 0), size=(13, 20, 9))
    torch.testing.assert_close(drawn, prior, rtol=0, atol=1e-5)


def test_volume_i_is_the_same_however_many_are_drawn_and_the_next_is_another(refined):
    size = (12, 16, 8)
    two, three = (draw_volumes(refined, n=n, seed=1, size=size, device="cpu") for n in (2, 3))
    assert torch.equal(two, three[:2])
    assert not torch.equal(three[1], three[2])
    assert not torch.equal(two, draw_volumes(refined, n=2, seed=2, size=size, device="cpu"))


def test_ten_million_volumes_start_at_once(refined):
    stream = stream_volumes(refined, n=10_000_000, seed=1, size=(8, 16, 12), device="cpu")
    assert next(stream).shape == (1, 2, 8, 16, 12)


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(8, 20), st.integers(12, 20), st.integers(8, 20)),
    overlap=st.floats(0.25, 0.875),
    number=st.integers(0, 5),
)
def test_any_size_gives_a_volume_of_that_size_in_its_range(refined, size, overlap, number):
    *_, drawn = stream_volumes(refined, n=number + 1, seed=3, size=size, overlap=overlap, device="cpu")
    assert drawn.shape == (1, 2, *size)
    assert drawn.dtype == torch.float32
    assert bool((drawn[:, 0].abs() <= 1).all())
    assert set(drawn[:, 1].unique().tolist()) <= {-1.0, 1.0}


@dataclass
class Moody:
    """Shows each window in a brightness of its own, as networks normalised per window do, and no detail."""

    brightness: list[float]
    network: nn.Module = field(default_factory=lambda: nn.Linear(1, 1))

    def shown(self, size: tuple[int, ...], die: torch.Generator) -> Tensor:
        return torch.zeros((1, 3, *size))

    def image(self, shown: Tensor) -> Tensor:
        picked = torch.tensor([self.brightness.pop(0) for _ in shown])
        return picked.reshape(-1, 1, 1, 1, 1).expand(-1, 1, *shown.shape[2:]).clone()


def starts(side: int, window: int, overlap: float) -> list[int]:
    """First voxels of windows along an axis, by MONAI's rule: a last one ends where the axis does."""
    step = int(window * (1 - overlap))
    return sorted({min(at, side - window) for at in range(0, side - window + step, step)})


def test_windows_are_blended_as_by_hand(released, monkeypatch):
    """Every window's brightness times its weight over the sum of weights, in doubles, loop by loop."""
    release = released(ABLE["refiner"], size=(8, 8, 8))
    size, moods = (13, 20, 8), np.random.default_rng(0).uniform(-1, 1, 200).astype(np.float32).tolist()
    monkeypatch.setattr(volumes, "volume_source", lambda study, arrays: Moody(list(moods)))
    drawn = draw_volumes(release, n=1, seed=0, size=size, device="cpu")[0, 0].numpy()
    axis = [np.exp(-((at - 3.5) ** 2) / 2) for at in range(8)]  # an eighth of 8 is 1
    weight = np.einsum("i,j,k->ijk", axis, axis, axis)
    wide = tuple(side + 4 for side in size)  # a quarter of 8 at either end
    total, weights = np.zeros(wide), np.zeros(wide)
    windows = list(itertools.product(*(starts(side, 8, 0.5) for side in wide)))
    assert len(windows) == 4 * 5 * 2
    for corner, mood in zip(windows, moods, strict=False):
        there = tuple(slice(at, at + 8) for at in corner)
        total[there] += mood * weight
        weights[there] += weight
    by_hand = (total / weights)[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(drawn, by_hand, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("floor", "seam"), [(0.0, False), (1e-3, True)])
def test_no_step_across_the_border_of_a_window(released, monkeypatch, floor, seam):
    """Gradients where a window begins or ends are no steeper than beside; with MONAI's own floor they are."""
    release = released(ABLE["refiner"], size=(16, 16, 16))
    moods = np.random.default_rng(1).uniform(-1, 1, 500).tolist()
    monkeypatch.setattr(volumes, "volume_source", lambda study, arrays: Moody(list(moods)))
    weights = window_weights((16, 16, 16)).clamp(min=floor)
    monkeypatch.setattr(volumes, "window_weights", lambda size: weights)
    drawn = draw_volumes(release, n=1, seed=0, size=(48, 40, 32), device="cpu")[0, 0].numpy()
    ratios = []
    for axis, side in enumerate(drawn.shape):
        steps = np.abs(np.diff(drawn, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        firsts = [at - 4 for at in starts(side + 8, 16, 0.5)]  # a margin of 4 comes before
        borders = [at for first in firsts for at in (first - 1, first + 15) if 1 <= at < side - 2]
        ratios += [2 * steps[at] / (steps[at - 1] + steps[at + 1]) for at in borders]
    assert len(ratios) > 10
    assert (np.median(ratios) > 1.5) == seam, ratios
    assert (max(ratios) < 1.1) != seam, ratios


def steepness(drawn: np.ndarray, window: int) -> float:
    """Mean gradient where windows begin or end, over that two voxels to either side."""
    at_borders, beside = [], []
    for axis, side in enumerate(drawn.shape):
        steps = np.abs(np.diff(drawn, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        margin = window // 4
        firsts = [at - margin for at in starts(side + 2 * margin, window, 0.5)]
        borders = {at for first in firsts for at in (first - 1, first + window - 1)}
        inner = [at for at in borders if 2 <= at < side - 3]
        at_borders += [steps[at] for at in inner]
        beside += [(steps[at - 2] + steps[at + 2]) / 2 for at in inner]
    return float(np.sum(at_borders) / np.sum(beside))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["pix2pix", "spade"])
def test_a_network_with_texture_shows_no_border_of_a_window(released, monkeypatch, recipe):
    """First weights, three times as large, make windows that differ; without the Gaussian it shows."""
    release = released(ABLE[recipe], size=(16, 16, 16))
    found = []
    for weights in (window_weights((16, 16, 16)), torch.ones((16, 16, 16))):
        monkeypatch.setattr(volumes, "window_weights", lambda size, kept=weights: kept)
        drawn = draw_volumes(release, n=4, seed=0, size=(64, 48, 40), device="cpu")[:, 0].numpy()
        found.append(float(np.mean([steepness(image, 16) for image in drawn])))
    assert 0.95 < found[0] < 1.05, found
    assert found[1] > found[0] + 0.05, found


@pytest.mark.parametrize(
    ("recipe", "size", "said"),
    [
        ({"name": "dp-wgan"}, (8, 8, 8), "its label is a network's \\(refiner = false\\)"),
        ({"name": "pix2pix", "maps": "gan"}, (8, 8, 8), 'its maps are a network\'s \\(maps = "gan"\\)'),
        (
            {"name": "wgan-gp"},
            (8, 8, 8),
            "recipe wgan-gp draws patches only; .* spade and cyclegan with maps",
        ),
        (ABLE["pix2pix"], (16, 16), "this release draws 2-D ones of 16 x 16"),
    ],
)
def test_a_recipe_that_makes_patches_only_is_refused(released, tmp_path, recipe, size, said):
    release = released(recipe, size)
    with pytest.raises(ReleaseError, match=said):
        draw_volumes(release, n=1, seed=1, size=(16, 16, 16))
    with pytest.raises(ReleaseError, match=said):
        export_volumes(release, tmp_path / "out", n=1, seed=1, size=(16, 16, 16), form="npz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"size": (8, 11, 8)},
            r"size must be at least the patch's along each axis, \(8, 12, 8\), got \(8, 11, 8\)",
        ),
        ({"size": (8, 513, 8)}, "at most 512 along each axis"),
        ({"size": (512, 512, 512)}, "16777216 voxels, got .* 134217728 voxels"),
        ({"overlap": 0.2}, "overlap must be 0.25 to 0.875, got 0.2"),
        ({"overlap": float("nan")}, "got nan"),
        ({"overlap": 1.0}, "got 1.0"),
        ({"n": 0}, "n must be 1 to 10000000, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_their_ranges_are_refused_at_once(refined, changes, said):
    with pytest.raises(ValueError, match=said):
        stream_volumes(refined, **({"n": 1, "seed": 1, "size": (8, 12, 8)} | changes))


def test_an_organ_too_small_for_the_volume_is_refused_at_once(released):
    release = released(ABLE["refiner"], family="organ")
    with pytest.raises(ValueError, match="the longest side must be at most 52"):
        stream_volumes(release, n=1, seed=1, size=(8, 53, 8))
