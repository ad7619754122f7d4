"""Recipe ``appearance``: what it learns from answers, what it draws, what it refuses."""

import numpy as np
import pytest
import torch
from harness.made_appearance import Ranges, answer_of, started, study_of, subject

from willis.shared.errors import StudyError
from willis.shared.recipes.appearance.question import LENGTH
from willis.shared.recipes.appearance.recipe import AppearanceRecipe, uninformed
from willis.shared.recipes.appearance.statistics import (
    BANDS,
    CALIBRE,
    N_STATISTICS,
)
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study


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
