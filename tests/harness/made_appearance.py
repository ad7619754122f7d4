"""Recipe ``appearance`` as started for a small study, subjects of the prior, and their answer."""

from functools import cache

import numpy as np
import torch

from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family
from willis.shared.recipes.appearance.question import LENGTH
from willis.shared.recipes.appearance.recipe import AppearanceRecipe
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
