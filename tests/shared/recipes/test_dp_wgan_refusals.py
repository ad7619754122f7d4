"""What recipe dp-wgan refuses: studies that are not its own, orders and states that are not."""

import numpy as np
import pytest
from harness.pooled_wgan import zero

from willis.shared.errors import StudyError
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe


def test_keys_that_need_pooled_are_refused_under_local(tiny_study):
    study = tiny_study(recipe={"name": "dp-wgan", "trained": "low-rank", "adaptive": True})
    with pytest.raises(StudyError, match="adaptive, trained need training"):
        DpWganRecipe(study)


def test_another_recipe_is_refused(tiny_study):
    study = tiny_study(training={"protocol": "pooled", "critic_steps": 1}, recipe={"name": "voted-prior"})
    with pytest.raises(StudyError, match="asked to run a study of recipe voted-prior"):
        DpWganRecipe(study)


def test_a_refiner_of_colours_is_refused(pooled):
    study = pooled(recipe={"refiner": True}, patch={"channels": ["red", "green"]})
    with pytest.raises(StudyError, match="got 2"):
        DpWganRecipe(study)


def test_arrays_of_others_are_refused(pooled):
    recipe = DpWganRecipe(pooled())
    state = recipe.start()
    order = recipe.order(state, number=1)
    without = {name: value for name, value in order.items() if name != "centre"}
    for wrong in (
        {},
        without,
        order | {"centre": np.zeros(3, np.float32)},
        order | {"critic/score.bias": np.zeros(2, np.float32)},
        order | {"more": np.zeros(2, np.float32)},
        order | {"critic/score.bias": np.full(1, np.nan, np.float32)},
    ):
        with pytest.raises(StudyError, match="the order"):
            recipe.question(wrong, number=1)
    uncentred = DpWganRecipe(pooled(privacy={"fake_centred": False}))
    assert "centre" not in uncentred.order(state, number=1)
    with pytest.raises(StudyError, match="fake_centred is false"):
        uncentred.question(order, number=1)
    with pytest.raises(ValueError, match="781 coordinates"):
        recipe.learn(state, PooledMean(mean=np.zeros(3, np.float32), std=0.0, units=1.0), number=1)
    with pytest.raises(ValueError, match="missing"):
        recipe.learn({}, zero(recipe, state), number=1)
    with pytest.raises(ValueError, match="missing"):
        recipe.sampler({})


def test_learn_goes_on_from_moments(pooled):
    recipe = DpWganRecipe(pooled())
    state = recipe.start()
    broken = {name: value for name, value in state.items() if name != "critic_steps/count"}
    with pytest.raises(ValueError, match="moments must have shapes"):
        recipe.learn(broken, zero(recipe, state), number=1)
