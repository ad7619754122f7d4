"""Recipe voted-prior: votes, what a noisy histogram says, and what is chosen."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import StudyError
from willis.shared.prior.families import Family, parameters_of
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.voted_prior.embedding import LENGTH, SHAPES, convolved, embed, fit_embedding
from willis.shared.recipes.voted_prior.histogram import chances, likeness
from willis.shared.recipes.voted_prior.recipe import VotedPriorRecipe

FREE = {"radius": (2.0, 8.0), "background_spread": (0.005, 0.06), "lesions": (1, 1)}


@pytest.fixture
def recipe(tiny_study):
    def build(*, rounds: int = 1, **keys) -> VotedPriorRecipe:
        middle = {name: (p.low + p.high) / 2 for name, p in parameters_of(Family.LESIONS).items()}
        plan = {"name": "voted-prior", "candidates": 24, "variations": 2, "vectors": 64} | keys
        return VotedPriorRecipe(
            tiny_study(
                patch={"size": [16, 16]},
                prior={
                    "family": "lesions",
                    "ranges": {name: list(FREE.get(name, (at, at))) for name, at in middle.items()},
                },
                recipe=plan,
                training={"protocol": "pooled", "critic_steps": 1, "rounds": rounds},
            )
        )

    return build


@pytest.fixture
def subjects(recipe):
    """Four patches of each of 30 subjects whose lesions are large."""
    space, rng = recipe()._space, np.random.default_rng(3)
    low = np.array([(6.5, 7.2)[0] if name == "radius" else limits[0] for name, limits in space.ranges])
    high = np.array([(6.5, 7.2)[1] if name == "radius" else limits[1] for name, limits in space.ranges])
    return [space.patches(np.tile(rng.uniform(low, high), (4, 1)), rng) for _ in range(30)]


def voted(recipe: VotedPriorRecipe, state, subjects, *, number: int = 1) -> np.ndarray:
    question = recipe.question(recipe.order(state, number=number), number=number)
    return np.mean([question.vector(patches).double().numpy() for patches in subjects], 0)


def test_chances_by_hand():
    # No likeness but to oneself, no noise: the vote of the third stands below 2 * 0 only when it is 0.
    found, belief = chances(np.array([0.6, 0.2, 0.0]), 0.0, np.eye(3), threshold=2.0)
    assert belief == 1
    np.testing.assert_allclose(found, [0.75, 0.25, 0])


def test_votes_below_the_threshold_count_as_none():
    votes = np.array([1.0, 0.015, *[0.0] * 38])
    found, belief = chances(votes, 0.01, np.eye(40), threshold=2.0)
    assert 0.9 < belief < 1
    assert found[1] == pytest.approx((1 - belief) / 40)
    assert found[0] == pytest.approx(belief + (1 - belief) / 40)


def test_infinite_noise_and_pure_noise_give_equal_chances():
    found, belief = chances(np.ones(10), math.inf, np.eye(10), threshold=2.0)
    np.testing.assert_allclose(found, 0.1)
    assert belief == 0
    alike = likeness(np.random.default_rng(1).standard_normal((64, 5)), width=0.5)
    believed = [
        chances(0.1 * np.random.default_rng(seed).standard_normal(64), 0.1, alike, threshold=2.0)[1] > 0
        for seed in range(200)
    ]
    assert np.mean(believed) < 0.08  # two standard errors above what noise does


def test_equal_votes_are_no_information():
    assert chances(np.full(5, 0.2), 0.0, np.eye(5), threshold=2.0)[1] == 0


@given(st.integers(2, 30), st.floats(0.1, 5))
def test_likeness_shares_a_vote_out(n, width):
    kernel = likeness(np.random.default_rng(n).standard_normal((n, 3)), width=width)
    np.testing.assert_allclose(kernel.sum(1), 1)
    assert (kernel.argmax(1) == np.arange(n)).all()


def test_the_embedding_is_standard_on_what_it_was_fitted_on(recipe):
    space, rng = recipe()._space, np.random.default_rng(0)
    patches = space.patches(space.draw(60, rng), rng)
    arrays = fit_embedding(patches, seed=1)
    assert {name: value.shape for name, value in arrays.items()} == dict(SHAPES)
    found = embed(patches, arrays, seed=1)
    assert found.shape == (60, LENGTH)
    # Whitened directions have mean square 1 each, and so 1 together after division by their number.
    assert (found[:, :24] ** 2).sum(1).mean() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(found[:5], embed(patches[:5], arrays, seed=1), atol=1e-5)
    assert convolved(patches[:0], seed=1).shape[0] == 0


def test_random_convolutions_see_the_label_and_three_dimensions():
    image = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (1, 2, 8, 8, 8)), dtype=torch.float32)
    other = image.clone()
    other[:, 1] = -other[:, 1]
    assert not np.allclose(convolved(image, seed=1), convolved(other, seed=1))
    assert not np.allclose(convolved(image, seed=1), convolved(image, seed=2))
    assert np.isfinite(convolved(image, seed=1)).all()


def test_a_vote_goes_to_the_nearest_candidate(recipe, subjects):
    voter = recipe()
    state = voter.start()
    question = voter.question(voter.order(state, number=1), number=1)
    patches = torch.cat(subjects[:3])
    at = embed(patches, question.embedding, seed=question.seed)
    nearest = [min(range(24), key=lambda c: np.linalg.norm(row - question.candidates[c])) for row in at]
    wanted = np.bincount(nearest, minlength=24).astype(float)
    np.testing.assert_allclose(question.vector(patches), wanted / np.linalg.norm(wanted), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 6))
def test_a_subjects_votes_have_norm_at_most_one(shared_question, seed, n):
    rng = np.random.default_rng(seed)
    patches = torch.tensor(rng.uniform(-1, 1, (n, 2, 16, 16)), dtype=torch.float32)
    vector = shared_question.vector(patches)
    assert vector.double().norm() <= 1
    assert bool(vector.any()) == (n > 0)


@pytest.fixture(scope="module")
def shared_question():
    from willis.shared.recipes.voted_prior.recipe import VoteQuestion

    rng = np.random.default_rng(0)
    public = torch.tensor(rng.uniform(-1, 1, (40, 2, 16, 16)), dtype=torch.float32)
    arrays = fit_embedding(public, seed=1)
    return VoteQuestion(arrays, embed(public[:12], arrays, seed=1), 1)


def test_a_planted_domain_is_chosen_without_noise(recipe, subjects):
    voter = recipe(rounds=2)
    state, at = voter.start(), voter._space.names.index("radius")
    away = [abs(state["vectors"][:, at].mean() - 6.85)]
    for number in (1, 2):
        answer = PooledMean(voted(voter, state, subjects, number=number), 0.0, 30)
        state = voter.learn(state, answer, number=number)
        away.append(abs(state["vectors"][:, at].mean() - 6.85))
    assert state["fixed"][at] == 1
    assert away[-1] < 0.5 * away[0]
    assert state["vectors"][:, at].std() < 0.8 * 6 / math.sqrt(12)


def test_without_information_it_gives_back_the_prior(recipe, subjects):
    voter = recipe()
    state = voter.start()
    votes = voted(voter, state, subjects[:3])
    rng = np.random.default_rng(5)
    for answer in (
        PooledMean(votes, math.inf, 3),
        PooledMean(0.5 * rng.standard_normal(24), 0.5, 3),
    ):
        null = voter.learn(state, answer, number=1)
        for name, value in state.items():
            np.testing.assert_array_equal(null[name], value)
    assert not state["fixed"].any()


def test_it_learns_the_same_twice(recipe, subjects):
    states = []
    for _ in range(2):
        voter = recipe(rounds=2)
        state = voter.start()
        votes = voted(voter, state, subjects[:10])
        states.append(voter.learn(state, PooledMean(votes, 0.001, 10), number=1))
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    assert not np.array_equal(states[0]["candidates"], recipe().start()["candidates"])


def test_patch_i_depends_on_arrays_seed_and_i_alone(recipe):
    voter = recipe()
    sampler = voter.sampler(voter.released(voter.start()))
    four = sampler.draw(first=1, n=4, seed=3)
    assert torch.equal(four[2:], sampler.draw(first=3, n=2, seed=3))


def test_what_does_not_fit_is_refused(recipe, tiny_study):
    voter = recipe()
    order = voter.order(voter.start(), number=1)
    with pytest.raises(StudyError, match="has arrays"):
        voter.question({"candidates": order["candidates"]}, number=1)
    with pytest.raises(StudyError, match="finite"):
        voter.question(order | {"candidates": order["candidates"] * math.nan}, number=1)
    with pytest.raises(StudyError, match="positive"):
        voter.question(order | {"convolved_std": 0 * order["convolved_std"]}, number=1)
    with pytest.raises(ValueError, match="fixed: missing"):
        voter.sampler({})
    with pytest.raises(StudyError, match="dp-wgan"):
        VotedPriorRecipe(tiny_study())
