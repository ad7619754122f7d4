"""Recipe tuned-prior: what is learned with and without information."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import StudyError
from willis.shared.prior.families import Family, parameters_of
from willis.shared.recipes.cloud.parameters import space_of, systematic
from willis.shared.recipes.cloud.sampler import CloudSampler
from willis.shared.recipes.cloud.statistics import STATISTICS, patch_statistics
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.tuned_prior.recipe import StatisticsQuestion, TunedPriorRecipe
from willis.shared.recipes.tuned_prior.simulation import simulated

FREE = {"radius": (2.0, 8.0), "background_spread": (0.005, 0.06), "contrast": (0.15, 0.6), "lesions": (1, 1)}


def pinned() -> dict[str, list[float]]:
    """Ranges in which three parameters vary, one lesion lies, and all else stays in the middle."""
    middle = {name: (p.low + p.high) / 2 for name, p in parameters_of(Family.LESIONS).items()}
    return {name: list(FREE.get(name, (value, value))) for name, value in middle.items()}


@pytest.fixture
def recipe(tiny_study):
    def build(**keys) -> TunedPriorRecipe:
        plan = {"name": "tuned-prior", "simulations": 200, "vectors": 64} | keys
        return TunedPriorRecipe(
            tiny_study(
                patch={"size": [24, 24]},
                networks={"depth": 3},
                prior={"family": "lesions", "ranges": pinned()},
                recipe=plan,
                training={"protocol": "pooled", "critic_steps": 1},
            )
        )

    return build


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(1, 50))
def test_systematic_choice_is_as_even_as_it_can_be(weights, n):
    shares = np.array(weights) + 1e-3
    chosen = systematic(shares, n, np.random.default_rng(0))
    counts = np.bincount(chosen, minlength=len(shares))
    assert counts.sum() == n
    assert np.abs(counts - n * shares / shares.sum()).max() <= 1 + 1e-6


def test_narrowing_by_hand(recipe):
    space = recipe()._space
    vectors = space.draw(4, np.random.default_rng(0))
    at = space.names.index("radius")
    vectors[:, at] = [2.0, 8.0, 2.0, 8.0]
    left, moved = space.narrowing(vectors, np.array([0.0, 1, 0, 1]))
    assert left[at] == pytest.approx(0)
    assert moved[at] == pytest.approx(3 / (6 / math.sqrt(12)))
    still = space.names.index("blur")
    assert (left[still], moved[still]) == (1, 0)
    even = np.array([0.0, 1, 0, 1])
    assert space.told_apart(vectors, even, identified=0.8, draws=100)[at]
    # Of 3 draws the mean is off by 2.5 / sqrt(3) = 1.44 deviations by chance; 2 is 1.73 of them.
    assert space.told_apart(vectors, even, identified=0.8, draws=3)[at]
    vectors[:, at] = [2.0, 7.0, 2.0, 5.0]  # the mean moves by 0.58 deviations, the same spread stays
    told = [space.told_apart(vectors, even, identified=0.1, draws=draws)[at] for draws in (400, 4)]
    assert told == [False, False]  # 0.58 < 2.5 * 0.9
    told = [space.told_apart(vectors, even, identified=0.8, draws=draws)[at] for draws in (400, 1)]
    assert told == [True, False]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.floats(0.1, 3))
def test_a_subjects_vector_has_norm_at_most_one(seed, n, bound):
    rng = np.random.default_rng(seed)
    size = len(STATISTICS)
    weight = rng.uniform(0, 1, 2 * size)
    question = StatisticsQuestion(rng.normal(size=size), rng.uniform(0.1, 2, size), weight, bound)
    patches = torch.tensor(np.sign(rng.normal(size=(n, 2, 8, 8))) * rng.uniform(0, 1), dtype=torch.float32)
    vector = question.vector(patches)
    assert vector.shape == (question.length,)
    assert torch.isfinite(vector).all()
    assert vector.double().norm() <= 1
    if n == 0:
        assert not vector.any()


def answer_of(recipe: TunedPriorRecipe, at: dict[str, tuple[float, float]], *, subjects: int, seed: int = 7):
    """State, question, and exact mean answer of subjects whose parameters lie in a narrower domain."""
    state, rng = recipe.start(), np.random.default_rng(seed)
    question = recipe.question(recipe.order(state, number=1), number=1)
    space, vectors = recipe._space, []
    low = np.array([at.get(name, limits)[0] for name, limits in space.ranges])
    high = np.array([at.get(name, limits)[1] for name, limits in space.ranges])
    for _ in range(subjects):
        own = np.tile(rng.uniform(low, high), (4, 1))
        vectors.append(question.vector(space.patches(own, rng)).double().numpy())
    return state, question, np.mean(vectors, 0)


def test_a_planted_domain_is_found_without_noise(recipe):
    # The ranges are 2 to 8 and 0.005 to 0.06: the planted domain is a corner of them.
    tuned = recipe()
    state, _, mean = answer_of(tuned, {"radius": (6.5, 7.2), "background_spread": (0.04, 0.05)}, subjects=40)
    learned = tuned.learn(state, PooledMean(mean, 0.0, 40), number=1)
    names = tuned._space.names
    radius = learned["vectors"][:, names.index("radius")]
    assert learned["fixed"][names.index("radius")] == 1
    assert abs(radius.mean() - 6.85) < 0.9  # the middle of the prior is 1.85 away
    assert radius.std() < 0.8 * 6 / math.sqrt(12)
    texture = learned["vectors"][:, names.index("background_spread")]
    assert texture.mean() > 0.0375  # the middle of the prior is 0.0325
    assert set(np.array(names)[learned["fixed"] > 0]) <= set(FREE)


def test_without_information_it_gives_back_the_prior(recipe):
    tuned = recipe()
    state, _, mean = answer_of(tuned, {"radius": (6.5, 7.2)}, subjects=4)
    null = tuned.learn(state, PooledMean(mean, math.inf, 4), number=1)
    for name, value in state.items():
        np.testing.assert_array_equal(null[name], value)
    assert not null["fixed"].any()
    # Every patch keeps the study's own ranges: the same as a sampler that is never broad, or always.
    arrays, space = tuned.released(null), tuned._space
    never = CloudSampler(space, arrays, broad=0.0).draw(first=0, n=3, seed=1)
    always = CloudSampler(space, arrays, broad=1.0).draw(first=0, n=3, seed=1)
    assert torch.equal(never, always)


def test_pure_noise_moves_nothing(recipe):
    tuned = recipe()
    state = tuned.start()
    length, fixed = len(state["weight"]), 0.0
    for seed in range(10):
        noise = 0.2 * np.random.default_rng(seed).standard_normal(length)
        fixed += tuned.learn(state, PooledMean(noise, 0.2, 24), number=1)["fixed"].sum()
    assert fixed <= 1  # of 3 parameters, ten times


def test_it_learns_the_same_twice_and_averages_rounds(recipe):
    tuned = recipe()
    state, _, mean = answer_of(tuned, {"radius": (6.5, 7.2)}, subjects=10)
    once = tuned.learn(state, PooledMean(mean, 0.02, 10), number=1)
    again = tuned.learn(recipe().start(), PooledMean(mean, 0.02, 10), number=1)
    for name, value in once.items():
        np.testing.assert_array_equal(again[name], value)
        assert value.dtype == np.float32
    # Answers 0 and m of the same noise average to m / 2, with twice the precision.
    first = tuned.learn(state, PooledMean(0 * mean, 0.02, 10), number=1)
    both = tuned.learn(first, PooledMean(mean, 0.02, 10), number=2)
    np.testing.assert_allclose(both["answer"], mean / 2, atol=1e-6)
    assert both["precision"][0] == pytest.approx(2 / 0.02**2)


def test_patch_i_depends_on_arrays_seed_and_i_alone(recipe):
    tuned = recipe()
    state, _, mean = answer_of(tuned, {"radius": (6.5, 7.2)}, subjects=10)
    sampler = tuned.sampler(tuned.released(tuned.learn(state, PooledMean(mean, 0.0, 10), number=1)))
    five = sampler.draw(first=2, n=5, seed=3)
    assert five.shape == (5, 2, 24, 24)
    assert torch.equal(five[1:3], sampler.draw(first=3, n=2, seed=3))
    assert not torch.equal(five, sampler.draw(first=2, n=5, seed=4))
    assert five.abs().max() <= 1
    assert set(five[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert sampler.draw(first=0, n=0, seed=0).shape == (0, 2, 24, 24)


def test_draws_follow_the_fixed_parameters(recipe):
    tuned = recipe(broad=0.0)
    state = tuned.start()
    names = tuned._space.names
    arrays = {name: value.copy() for name, value in tuned.released(state).items()}
    arrays["fixed"][names.index("radius")] = 1
    depths = []
    for radius in (2.5, 7.5):
        arrays["vectors"][:, names.index("radius")] = radius
        drawn = patch_statistics(tuned.sampler(arrays).draw(first=0, n=12, seed=1))
        depths.append(np.exp(drawn[:, STATISTICS.index("most-depth")]).mean())
    assert depths[1] > 1.5 * depths[0]


def test_a_statistic_that_tells_nothing_is_not_asked_for(recipe):
    tuned = recipe()
    public = simulated(tuned._space, seed=1, draws=200)
    known = dict(zip(STATISTICS, public.explained, strict=False))
    assert known["mean-depth"] > 0.3  # the radius makes it
    assert known["along"] < 0.2  # headings are random
    assert (public.weight[public.explained < 0.05] == 0).all()


def test_what_does_not_fit_is_refused(recipe, tiny_study):
    tuned = recipe()
    order = tuned.order(tuned.start(), number=1)
    with pytest.raises(StudyError, match="has arrays"):
        tuned.question({"mean": order["mean"]}, number=1)
    with pytest.raises(StudyError, match="positive deviations"):
        tuned.question(order | {"std": 0 * order["std"]}, number=1)
    with pytest.raises(StudyError, match="finite"):
        tuned.question(order | {"mean": order["mean"] * math.nan}, number=1)
    with pytest.raises(ValueError, match=r"other: unknown.*vectors: missing"):
        tuned.sampler({"other": np.zeros(1), "fixed": np.zeros(3), "jitter": np.full(1, math.nan)})
    cloud = tuned.released(tuned.start())
    with pytest.raises(ValueError, match="jitter: holds numbers that are not finite"):
        tuned.sampler(cloud | {"jitter": cloud["jitter"] + math.inf})
    with pytest.raises(StudyError, match="dp-wgan"):
        TunedPriorRecipe(tiny_study())
    with pytest.raises(StudyError, match="1 image channel"):
        space_of(tiny_study(patch={"channels": ["red", "green"]}))
