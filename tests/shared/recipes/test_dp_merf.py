"""Recipe dp-merf: random Fourier features, and a generator fitted to a noisy mean of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import StudyError
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_merf.features import coarse, draw_features, grid_for, median_distance
from willis.shared.recipes.dp_merf.recipe import EmbeddingQuestion, MerfRecipe, believed_share


@pytest.fixture
def recipe(tiny_study):
    def build(**keys) -> MerfRecipe:
        return MerfRecipe(
            tiny_study(
                prior={"family": "lesions"},
                recipe={"name": "dp-merf", "frequencies": 64, "coarsest": 8, "steps": 30, "lr": 2e-3} | keys,
                training={"protocol": "pooled", "critic_steps": 1, "fakes": 16},
            )
        )

    return build


def random_patches(n: int, *, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).uniform(-1, 1, (n, 2, 16, 16))
    return torch.tensor(values, dtype=torch.float32)


def test_a_grid_divides_every_side_by_the_same_number():
    assert grid_for((48, 32), 16) == (16, 10)
    assert grid_for((96, 96), 16) == (16, 16)
    assert grid_for((16, 16), 64) == (16, 16)
    assert grid_for((32, 32, 8), 8) == (8, 8, 2)


def test_coarse_patches_are_means_by_hand():
    patch = torch.arange(32, dtype=torch.float32).reshape(1, 2, 4, 4)
    # Means of 2 x 2 blocks: 0, 1, 4, 5 -> 2.5, and so on; the label's are 16 more.
    wanted = [2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5]
    assert coarse(patch, (2, 2))[0].tolist() == wanted


def test_features_have_norm_one_and_stand_for_the_gaussian_kernel():
    patches = random_patches(6)
    cells = coarse(patches, (8, 8))
    features = draw_features(cells=128, grid=(8, 8), frequencies=4000, bandwidth=5.0, seed=1).of(patches)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6))
    exact = torch.exp(-(torch.cdist(cells, cells) ** 2) / (2 * 5.0**2))
    assert (features @ features.T - exact).abs().max() < 0.06  # 1 / sqrt(4000) is 0.016


def test_the_median_distance_by_hand():
    assert median_distance(torch.tensor([[0.0], [1.0], [3.0]])) == 2.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.booleans())
def test_a_subjects_vector_has_norm_at_most_one(seed, n, alike):
    features = draw_features(cells=128, grid=(8, 8), frequencies=16, bandwidth=3.0, seed=1)
    patches = random_patches(n, seed=seed)
    if alike and n:
        patches = patches[:1].expand(n, -1, -1, -1)
    vector = EmbeddingQuestion(features).vector(patches)
    assert vector.shape == (32,)
    assert vector.double().norm() <= 1


def test_belief_by_hand():
    # |apart|^2 = 100 and n = 100 coordinates of noise std^2: 1 - std^2 (100 + 2 sqrt(200)) / 100.
    apart = np.ones(100)
    assert believed_share(apart, 0.0) == 1
    assert believed_share(apart, 0.5) == pytest.approx(1 - 0.25 * (1 + 0.2 * math.sqrt(2)))
    assert believed_share(apart, 1.0) == 0
    assert believed_share(0 * apart, 0.0) == 0


def distance(recipe: MerfRecipe, state, wanted: np.ndarray) -> float:
    question = recipe.question(recipe.order(state, number=1), number=1)
    fakes = recipe.sampler(recipe.released(state)).draw(first=0, n=64, seed=9)
    return float(np.linalg.norm(question.vector(fakes).numpy() - wanted))


def answer_of(recipe: MerfRecipe) -> tuple[dict, np.ndarray]:
    state = recipe.start()
    question = recipe.question(recipe.order(state, number=1), number=1)
    return state, question.vector(draw_prior(recipe._study, 60, purpose="subjects")).numpy()


def test_the_generator_comes_nearer_to_the_answer(recipe):
    merf = recipe()
    state, wanted = answer_of(merf)
    learned = merf.learn(state, PooledMean(wanted, 0.0, 200), number=1)
    assert distance(merf, learned, wanted) < 0.7 * distance(merf, state, wanted)
    patches = merf.sampler(merf.released(learned)).draw(first=0, n=2, seed=1)
    assert patches.shape == (2, 2, 16, 16)


def test_without_information_it_gives_back_where_it_started(recipe):
    merf = recipe()
    state, wanted = answer_of(merf)
    noise = np.random.default_rng(0).standard_normal(len(wanted))
    question = merf.question(merf.order(state, number=1), number=1)
    own = question.vector(merf.sampler(merf.released(state)).draw(first=0, n=200, seed=2)).numpy()
    for answer in (PooledMean(wanted, math.inf, 9), PooledMean(own + noise, 1.0, 9)):
        null = merf.learn(state, answer, number=1)
        for name, value in state.items():
            np.testing.assert_array_equal(null[name], value)


def test_the_published_recipe_follows_even_noise(recipe):
    merf = recipe(shrink=False, steps=2)
    state, wanted = answer_of(merf)
    noise = np.random.default_rng(0).standard_normal(len(wanted))
    learned = merf.learn(state, PooledMean(noise, 1.0, 9), number=1)
    assert any(not np.array_equal(learned[name], value) for name, value in state.items())


def test_it_learns_the_same_twice(recipe):
    states = []
    for _ in range(2):
        merf = recipe(steps=3)
        state, wanted = answer_of(merf)
        states.append(merf.learn(state, PooledMean(wanted, 0.001, 9), number=1))
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value)
        assert value.dtype == np.float32


def test_what_does_not_fit_is_refused(recipe, tiny_study):
    merf = recipe()
    for order in ({}, {"bandwidth": np.array([math.nan])}, {"bandwidth": np.array([-1.0])}):
        with pytest.raises(StudyError, match="one positive bandwidth"):
            merf.question(order, number=1)
    with pytest.raises(ValueError, match="missing"):
        merf.sampler({})
    with pytest.raises(StudyError, match="dp-wgan"):
        MerfRecipe(tiny_study())
    with pytest.raises(StudyError, match="1 image channel"):
        MerfRecipe(
            tiny_study(
                patch={"channels": ["red", "green"]},
                recipe={"name": "dp-merf"},
                training={"protocol": "pooled", "critic_steps": 1},
            )
        )
