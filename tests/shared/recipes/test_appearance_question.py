"""Recipe ``appearance``: what it asks of a subject, with or without an answer to every statistic."""

import numpy as np
import pytest
import torch
from harness.made_appearance import started, subject
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.recipes.appearance.question import LENGTH, covariance_of, features, filled, standardised
from willis.shared.recipes.appearance.statistics import (
    BANDS,
    CELLS,
    GROUPS,
    LEVEL,
    N_CALIBRES,
    N_STATISTICS,
    measure,
)


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
