"""Recipe ``atlas``: what it asks, what it learns from noise, what it draws."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from willis.shared.errors import StudyError
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family
from willis.shared.recipes.atlas.inference import posterior
from willis.shared.recipes.atlas.layout import N_BINS, N_EMPTY, layout_of, templates_of
from willis.shared.recipes.atlas.question import as_planes, nearest, public_bins
from willis.shared.recipes.atlas.recipe import AtlasRecipe, null_arrays
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study

State = dict[str, np.ndarray]


def study_of(size: tuple[int, ...] = (32, 32), recipe: str = "atlas") -> Study:
    return Study.model_validate(
        {
            "name": "organ",
            "patch": {"size": size, "flips": False},
            "prior": {"family": "organ"},
            "networks": {"depth": 3},
            "recipe": {"name": recipe},
            "privacy": {"unit": "subject", "epsilon": 3.0, "delta": 1e-3, "sampling_rate": 1.0},
            "training": {"protocol": "pooled", "rounds": 2, "patches_per_bag": 8},
            "federation": {"quorum": 1, "sites": [{"name": "a", "subjects": 20}]},
        }
    )


@cache
def started() -> tuple[AtlasRecipe, State]:
    recipe = AtlasRecipe(study_of())
    return recipe, recipe.start()


def organs(seed: int, n: int = 6) -> torch.Tensor:
    return draw_patches(Family.ORGAN, n=n, size=(32, 32), generator=np.random.default_rng(seed))


def disc(radius: float, level: float, n: int = 6) -> torch.Tensor:
    """Return patches that are brighter below, with a disc of a level of its own in the middle."""
    down, right = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    inside = torch.hypot(down, right) < radius
    image = torch.where(inside, level, 0.02 * down)
    return torch.stack([image, 2.0 * inside - 1]).expand(n, -1, -1, -1).clone()


def answer_to(state: State, subjects: list[torch.Tensor], *, number: int, std: float = 0.0) -> PooledMean:
    """Return the mean of the subjects' vectors; the noise itself is drawn by whoever wants it."""
    recipe, _ = started()
    question = recipe.question(recipe.order(state, number=number), number=number)
    vectors = torch.stack([question.vector(patches) for patches in subjects])
    return PooledMean(vectors.mean(0).double().numpy(), std, float(len(subjects)))


def test_bins_follow_from_area_and_halves():
    # Radius 4 covers 0.05 of 32 x 32 pixels, 5 covers 0.08, 8 covers 0.20; all are brighter below.
    planes = as_planes(torch.cat([disc(radius, 0.5, n=1) for radius in (0, 4, 5, 8)]))
    assert public_bins(planes).tolist() == [1, N_EMPTY + 1, N_EMPTY + 3, N_EMPTY + 5]
    assert public_bins(as_planes(disc(5, 0.5, n=1).flip(2))).tolist() == [N_EMPTY + 2]


def test_the_first_round_without_noise_finds_a_planted_template():
    recipe, state = started()
    patches = disc(6, -0.5)
    after = recipe.learn(state, answer_to(state, [patches], number=1), number=1)
    layout, at = layout_of(study_of()), N_EMPTY + 3
    # Shares shrink to no public one where there is no noise, but a bin keeps the least share: 7 of 0.03.
    assert after["share"][at] == pytest.approx(1 / (1 + 7 * 0.03), abs=1e-3)
    found = templates_of(after, layout)[at]
    before = templates_of(state, layout)[at]
    planes = as_planes(patches)[0]
    wanted = torch.stack(
        [
            basis.draw(basis.analyse(plane))
            for basis, plane in zip((layout.image, layout.border), planes, strict=True)
        ]
    )
    error, had = ((table - wanted).square().mean((1, 2)).sqrt() for table in (found, before))
    # The sums are divided by the share above instead of 1, so a step overshoots by 21 %.
    assert bool((error < 0.25 * had).all()), (error, had)


def test_the_second_round_brings_the_template_nearer_and_asks_for_warps():
    recipe, state = started()
    patches = disc(6, -0.5)
    shifted = torch.cat([patches.roll(step, dims=3) for step in (-2, -1, 1, 2)])
    for number in (1, 2):
        answer = answer_to(state, [shifted], number=number)
        state = recipe.learn(state, answer, number=number)
    parts = layout_of(study_of()).unpack(answer.mean, number=2)
    assert parts["warp_spread"][4] > parts["warp_spread"][0]  # they were moved along columns, not rows
    assert np.all(state["power"] < 1)  # there is no texture


def test_noise_alone_moves_the_atlas_less_the_more_there_is():
    recipe, state = started()
    layout = layout_of(study_of())
    normal = np.random.default_rng(0).standard_normal(layout.length)
    for std in (0.01, 0.1):
        after = recipe.learn(state, PooledMean(std * normal, std, 20.0), number=1)
        moved = np.sqrt(np.square(after["image"] - state["image"]).sum(1).mean())
        plain = std / 3.2 * N_BINS * np.sqrt(layout.image.waves.shape[0])  # noise over weight and share
        assert moved < 0.35 * plain


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10))
def test_a_posterior_is_never_longer_than_what_it_was_given(seed: int, std: float):
    # With equal shares the contrasts are seen apart, and each is shrunk by a factor within [0, 1].
    sums = np.random.default_rng(seed).standard_normal((6, 40))
    found = posterior(sums, np.full(6, 1 / 6), std=std)
    assert np.linalg.norm(found) <= np.linalg.norm(6 * sums) * (1 + 1e-9)


def test_a_posterior_without_noise_is_what_was_given():
    sums = np.arange(60.0).reshape(6, 10)
    assert np.allclose(posterior(sums, np.full(6, 0.5), std=0.0), 2 * sums)


def test_subjects_of_the_prior_are_seldom_clipped():
    recipe, state = started()
    for number in (1, 2):
        question = recipe.question(recipe.order(state, number=number), number=number)
        norms = [float(question.vector(organs(seed, n=8)).norm()) for seed in range(8)]
        assert question.length == len(question.vector(organs(0)))
        assert np.median(norms) < 1.5, norms


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("label", [-1.0, 1.0])
@pytest.mark.parametrize("image", [-1.0, 0.0, 1.0])
def test_odd_patches_have_a_finite_vector(number: int, label: float, image: float):
    recipe, state = started()
    patches = torch.stack([torch.full((32, 32), image), torch.full((32, 32), label)]).expand(3, -1, -1, -1)
    question = recipe.question(recipe.order(state, number=number), number=number)
    assert bool(torch.isfinite(question.vector(patches)).all())


def test_a_patch_depends_on_atlas_seed_and_index_alone():
    recipe, state = started()
    sampler = recipe.sampler({**state, "broad": np.full(1, 0.5, np.float32)})
    together = sampler.draw(first=0, n=6, seed=3)
    assert_close(sampler.draw(first=4, n=2, seed=3), together[4:], rtol=0, atol=0)
    assert not torch.equal(sampler.draw(first=0, n=6, seed=4), together)
    assert set(together[:, 1].unique().tolist()) <= {-1.0, 1.0}
    assert float(together[:, 0].abs().max()) <= 1


def test_a_planted_template_is_what_is_drawn():
    recipe, state = started()
    after = recipe.learn(state, answer_to(state, [disc(6, -0.5)], number=1), number=1)
    drawn = recipe.sampler({**after, "power": 0 * after["power"]}).draw(first=0, n=40, seed=1)
    inside = drawn[:, 1] > 0
    labelled = inside.flatten(1).sum(1) > 60
    assert float(labelled.float().mean()) > 0.6
    darker = [
        float(patch[0][mask].mean() - patch[0][~mask].mean())
        for patch, mask in zip(drawn, inside, strict=True)
    ]
    assert np.mean([gap < 0 for gap, kept in zip(darker, labelled, strict=True) if kept]) > 0.9


def test_null_is_the_start_and_draws_the_prior_alone():
    null, (_, state) = null_arrays(study_of()), started()
    assert all(np.array_equal(null[name], state[name]) for name in state)
    assert null["broad"].tolist() == [1.0]
    assert all(array.dtype == np.float32 for array in null.values())


def test_broad_draws_make_room_as_noise_falls():
    recipe, state = started()
    mean = np.zeros(layout_of(study_of()).length)
    broad = [
        float(recipe.learn(state, PooledMean(mean, std, 20.0), number=1)["broad"][0])
        for std in (0.0, 0.03, 1.0)
    ]
    assert broad == pytest.approx([0, 0.5, 1 / (1 + 0.03**2)], abs=1e-4)  # std^2 / (std^2 + doubt^2)


def test_what_is_learned_is_float32_and_finite():
    recipe, state = started()
    after = recipe.released(recipe.learn(state, answer_to(state, [organs(1)], number=1, std=0.05), number=1))
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in after.values())
    assert after["share"].sum() == pytest.approx(1, abs=1e-5)


def test_the_nearest_template_has_a_label_if_the_patch_has():
    _, state = started()
    templates = templates_of(state, layout_of(study_of()))
    bins = nearest(as_planes(torch.cat([disc(0, 0, n=1), disc(6, 0.5, n=1)])), templates)
    assert bins[0] < N_EMPTY <= bins[1]


def test_other_studies_and_other_arrays_are_refused():
    recipe, state = started()
    with pytest.raises(StudyError, match="tuned-prior"):
        AtlasRecipe(study_of(recipe="tuned-prior"))
    with pytest.raises(StudyError, match="planes"):
        AtlasRecipe(study_of((16, 16, 16)))
    with pytest.raises(StudyError, match="round 2"):
        recipe.question({"image": state["image"]}, number=2)
    with pytest.raises(ValueError, match="share"):
        recipe.sampler({**state, "share": np.full(N_BINS, np.nan, np.float32)})
    with pytest.raises(ValueError, match="-1"):
        recipe.sampler(state).draw(first=-1, n=1, seed=0)
