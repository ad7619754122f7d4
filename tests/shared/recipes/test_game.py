"""The recipe of every game, on a game of two numbers whose rounds can be reckoned by hand."""

import numpy as np
import pytest
import torch
from harness.made_game import ToyGame, ask, same

from willis.shared.errors import StudyError
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.game.recipe import GameRecipe
from willis.shared.recipes.game.table import Table


@pytest.fixture
def toy(pooled):
    """Build the toy's recipe, with changes to the study."""

    def build(**training) -> GameRecipe:
        centred = training.pop("fake_centred", True)
        plan = {"betas": [0.0, 0.9], "ema": 0.25} | training
        return GameRecipe(pooled(training=plan, privacy={"fake_centred": centred}), ToyGame())

    return build


def unit(*values: float) -> torch.Tensor:
    """Patches of constant values."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 2, 16, 16)


@pytest.mark.parametrize("centred", [True, False])
def test_a_round_by_hand(toy, centred):
    """Adam's first step is as long as the rate, against the gradient's sign; RMSprop's is ten times that."""
    recipe = toy(fake_centred=centred)
    state = recipe.start()
    units = [unit(0.0, 0.5), unit(0.25)]  # means 0.25 and 0.25; largest 0.5 and 0.25
    answer = ask(recipe, state, units, number=1)
    # -0.25, and g = 0.5 where the public part is in the answer already
    np.testing.assert_allclose(answer.mean, [0.25 if centred else -0.25, 0.375], rtol=1e-6)
    state = recipe.learn(state, answer, number=1)
    # w falls from 1 along 0.25; then g rises along 0.9 + 0.375
    assert state["critic/weight"] == pytest.approx([0.9], rel=1e-5)
    assert state["generator/weight"] == pytest.approx([0.7], rel=1e-5)
    assert state["mean-of-generator/weight"] == pytest.approx([0.25 * 0.5 + 0.75 * 0.7], rel=1e-5)
    assert state["moments-of-critic/second"] == pytest.approx([0.1 * 0.25**2], rel=1e-5)
    assert state["moments-of-generator/second"] == pytest.approx([0.1 * 1.275**2], rel=1e-5)
    assert recipe.released(state)["generator/weight"] == pytest.approx([0.65], rel=1e-5)


def test_the_constraint_holds_after_every_step(toy):
    recipe = toy()
    state = recipe.learn(recipe.start(), PooledMean(np.array([-1.0, 0.0], np.float32), 0.0, 1.0), number=1)
    assert state["critic/weight"] == pytest.approx([1.05])  # 1.1 without it


def test_free_players_step_in_every_second_round_and_twice(toy):
    recipe = toy(critic_per_generator=2, generator_steps=2)
    start = recipe.start()
    answer = PooledMean(np.array([0.5, 0.0], np.float32), 0.0, 1.0)
    first = recipe.learn(start, answer, number=1)
    assert first["generator/weight"] == start["generator/weight"]
    assert first["moments-of-generator/count"] == 0
    second = recipe.learn(first, answer, number=2)
    assert second["moments-of-generator/count"] == 2
    assert second["moments-of-critic/count"] == 2
    assert second["generator/weight"] > first["generator/weight"]


def test_a_units_vector_is_its_own(toy):
    recipe = toy()
    question = recipe.question(recipe.order(recipe.start(), number=1), number=1)
    alone = question.vector(unit(0.1, 0.2))
    question.vector(unit(-0.9, 0.9, 0.3))
    assert torch.equal(question.vector(unit(0.1, 0.2)), alone)
    np.testing.assert_allclose(alone, [0.5 - 0.15, 0.2], rtol=1e-6)


def test_a_state_reads_back_and_goes_on_bit_for_bit(toy):
    recipe = toy()
    state = recipe.start()
    for number in (1, 2):
        state = recipe.learn(state, ask(recipe, state, [unit(0.3, -0.1)], number=number), number=number)
    assert same(Table.read(ToyGame(), state).arrays(), state)
    answer = ask(recipe, state, [unit(0.7)], number=3)
    kept = {name: value.copy() for name, value in state.items()}
    recipe.learn(state, PooledMean(-answer.mean, 0.0, 1.0), number=3)  # spoils the networks it holds
    assert same(recipe.learn(state, answer, number=3), toy().learn(kept, answer, number=3))
    assert same(state, kept), "a state is not changed by what is learned from it"


def test_what_is_released_is_made_ready_first(toy):
    recipe = toy()
    recipe.released(recipe.start())
    assert recipe._game.settled == 1


@pytest.mark.parametrize("length", [1, 3])
def test_an_answer_of_another_length_is_refused(toy, length):
    recipe = toy()
    with pytest.raises(ValueError, match=rf"must have 2 coordinates, got shape \({length},\)"):
        recipe.learn(recipe.start(), PooledMean(np.zeros(length, np.float32), 0.0, 1.0), number=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"critic/weight": np.zeros(2, np.float32)}, r"weight: float32 \(2,\), wanted float32 \(1,\)"),
        ({"critic/weight": np.array([np.nan], np.float32)}, "not finite"),
        ({"generator/weight": np.zeros(1, np.float32)}, "unknown arrays: generator/weight"),
        ({"centre": np.zeros(2, np.float32)}, r"the centre must have 1 numbers, got shape \(2,\)"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(toy, change, said):
    recipe = toy()
    order = recipe.order(recipe.start(), number=1) | change
    with pytest.raises(StudyError, match=said):
        recipe.question(order, number=1)


def test_a_centre_that_the_study_has_not_is_refused(toy):
    order = toy().order(toy().start(), number=1)
    with pytest.raises(StudyError, match=r"privacy\.fake_centred is false"):
        toy(fake_centred=False).question(order, number=1)
