"""The recipes pix2pix, spade and cyclegan: rounds without noise."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.translation.game import TranslationGame
from willis.shared.recipes.translation.recipe import TranslationRecipe
from willis.shared.study import Study

NAMES = ("pix2pix", "spade", "cyclegan")
FIRST_LAYER = "translator/layers.conv_0.conv_0.conv.weight"


def played(study: Study, rounds: int, patches: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the state after rounds without noise, all patches in one unit."""
    recipe = recipe_of(study)
    state = recipe.start()
    for number in range(1, rounds + 1):
        question = recipe.question(recipe.order(state, number=number), number=number)
        answer = PooledMean(question.vector(patches).numpy(), 0.0, 1.0)
        state = recipe.learn(state, answer, number=number)
    return state


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("maps", ["gan", "prior"])
def test_who_plays_who_is_asked_and_what_is_released(made, name, maps):
    study = made(name, recipe={"maps": maps})
    game, recipe = TranslationGame(study, study.recipe), recipe_of(study)
    asked = {"critic", "translator"}
    asked |= {"back-critic", "back-translator"} if name == "cyclegan" else set()
    asked |= {"map-critic"} if maps == "gan" else set()
    free = {"map-generator"} if maps == "gan" else set()
    assert set(game.asked) == asked
    assert set(game.players) == set(game.shown) == asked | free
    assert set(game.released) == {"translator"} | free
    assert {key.partition("/")[0] for key in recipe.released(recipe.start())} == {"translator"} | free
    rates = {player: game.rate(player) for player in game.players}
    critic, generator = study.training.critic_lr, study.training.generator_lr
    assert rates == {player: critic if "critic" in player else generator for player in game.players}


@pytest.mark.parametrize(("name", "maps"), [("pix2pix", "gan"), ("cyclegan", "prior")])
@pytest.mark.parametrize("centred", [True, False])
def test_rounds_without_noise_are_plain_adam(made, name, maps, centred):
    study = made(
        name,
        recipe={"maps": maps},
        training={"critic_lr": 1e-3, "generator_lr": 2e-3, "betas": (0.5, 0.9), "critic_per_generator": 2},
        privacy={"fake_centred": centred},
    )
    patches = draw_prior(study, 4, purpose="test")
    state = played(study, 3, patches)
    moved = abs(state[FIRST_LAYER] - recipe_of(study).start()[FIRST_LAYER])
    assert moved.max() > 4e-3, "far more than the tolerance below"

    game = TranslationGame(study, study.recipe)
    adams = {
        player: torch.optim.Adam(
            network.parameters(), lr=1e-3 if "critic" in player else 2e-3, betas=(0.5, 0.9)
        )
        for player, network in game.players.items()
    }

    def step(losses: Mapping[str, torch.Tensor]) -> None:
        slopes = {
            player: torch.autograd.grad(loss, list(game.players[player].parameters()), retain_graph=True)
            for player, loss in losses.items()
        }
        for player, slope in slopes.items():
            for weight, gradient in zip(game.players[player].parameters(), slope, strict=True):
                weight.grad = gradient
            adams[player].step()

    for number in range(1, 4):
        losses = dict(game.private(patches, public_generator(study.seed, "private", number)))
        for player, loss in game.public(public_generator(study.seed, "fakes", number)).items():
            losses[player] = losses[player] + loss
        step(losses)
        if number == 2:
            step(game.free(public_generator(study.seed, "round", number), torch.zeros(0)))
    for player, network in game.players.items():
        found = np.concatenate(
            [abs(state[f"{player}/{key}"] - value).ravel() for key, value in arrays_of(network).items()]
        )
        # Adam's step has the size of its rate however small a gradient is: where it is rounding alone,
        # as of a bias that a norm takes away, a weight may go anywhere.
        assert np.median(found) < 2e-5, player
        assert np.quantile(found, 0.9) < 1e-4, player


@pytest.mark.parametrize("name", NAMES)
def test_a_units_vector_depends_on_that_unit_alone(made, name):
    study = made(name)
    recipe, patches = recipe_of(study), draw_prior(study, 4, purpose="test")
    order = recipe.order(recipe.start(), number=1)
    question = recipe.question(order, number=1)
    first, second = question.vector(patches[:2]), question.vector(patches[2:])
    assert not torch.equal(first, second)
    assert torch.equal(question.vector(patches[:2]), first), "whoever was asked before"
    assert torch.equal(recipe_of(study).question(order, number=1).vector(patches[2:]), second)
    assert bool(torch.isfinite(first).all())
    assert len(first) == question.length


@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_on_where_it_was_left_bit_for_bit(made, name):
    study = made(name)
    patches = draw_prior(study, 2, purpose="test")
    through, again = played(study, 2, patches), played(study, 1, patches)
    assert {value.dtype for value in through.values()} == {np.dtype(np.float32)}
    recipe = recipe_of(study)
    question = recipe.question(recipe.order(again, number=2), number=2)
    resumed = recipe.learn(again, PooledMean(question.vector(patches).numpy(), 0.0, 1.0), number=2)
    assert set(resumed) == set(through)
    for key, value in through.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_several_image_channels_and_three_axes(made, name):
    study = made(name, patch={"size": [8, 16, 8], "channels": ["red", "green"]}, recipe={"maps": "prior"})
    patches = draw_prior(study, 2, purpose="test")
    state = played(study, 1, torch.cat([patches[:, :1], patches], dim=1))
    recipe = recipe_of(study)
    maps = torch.where(patches[:1] > 0, 1.0, -1.0)
    assert isinstance(recipe, TranslationRecipe)
    made_patches = recipe.translate(recipe.released(state), maps, 0)
    assert made_patches.shape == (1, 3, 8, 16, 8)
    assert torch.equal(made_patches[:, 2], maps[:, 1])


def test_keys_that_do_not_fit_are_refused(made):
    with pytest.raises(StudyError, match=r"recipe.*l1"):
        made("cyclegan", recipe={"l1": 5})
    with pytest.raises(StudyError, match=r'warm_start must be "none" for recipe spade.*"vessels"'):
        recipe_of(made("spade", training={"warm_start": "vessels"}))
    with pytest.raises(StudyError, match="were asked to run a study of recipe dp-wgan"):
        TranslationRecipe(made("dp-wgan"))
