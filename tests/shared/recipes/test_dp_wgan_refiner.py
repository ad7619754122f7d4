"""The refiner keeps labels, starts as the identity; patch i is the same whatever is drawn with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.networks.build import build_critic, public_generator
from willis.shared.networks.refiner import Refiner, build_refiner
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import block_of, draw_blocks
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.update import state_from_arrays

STUDY = {
    "name": "tiny",
    "seed": 3,
    "patch": {"size": [16, 16], "per_subject": 4},
    "prior": {"family": "vessels"},
    "networks": {"latent": 8, "generator_width": 4, "critic_width": 4, "depth": 2},
    "privacy": {"unit": "subject", "epsilon": 8.0, "delta": 1e-3, "sampling_rate": 1.0},
    "training": {
        "protocol": "pooled",
        "rounds": 9,
        "patches_per_bag": 2,
        "fakes": 8,
        "device": "cpu",
        "generator_lr": 0.01,
    },
    "federation": {"quorum": 1, "sites": [{"name": "site-a", "subjects": 6}]},
}


def study(training: dict | None = None, **recipe) -> Study:
    return parse(
        STUDY
        | {
            "recipe": {"name": "dp-wgan", "refiner": True, "prior_draws": 32} | recipe,
            "training": STUDY["training"] | (training or {}),
        },
        Study,
        where="tiny",
    )


def noisy_round(recipe: DpWganRecipe, state, number: int):
    question = recipe.question(recipe.order(state, number=number), number=number)
    mean = np.random.default_rng(number).normal(size=question.length).astype(np.float32)
    return recipe.learn(state, PooledMean(mean=mean, std=1.0, units=6.0), number=number)


def changed(weights: Refiner) -> Refiner:
    with torch.no_grad():
        weights.to_image.gain.fill_(0.5)
    return weights


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_a_fresh_refiner_is_the_identity_and_a_moved_one_keeps_labels(size):
    dice = torch.Generator().manual_seed(0)
    refiner = Refiner(channels=2, width=4, dimensions=len(size), dice=dice)
    patches = draw_patches(Family.VESSELS, n=3, size=size, generator=np.random.default_rng(0))
    texture = torch.randn((3, 1, *size), generator=dice)
    assert torch.equal(refiner(patches, texture), patches)
    out = changed(refiner)(patches, texture)
    assert torch.equal(out[:, 1:], patches[:, 1:])
    assert float((out[:, :1] - patches[:, :1]).detach().abs().mean()) > 0.01
    assert float(out.detach().abs().max()) <= 1
    assert not torch.equal(out, refiner(patches, -texture))


def test_first_weights_are_of_seed_and_purpose_and_leave_torchs_dice_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = build_refiner(study()), build_refiner(study()), build_refiner(study(), "stranger", 1)
    assert torch.equal(torch.rand(1), expected)
    key = "levels.0.convolution.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


@pytest.fixture(scope="module")
def trained():
    recipe = DpWganRecipe(study())
    state = recipe.start()
    for number in (1, 2, 3):
        state = noisy_round(recipe, state, number)
    return recipe, state


def test_after_rounds_labels_are_still_the_priors(trained):
    recipe, state = trained
    assert np.abs(state["ema/to_image.gain"]).max() > 1e-3
    refined = recipe.sampler(recipe.released(state)).draw(first=0, n=5, seed=7)
    prior = recipe.sampler(recipe.released(recipe.start())).draw(first=0, n=5, seed=7)
    assert torch.equal(refined[:, 1], prior[:, 1])
    assert set(prior[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert float((refined[:, 0] - prior[:, 0]).abs().mean()) > 1e-4


def test_patch_five_by_hand(trained):
    recipe, state = trained
    die = public_generator("synthesis", 7, 5)
    seed = int(torch.randint(2**62, (), generator=die))
    prior = draw_patches(Family.VESSELS, n=1, size=(16, 16), generator=np.random.default_rng(seed))
    refiner = build_refiner(study())
    refiner.load_state_dict(state_from_arrays(recipe.released(state)))
    with torch.no_grad():
        expected = refiner(prior, torch.randn((1, 16, 16), generator=die)[None])
    drawn = recipe.sampler(recipe.released(state)).draw(first=5, n=1, seed=7)
    torch.testing.assert_close(drawn, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("refiner", [True, False])
def test_any_part_of_a_series_is_that_part(refiner, monkeypatch):
    monkeypatch.setattr("willis.shared.recipes.network_sampler._PIXELS_AT_ONCE", 8 * 16 * 16)
    recipe = DpWganRecipe(study(refiner=refiner))
    sampler = recipe.sampler(recipe.released(recipe.start()))
    series = sampler.draw(first=0, n=18, seed=1)
    assert len({patch.numpy().tobytes() for patch in series}) == 18
    for first, n in ((7, 2), (8, 6), (0, 1)):
        assert torch.equal(sampler.draw(first=first, n=n, seed=1), series[first : first + n])
    other = sampler.to(torch.device("cpu")).draw(first=0, n=1, seed=2)
    assert not torch.equal(other, series[:1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(1, 50), st.integers(1, 20))
def test_blocks_are_whole_and_cut_to_what_was_asked(first, n, block):
    sizes = []

    def draw(dice):
        sizes.append(len(dice))
        return torch.stack([torch.rand((2, 1, 1), generator=die) for die in dice])

    drawn = draw_blocks(draw, first=first, n=n, seed=9, block=block)
    assert set(sizes) == {block}
    one_by_one = [
        torch.rand((2, 1, 1), generator=public_generator("synthesis", 9, first + i)) for i in range(n)
    ]
    assert torch.equal(drawn, torch.stack(one_by_one))


@pytest.mark.parametrize(("first", "n"), [(-1, 1), (0, 0)])
def test_a_part_out_of_range_is_refused(first, n):
    with pytest.raises(ValueError, match=f"got {first} and {n}"):
        draw_blocks(lambda dice: torch.zeros(len(dice), 2, 1), first=first, n=n, seed=0, block=4)


@pytest.mark.parametrize(
    ("size", "block"), [((16, 16), 64), ((64, 64), 16), ((96, 96), 7), ((512, 512), 1), ((64, 64, 64), 1)]
)
def test_a_block_holds_no_more_than_65536_pixels_or_64_patches_or_one(size, block):
    assert block_of(parse(STUDY | {"patch": {"size": list(size)}}, Study, where="sized")) == block


@pytest.mark.parametrize("refiner", [True, False])
def test_a_warmed_up_critic_prefers_prior_draws_and_costs_no_moments(refiner):
    warm = study(refiner=refiner, critic_warmup=40, training={"critic_lr": 0.01, "fakes": 16})
    cold = study(refiner=refiner, training={"critic_lr": 0.01, "fakes": 16})
    state, before = DpWganRecipe(warm).start(), DpWganRecipe(cold).start()
    assert state["critic_steps/count"] == 0
    assert all(np.array_equal(part(state, "ema")[n], value) for n, value in part(before, "ema").items())
    prior = draw_prior(warm, 64, purpose="test")
    if refiner:
        other = changed(build_refiner(warm, "test"))
        fakes = other(prior, torch.randn((64, 1, 16, 16), generator=public_generator("test"))).detach()
    else:
        fakes = DpWganRecipe(warm).sampler(part(state, "ema")).draw(first=0, n=64, seed=0)
    gaps = []
    for found in (before, state):
        critic = build_critic(warm)
        critic.load_state_dict(state_from_arrays(part(found, "critic")))
        with torch.no_grad():
            gaps.append(float(critic(prior).mean() - critic(fakes).mean()))
    assert gaps[1] > gaps[0] + 0.3


def test_weights_that_are_no_refiners_are_refused():
    recipe = DpWganRecipe(study())
    arrays = recipe.released(recipe.start())
    with pytest.raises(ValueError, match="unknown"):
        recipe.sampler(arrays | {"seed.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match="not finite"):
        recipe.sampler(arrays | {"to_image.gain": np.full(1, np.inf, np.float32)})
    with pytest.raises(ValueError, match="wanted float32"):
        recipe.sampler(arrays | {"to_image.gain": np.zeros(1)})
