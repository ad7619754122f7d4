"""Recipe ``appearance``: what it asks, what it learns from noise, what it draws."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import StudyError
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family
from willis.shared.recipes.appearance.posterior import posterior
from willis.shared.recipes.appearance.question import LENGTH, covariance_of, features, filled, standardised
from willis.shared.recipes.appearance.recipe import AppearanceRecipe, uninformed
from willis.shared.recipes.appearance.statistics import (
    BANDS,
    CALIBRE,
    CELLS,
    GROUPS,
    LEVEL,
    N_CALIBRES,
    N_STATISTICS,
    measure,
)
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study

Ranges = dict[str, tuple[float, float]]


def study_of(family: str = "vessels", size: tuple[int, ...] = (32, 32), **recipe: float) -> Study:
    return Study.model_validate(
        {
            "name": "look",
            "patch": {"size": size},
            "prior": {"family": family},
            "networks": {"depth": 3},
            "recipe": {"name": "appearance", "simulations": 60, **recipe},
            "privacy": {"unit": "subject", "epsilon": 3.0, "delta": 1e-3, "sampling_rate": 1.0},
            "training": {"protocol": "pooled", "rounds": 1, "patches_per_bag": 8},
            "federation": {"quorum": 1, "sites": [{"name": "a", "subjects": 20}]},
        }
    )


@cache
def started(
    family: str = "vessels", size: tuple[int, ...] = (32, 32)
) -> tuple[AppearanceRecipe, dict[str, np.ndarray]]:
    recipe = AppearanceRecipe(study_of(family, size))
    return recipe, recipe.start()


def subject(seed: int, n: int = 5, ranges: Ranges | None = None) -> torch.Tensor:
    return draw_patches(
        Family.VESSELS, n=n, size=(32, 32), generator=np.random.default_rng(seed), ranges=ranges or {}
    )


def answer_of(std: float, ranges: Ranges | None = None) -> PooledMean:
    recipe, state = started()
    question = recipe.question(recipe.order(state, number=1), number=1)
    vectors = [question.vector(subject(seed, ranges=ranges)).numpy() for seed in range(6)]
    noise = std * np.random.default_rng(1).standard_normal(LENGTH)
    return PooledMean(np.mean(vectors, 0) + noise, std, 6.0)


def test_features_by_hand() -> None:
    # Two patches tell 1 and 3 of the level: mean 2, mean square 5, less 1; the second is silent on the rest.
    scores = np.full((2, N_STATISTICS), np.nan)
    scores[:, LEVEL] = [[1], [3]]
    scores[0, BANDS] = 2
    got = features(scores)
    assert got[LEVEL][0] == 2
    np.testing.assert_allclose(got[BANDS], 2)
    assert np.isnan(got[BANDS.stop : N_STATISTICS]).all()
    np.testing.assert_allclose(got[N_STATISTICS:], [4, 3, *[np.nan] * (len(GROUPS) - 2)])


PAIR = np.array([[1.0, 0.8], [0.8, 1.0]])


@pytest.mark.parametrize(
    ("means", "distrust", "wanted"),
    [
        ([2.0, np.nan], 0.0, [2.0, 1.6]),  # 0.8 / 1 of what is told
        ([2.0, np.nan], 1.0, [2.0, 0.8]),  # 0.8 / (1 + 1 ** 2)
        ([2.0, -1.0], 0.0, [2.0, -1.0]),
        ([np.nan, np.nan], 0.0, [0.0, 0.0]),
    ],
)
def test_what_a_subject_does_not_tell_is_what_the_prior_expects_by_hand(means, distrust, wanted) -> None:
    np.testing.assert_allclose(filled(np.array(means), PAIR, distrust=distrust), wanted, rtol=1e-5)


def test_what_is_filled_in_counts_no_more_than_what_can_be_told() -> None:
    steep = np.array([[0.01, 0.5], [0.5, 30.0]])
    assert filled(np.array([-3.0, np.nan]), steep, distrust=0.0)[1] == -3.0


def test_a_subject_without_wide_vessels_does_not_pull_their_contrast_to_the_priors() -> None:
    """Dark thin vessels: what the vector says of wide ones is dark too; zero would say: as in the prior."""
    recipe, state = started()
    question = recipe.question(recipe.order(state, number=1), number=1)
    thin = subject(3, 8, {"radius": (1.0, 1.4), "contrast": (-0.4, -0.4), "branch_length": (40, 40)})
    scores = standardised(
        np.stack([measure(patch[0].numpy(), patch[1].numpy() > 0).values for patch in thin]),
        question.centre,
        question.scale,
    )
    silent = (question.scale > 0) & ~np.isfinite(scores).any(0)
    inside = np.zeros(N_STATISTICS, bool)
    inside[CELLS] = np.tile([True] * 3 + [False] * 3, N_CALIBRES)
    assert (silent & inside).any()
    assert (question.vector(thin).numpy()[:N_STATISTICS][silent & inside] < 0).all()


def test_a_covariance_is_of_those_draws_that_tell_both_by_hand() -> None:
    scores = np.array([[1.0, 2.0], [3.0, np.nan]])
    np.testing.assert_allclose(covariance_of(scores), [[5, 2], [2, 4]])
    # Not a covariance as it stands: what is negative is cut.
    odd = np.array([[2.0, np.nan], [0.1, 2.0], [np.nan, 0.1]])
    assert np.linalg.eigvalsh(covariance_of(odd)).min() >= -1e-9


def test_a_modality_far_outside_is_not_pulled_back_by_hand() -> None:
    # Told 5 with noise 1 under a prior of variance f: log(f + 1) + 25 / (f + 1) is least at f = 24; of the
    # powers of two, 32 gives 4.254 and 16 gives 4.304.
    weight = np.zeros(LENGTH)
    weight[0] = 1
    answer = np.zeros(LENGTH)
    answer[0] = 5
    covariance = np.eye(N_STATISTICS)
    mean, _ = posterior(answer, 1.0, weight=weight, covariance=covariance, distrust=0.0)
    assert mean[0] == pytest.approx(5 * 32 / 33)
    answer[0] = 1  # log(f + 1) + 1 / (f + 1) grows from f = 1 on
    mean, _ = posterior(answer, 1.0, weight=weight, covariance=covariance, distrust=0.0)
    assert mean[0] == pytest.approx(1 / 2)


def test_scores_are_bounded_and_what_is_not_asked_for_is_missing() -> None:
    got = standardised(np.array([5.0, 5.0, 100.0]), np.array([4.0, 4.0, 4.0]), np.array([2.0, 0.0, 1.0]))
    np.testing.assert_array_equal(got, [0.5, np.nan, 3.0])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.floats(-2, 2))
def test_a_subjects_vector_has_a_norm_of_at_most_one(seed: int, n: int, contrast: float) -> None:
    recipe, state = started()
    question = recipe.question(recipe.order(state, number=1), number=1)
    vector = question.vector(subject(seed, n, {"contrast": (contrast, contrast)}))
    assert vector.shape == (question.length,) == (LENGTH,)
    assert vector.dtype == torch.float32
    assert float(vector.double().norm()) <= 1


def test_a_subject_without_patches_tells_nothing() -> None:
    recipe, state = started()
    question = recipe.question(recipe.order(state, number=1), number=1)
    assert not question.vector(torch.empty(0, 2, 32, 32)).any()


def test_an_answer_without_information_leaves_the_prior() -> None:
    recipe, state = started()
    learned = recipe.learn(state, uninformed(20), number=1)
    assert not learned["mean"].any()
    np.testing.assert_array_equal(learned["spread"], 1)
    look = recipe.released(learned)
    one = recipe.sampler(look).draw(first=0, n=3, seed=1)
    study = study_of(candidates=1)
    plain = AppearanceRecipe(study).sampler(look).draw(first=0, n=24, seed=1)
    assert one.shape == (3, 2, 32, 32)
    # The null's patches measure as the prior's do.
    own = subject(77, 24)
    assert float(plain[:, 0].mean()) == pytest.approx(float(own[:, 0].mean()), abs=0.15)
    assert float(plain[:, 0].std()) == pytest.approx(float(own[:, 0].std()), rel=0.2)


def test_wiener_shrinkage_of_one_coordinate_by_hand() -> None:
    # Told 0.6 / 0.5 = 1.2 of prior variance 1, with noise of variance 1 / (3 x 0.5 ** 2) = 4 / 3.
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[0], answer[0] = 0.5, 0.6
    mean, spread = posterior(answer, 3.0, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)
    assert mean[0] == pytest.approx(1.2 / (1 + 4 / 3))
    assert not mean[1:].any()
    np.testing.assert_array_equal(spread, 1)


def test_what_is_not_asked_is_inferred_from_nothing_and_correlated_statistics_help_each_other() -> None:
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[[1, 2]] = 1.0
    answer[1] = answer[2] = 1.0
    alike = np.eye(N_STATISTICS)
    alike[1, 2] = alike[2, 1] = 0.99
    alone = posterior(answer, 1.0, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)[0]
    both = posterior(answer, 1.0, weight=weight, covariance=alike, distrust=0.0)[0]
    assert alone[1] == pytest.approx(0.5)
    assert both[1] == pytest.approx(1.99 / 2.99)  # by the eigenvector (1, 1): 1.99 / (1.99 + 1)


def test_the_spread_is_what_the_squares_leave_beside_the_mean_by_hand() -> None:
    # Exact answers: mean 0.6, mean square 1 - 0.28 = 0.72, less 0.36: 0.36, so 0.6.
    weight, answer = np.zeros(LENGTH), np.zeros(LENGTH)
    weight[[0, N_STATISTICS]] = 1.0
    answer[0], answer[N_STATISTICS] = 0.6, -0.28
    mean, spread = posterior(answer, 1e12, weight=weight, covariance=np.eye(N_STATISTICS), distrust=0.0)
    assert mean[0] == pytest.approx(0.6)
    assert spread[0] == pytest.approx(0.6)


@given(st.floats(1e-3, 1e3), st.floats(0, 2))
def test_noise_only_ever_shrinks(precision: float, distrust: float) -> None:
    generator = np.random.default_rng(0)
    weight = np.ones(LENGTH)
    answer = generator.standard_normal(LENGTH)
    covariance = np.eye(N_STATISTICS)
    mean, spread = posterior(answer, precision, weight=weight, covariance=covariance, distrust=distrust)
    assert bool((np.abs(mean) <= np.abs(answer[:N_STATISTICS]) + 1e-9).all())
    assert bool((np.sign(mean) == np.sign(answer[:N_STATISTICS])).all())
    assert bool(((spread >= 0.3) & (spread <= 1.3)).all())


def test_it_learns_where_subjects_differ_from_the_prior() -> None:
    recipe, state = started()
    ranges: Ranges = {
        "background_spread": (0.05, 0.06),
        "spectrum_slope": (1.0, 1.0),
        "contrast": (0.12, 0.14),
    }
    exact = recipe.learn(state, answer_of(0.0, ranges), number=1)
    noisy = recipe.learn(state, answer_of(0.05, ranges), number=1)
    assert exact["mean"][BANDS].max() > 0.4  # rougher than the prior
    assert float(np.corrcoef(exact["mean"], noisy["mean"])[0, 1]) > 0.6
    drawn = recipe.sampler(recipe.released(exact)).draw(first=0, n=16, seed=2)
    again = recipe.question(recipe.order(state, number=1), number=1).vector(drawn).numpy()
    told = answer_of(0.0, ranges).mean
    prior = np.zeros(LENGTH)
    # Its draws measure nearer to the subjects than the prior's do, a fifth of them being the prior's.
    assert np.linalg.norm(again[BANDS] - told[BANDS]) < 0.6 * np.linalg.norm(prior[BANDS] - told[BANDS])


def test_answers_of_two_rounds_are_averaged_by_their_precision() -> None:
    recipe, state = started()
    first = PooledMean(np.full(LENGTH, 0.3), 0.1, 20)
    second = PooledMean(np.full(LENGTH, 0.0), 0.2, 20)
    learned = recipe.learn(recipe.learn(state, first, number=1), second, number=2)
    np.testing.assert_allclose(learned["answer"], 0.3 * 100 / 125, rtol=1e-5)  # weights 1 / 0.01 and 1 / 0.04
    assert learned["precision"][0] == pytest.approx(125, rel=1e-5)


def test_arrays_are_finite_float32() -> None:
    recipe, state = started()
    learned = recipe.learn(state, answer_of(0.1), number=1)
    for arrays in (state, learned, recipe.order(state, number=1), recipe.released(learned)):
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in arrays.values())
    assert set(learned) == set(state)


def test_a_patch_depends_on_the_look_the_seed_and_its_number_alone() -> None:
    recipe, state = started()
    sampler = recipe.sampler(recipe.released(recipe.learn(state, answer_of(0.1), number=1)))
    many = sampler.draw(first=0, n=5, seed=3)
    assert torch.equal(sampler.draw(first=3, n=2, seed=3), many[3:])
    assert not torch.equal(sampler.draw(first=3, n=2, seed=4), many[3:])
    assert sampler.draw(first=9, n=0, seed=3).shape == (0, 2, 32, 32)
    assert set(many[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert float(many.abs().max()) <= 1


def test_calibres_that_were_learned_are_drawn_more_often() -> None:
    study = study_of(candidates=6, broad=0.0)
    recipe = AppearanceRecipe(study)
    _, state = started()
    thick = dict(recipe.released(state))
    mean = np.zeros(N_STATISTICS, np.float32)
    mean[CALIBRE.stop - 1] = 1.0
    drawn = [
        recipe.sampler(look).draw(first=0, n=12, seed=0)[:, 1].mean()
        for look in (thick, thick | {"mean": mean})
    ]
    assert float(drawn[1]) > float(drawn[0]) + 0.05


@pytest.mark.parametrize(
    ("family", "size"), [("lesions", (32, 32)), ("organ", (32, 32)), ("vessels", (16, 16, 16))]
)
def test_every_family_and_dimension(family: str, size: tuple[int, ...]) -> None:
    recipe = AppearanceRecipe(study_of(family, size))
    state = recipe.start()
    question = recipe.question(recipe.order(state, number=1), number=1)
    drawn = recipe.sampler(recipe.released(state)).draw(first=0, n=3, seed=1)
    assert drawn.shape == (3, 2, *size)
    mean = question.vector(drawn).double().numpy()
    learned = recipe.learn(state, PooledMean(mean, 0.05, 20), number=1)
    assert recipe.sampler(recipe.released(learned)).draw(first=0, n=2, seed=1).shape == (2, 2, *size)


def test_what_is_not_its_own_is_refused() -> None:
    recipe, state = started()
    order = recipe.order(state, number=1)
    with pytest.raises(StudyError, match="finite arrays of shapes"):
        recipe.question({**order, "extra": np.zeros(1)}, number=1)
    with pytest.raises(StudyError, match="finite arrays of shapes"):
        recipe.question({**order, "centre": np.full(N_STATISTICS, np.nan)}, number=1)
    with pytest.raises(StudyError, match=r"at least 0, got -1\.0"):
        recipe.question({**order, "scale": np.full(N_STATISTICS, -1.0)}, number=1)
    with pytest.raises(ValueError, match="finite arrays of shapes"):
        recipe.sampler({"mean": np.zeros(3)})
    other = study_of().model_dump() | {"recipe": {"name": "dp-wgan"}}
    with pytest.raises(StudyError, match="asked to run a study of recipe dp-wgan"):
        AppearanceRecipe(Study.model_validate(other))
    colours = study_of().model_dump() | {"patch": {"size": (32, 32), "channels": ("red", "green")}}
    with pytest.raises(StudyError, match=r"got 2 in patch\.channels"):
        AppearanceRecipe(Study.model_validate(colours))
