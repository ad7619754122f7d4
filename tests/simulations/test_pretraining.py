"""Warm starts: trained on prior draws alone, shipped with their digest, enlarged to twice the side."""

import hashlib
import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from willis.shared.errors import StudyError
from willis.shared.networks import start
from willis.shared.networks.build import build_generator
from willis.shared.networks.generator import Generator
from willis.shared.study import Study
from willis.simulations import pretraining
from willis.simulations.pretraining import Recipe, enlarge, pretrain, ship

FEW = Recipe(draws=6, steps=3, batch=4, critic_width=4)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """The folder of shipped warm starts, empty."""
    monkeypatch.setattr(start, "_shipped", lambda: tmp_path)
    return tmp_path


def weights_of(study: Study) -> dict[str, torch.Tensor]:
    return build_generator(study).state_dict()


def loaded(study: Study, weights: dict[str, torch.Tensor]) -> Generator:
    generator = build_generator(study)
    generator.load_state_dict(weights)
    return generator


def test_pretraining_moves_every_weight_and_tells_its_progress(tiny_study):
    study, told = tiny_study(), []
    trained = pretrain(study, FEW, progress=lambda done, of: told.append((done, of)))
    fresh = weights_of(study)
    assert trained.keys() == fresh.keys()
    for name, value in trained.items():
        assert bool(torch.isfinite(value).all())
        assert not torch.equal(value, fresh[name]), name
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_pretraining_repeats_from_its_public_seed(tiny_study):
    one, again, other = (pretrain(tiny_study(seed=seed), FEW) for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["seed.bias"], other["seed.bias"])


def test_the_generator_stands_still_while_the_critic_goes_first(tiny_study):
    """With every step the critic's own, the generator comes back as it was built; with one less it moved."""
    study = tiny_study()
    built = build_generator(study).state_dict()
    still = pretrain(study, Recipe(draws=8, steps=3, batch=4, critic_first=3))
    moved = pretrain(study, Recipe(draws=8, steps=3, batch=4, critic_first=2))
    assert all(torch.equal(still[name], value) for name, value in built.items())
    assert any(not torch.equal(moved[name], value) for name, value in built.items())


def test_what_is_shipped_is_the_exponential_mean_over_the_steps(tiny_study):
    """At weight 0 it is the last step's generator, at 0.99 it stays near the first."""
    study = tiny_study()
    fresh = weights_of(study)["seed.weight"]
    last, mean = (pretrain(study, FEW.model_copy(update={"ema": ema}))["seed.weight"] for ema in (0.0, 0.99))
    moved, lagged = (float((value - fresh).norm()) for value in (last, mean))
    # Of three steps of one length in one direction the mean has gone 1 to 3 % of the first, second and third.
    assert 0 < lagged < 0.06 * moved


def test_pretraining_needs_no_cohort(tiny_study, monkeypatch):
    """All that it draws is the prior: without it there is nothing."""

    def empty(study, n, *, purpose):
        raise LookupError(purpose)

    monkeypatch.setattr(pretraining, "draw_prior", empty)
    with pytest.raises(LookupError, match="pretraining"):
        pretrain(tiny_study(), FEW)


def test_a_warm_start_comes_back_as_it_was_shipped(tiny_study, shelf):
    study = tiny_study()
    weights = weights_of(study)
    path = ship("tiny-16", weights, study=study, recipe=FEW, folder=shelf)
    description = json.loads(path.read_text())
    data = (shelf / "tiny-16.safetensors").read_bytes()
    assert description["sha256"] == hashlib.sha256(data).hexdigest()
    assert description["epsilon"] == 0
    assert description["recipe"]["steps"] == 3
    found = start.initial_generator(tiny_study(seed=5, training={"warm_start": "tiny-16"})).state_dict()
    for name, value in weights.items():
        assert torch.equal(found[name], value.half().float())


def tiled(patches: torch.Tensor) -> torch.Tensor:
    return patches.repeat(1, 1, *[2] * (patches.ndim - 2))


def inside(patches: torch.Tensor, side: int, margin: int) -> torch.Tensor:
    """Return the pixels of every tile that are at least ``margin`` from its edges."""
    places = torch.arange(patches.shape[-1]) % side
    kept = ((places >= margin) & (places < side - margin)).nonzero().flatten()
    for axis in range(2, patches.ndim):
        patches = patches.index_select(axis, kept)
    return patches


@pytest.mark.parametrize("side", [(32, 32), (16, 16, 16)], ids=["2-D", "3-D"])
def test_an_enlarged_generator_draws_tiles_of_what_it_drew(tiny_study, side):
    """Within a tile, out of reach of its edges: 2 + 1 pixels of the doublings' borders, 2 of the head's.

    The normalisation is left out of both: its statistics know of the border, elsewhere in a larger patch.
    """
    small = tiny_study(patch={"size": list(side)})
    large = tiny_study(patch={"size": [2 * one for one in side]})
    weights = weights_of(small)
    one, four = loaded(small, weights), loaded(large, enlarge(weights, large))
    for network in (one, four):
        for doubling in network.doublings:
            doubling.normalisation = nn.Identity()
    dice = torch.Generator().manual_seed(0)
    latent, texture = torch.randn((2, 8), generator=dice), torch.randn((2, 1, *side), generator=dice)
    wanted, drawn = tiled(one(latent, texture)), four(latent, tiled(texture))
    assert drawn.shape == (2, 2, *[2 * one for one in side])
    torch.testing.assert_close(inside(drawn, side[0], 6), inside(wanted, side[0], 6), atol=1e-5, rtol=1e-4)
    assert float(inside(wanted, side[0], 6).detach().std()) > 0.01, "there was something to compare"
    assert not torch.allclose(drawn, wanted, atol=1e-3), "edges do differ"


def test_pretraining_goes_on_from_a_warm_start_of_half_the_side(tiny_study, shelf):
    small, large = tiny_study(), tiny_study(patch={"size": [32, 32]})
    ship("tiny-16", weights_of(small), study=small, recipe=FEW, folder=shelf)
    recipe = FEW.model_copy(update={"start": "tiny-16", "steps": 1, "ema": 0.999})
    trained = pretrain(large, recipe)
    begun = enlarge(start.shipped_weights("tiny-16"), large)
    for name, value in trained.items():
        torch.testing.assert_close(value, begun[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [[16, 16], [48, 48], [24, 24], [20, 20]])
def test_a_warm_start_that_is_not_of_half_the_side_is_refused(tiny_study, size):
    with pytest.raises(StudyError, match="must be a warm start for patches of half"):
        enlarge(weights_of(tiny_study()), tiny_study(patch={"size": size}))


@pytest.mark.parametrize("bad", [{"steps": 0}, {"batch": -1}, {"draws": 0}, {"ema": 1.0}, {"critic_lr": 0}])
def test_an_impossible_recipe_is_refused(bad):
    with pytest.raises(ValidationError):
        Recipe.model_validate(bad)
