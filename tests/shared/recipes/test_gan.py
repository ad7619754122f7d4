"""The GAN recipes: plain training where nothing is clipped or noised, releases that draw, resumption."""

import re

import numpy as np
import pytest
import torch
from harness.made_game import ask, same, trained, units_of
from harness.made_release import spent_of
from torch.nn.functional import softplus

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.game.penalty import gradient_penalty
from willis.shared.recipes.gan.recipe import GanRecipe
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import read_release, write_release
from willis.shared.synthesis import draw_pairs
from willis.shared.update import check_model

DCGAN, WGAN = {"name": "dcgan"}, {"name": "wgan-gp"}
SPECTRAL = WGAN | {"normalisation": "spectral"}
ALL = pytest.mark.parametrize("recipe", [DCGAN, WGAN, SPECTRAL], ids=["dcgan", "instance", "spectral"])
# Levels 2 and 3 of depth 3 are the first that a critic normalises.
SIZES = pytest.mark.parametrize("size", [(16, 16), (8, 8, 16)], ids=["2-D", "3-D"])


@pytest.fixture
def study(pooled):
    """Build the tiny study with one of the recipes."""

    def build(recipe, **changes):
        size = list(changes.pop("size", (16, 16)))
        networks = {"depth": 3 if len(size) == 2 else 2} | changes.pop("networks", {})
        privacy = {"clip_norm": 1e6} | changes.pop("privacy", {})
        training = {"critic_lr": 0.001, "generator_lr": 0.001} | changes.pop("training", {})
        return pooled(
            recipe=recipe,
            patch={"size": size},
            networks=networks,
            privacy=privacy,
            training=training,
            **changes,
        )

    return build


def distance(one, other) -> float:
    """The largest difference, save in biases before a normalisation and those that scores have in common.

    No loss depends on them: their gradients are rounding, of which Adam makes whole steps.
    """
    idle = ("convolution.bias", "seed.bias", "score.bias", "convolutions.1.bias")
    live = [name for name in one if not name.endswith(idle)]
    return max(float(np.abs(one[name] - other[name]).max()) for name in live)


def plain_round(game, study, steps, patches, number: int) -> None:
    """One step of each player in plain torch, on all patches at once."""
    kind, critic, generator = study.recipe, game.critic, game.generator
    thrown = public_generator(study.seed, "private", number)
    fakes = generator.draw(4, public_generator(study.seed, "fakes", number)).detach()
    real = torch.zeros(())
    if kind.name == "dcgan":
        target = 0.7 + 0.5 * torch.rand(len(patches), generator=thrown)
        scores, features = critic.judge(patches)
        real = features.mean(0).detach()
        loss = (softplus(scores) - target * scores).mean() + softplus(critic(fakes, 2)).mean()
    else:
        near = generator.draw(8, thrown)[: len(patches)]
        loss = critic(fakes).mean() - critic(patches).mean()
        loss = loss + 10 * gradient_penalty(critic, patches, near, thrown)
    steps["critic"].zero_grad()
    loss.backward()
    steps["critic"].step()
    if getattr(kind, "normalisation", "") == "spectral":
        project(critic, study.networks)
    fakes = generator.draw(4, public_generator(study.seed, "round", number))
    if kind.name == "dcgan":
        scores, features = critic.judge(fakes, 2)
        loss = softplus(-scores).mean() + ((features.mean(0) - real) ** 2).sum()
    else:
        loss = -critic(fakes).mean()
    steps["generator"].zero_grad()
    loss.backward()
    steps["generator"].step()


@ALL
@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_three_rounds_equal_plain_training(study, recipe, optimiser):
    made = study(recipe, training={"optimiser": optimiser})
    [patches] = units_of(made, 1)
    state = trained(GanRecipe(made), [patches], rounds=3)
    game = GanRecipe(made)._game
    kinds = {
        "adam": lambda weights: torch.optim.Adam(weights, 0.001, betas=made.training.betas),
        "rmsprop": lambda weights: torch.optim.RMSprop(weights, 0.001),
    }
    steps = {name: kinds[optimiser](network.parameters()) for name, network in game.players.items()}
    first = {name: arrays_of(network) for name, network in game.players.items()}
    for number in (1, 2, 3):
        plain_round(game, made, steps, patches, number)
    for name, network in game.players.items():
        assert distance(part(state, name), arrays_of(network)) < 2e-5
        assert distance(part(state, name), first[name]) > 1e-3


@ALL
@SIZES
def test_a_units_vector_depends_on_that_unit_alone(study, recipe, size):
    made = study(recipe, size=size)
    gan = GanRecipe(made)
    order = gan.order(gan.start(), number=1)
    question = gan.question(order, number=1)
    units = units_of(made, 3)
    together = [question.vector(patches) for patches in units]
    for patches, vector in zip(units, together, strict=True):
        alone = GanRecipe(made).question(order, number=1).vector(patches)
        assert torch.equal(alone, vector)
    assert float((together[0] - together[1]).norm()) > 1e-3


@ALL
def test_the_public_part_in_the_order_or_after_is_the_same_learning(study, recipe):
    states = []
    for centred in (True, False):
        made = study(recipe, privacy={"fake_centred": centred})
        gan = GanRecipe(made)
        assert ("centre" in gan.order(gan.start(), number=1)) == centred
        states.append(trained(gan, units_of(made, 3), rounds=2))
    for player in ("critic", "generator"):
        assert distance(part(states[0], player), part(states[1], player)) < 2e-5


@ALL
@SIZES
def test_a_release_draws_the_same_patch_whatever_is_drawn_beside_it(study, recipe, size, tmp_path):
    made = study(recipe, size=size)
    gan = GanRecipe(made)
    state = trained(gan, units_of(made, 2), rounds=2)
    arrays = gan.released(state)
    for held in (state, arrays, gan.order(state, number=3)):
        check_model(held)
        assert {value.dtype for value in held.values()} == {np.dtype(np.float32)}
    spent = {name: spent_of(2.5) for name in ("site-a", "site-b")}
    fields = {"study": made, "run": "tiny-00ff", "rounds": 2, "network": spent_of(2.5), "spent": spent}
    heads = {"site-a": "ab12", "site-b": "cd34"}
    write_release(tmp_path / "release", arrays=arrays, ledger_heads=heads, **fields)
    release = read_release(tmp_path / "release")
    assert same(release.arrays, arrays)
    drawn = draw_pairs(release, n=70, seed=3, batch=64)
    assert drawn.shape == (70, 2, *size)
    assert set(drawn[:, -1].unique().tolist()) <= {-1.0, 1.0}
    assert drawn[:, 0].abs().max() <= 1
    assert drawn[:, 0].std(0).mean() > 0.01, "patches differ"
    assert torch.equal(draw_pairs(release, n=70, seed=3, batch=7), drawn)
    assert torch.equal(gan.sampler(arrays).draw(first=66, n=1, seed=3), drawn[66:67])
    assert not torch.equal(draw_pairs(release, n=1, seed=4), drawn[:1])


@ALL
def test_a_state_goes_on_bit_for_bit(study, recipe):
    made = study(recipe)
    units = units_of(made, 2)
    straight = trained(GanRecipe(made), units, rounds=3)
    state = trained(GanRecipe(made), units, rounds=2)
    read = {name: np.array(value) for name, value in state.items()}
    fresh = GanRecipe(made)
    fresh.released(read)  # must leave no trace
    again = fresh.learn(read, ask(GanRecipe(made), read, units, number=3), number=3)
    assert same(again, straight)


def test_bfloat16_is_near_float32(study):
    for recipe in (DCGAN, WGAN):
        vectors = []
        for precision in ("float32", "bfloat16"):
            made = study(recipe, training={"precision": precision})
            gan = GanRecipe(made)
            vectors.append(ask(gan, gan.start(), units_of(made, 1), number=1).mean)
        assert 0 < np.linalg.norm(vectors[0] - vectors[1]) < 0.2 * np.linalg.norm(vectors[0])


def test_a_label_is_foreground_above_the_threshold(study):
    shares, soft = [], None
    for threshold in (-0.2, 0.0, 0.2):
        gan = GanRecipe(study(DCGAN | {"label_threshold": threshold}))
        arrays = gan.released(gan.start())
        label = gan.sampler(arrays).draw(first=0, n=64, seed=1)[:, -1]
        if soft is None:
            sampler = gan.sampler(arrays)
            assert isinstance(sampler, NetworkSampler)
            dice = [public_generator("synthesis", 1, number) for number in range(64)]
            latent = torch.stack([torch.randn(8, generator=die) for die in dice])
            soft = sampler.network(latent)[:, -1]
        assert torch.equal(label > 0, soft > threshold)
        shares.append(float((label > 0).float().mean()))
    assert 1 > shares[0] > shares[1] > shares[2] > 0


@pytest.mark.parametrize(
    ("recipe", "changes", "said"),
    [
        (DCGAN, {"training": {"warm_start": "vessels-64"}}, 'warm_start must be "none"'),
        (WGAN, {"networks": {"constraint": "weight-clip"}}, '"weight-clip" is for recipe dp-wgan'),
        (WGAN, {"training": {"fakes": 1}}, "fakes must be at least 2.*got 1"),
        (WGAN | {"penalty": 0}, {}, "penalty must be above 0"),
        (DCGAN, {"training": {"patches_per_bag": 1}}, "minibatch_kernels compares patches of one unit"),
        (DCGAN, {"privacy": {"unit": "patch", "delta": 1e-4}}, "which has 1 here, got 16: set 0"),
        (DCGAN, {"training": {"fakes": 5}}, r"multiple of training\.patches_per_bag \(2\).*got 5"),
        ({"name": "dp-wgan"}, {}, "asked to run a study of recipe dp-wgan"),
    ],
)
def test_what_does_not_fit_is_refused(study, recipe, changes, said):
    with pytest.raises(StudyError) as refused:
        GanRecipe(study(recipe, **changes))
    assert re.search(said, "\n".join([str(refused.value), *refused.value.problems]))


def test_a_patch_may_be_the_unit(study):
    made = study(DCGAN | {"minibatch_kernels": 0}, privacy={"unit": "patch", "delta": 1e-4})
    gan = GanRecipe(made)
    question = gan.question(gan.order(gan.start(), number=1), number=1)
    vector = question.vector(units_of(made, 1, patches=1)[0])
    assert vector.shape == (question.length,)
    assert bool(torch.isfinite(vector).all())


@pytest.mark.parametrize("change", ["generator/odd", "critic/score.weight", "seed.weight"])
def test_arrays_of_others_are_refused(study, change):
    gan = GanRecipe(study(WGAN))
    arrays = gan.released(gan.start()) | {change: np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=f"{change.removeprefix('generator/')}: unknown"):
        gan.sampler(arrays)
