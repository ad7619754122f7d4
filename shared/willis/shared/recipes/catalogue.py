"""The recipes that Willis knows, by the name that a study gives."""

from collections.abc import Callable, Mapping
from importlib import import_module

from willis.shared.recipes.contract import Recipe
from willis.shared.study import Study

# A recipe is imported when a study names it: some need libraries that take seconds to load.
_RECIPES: Mapping[str, tuple[str, str]] = {
    "dp-wgan": ("dp_wgan.recipe", "DpWganRecipe"),
    "appearance": ("appearance.recipe", "AppearanceRecipe"),
    "atlas": ("atlas.recipe", "AtlasRecipe"),
    "tuned-prior": ("tuned_prior.recipe", "TunedPriorRecipe"),
    "voted-prior": ("voted_prior.recipe", "VotedPriorRecipe"),
    "dp-merf": ("dp_merf.recipe", "MerfRecipe"),
    "dcgan": ("gan.recipe", "GanRecipe"),
    "wgan-gp": ("gan.recipe", "GanRecipe"),
    "pix2pix": ("translation.recipe", "TranslationRecipe"),
    "spade": ("translation.recipe", "TranslationRecipe"),
    "cyclegan": ("translation.recipe", "TranslationRecipe"),
}


def recipe_of(study: Study) -> Recipe:
    """Return the study's recipe.

    Raises:
        StudyError: The recipe's keys do not fit the rest of the study.
    """
    module, name = _RECIPES[study.recipe.name]
    build: Callable[[Study], Recipe] = getattr(import_module(f"willis.shared.recipes.{module}"), name)
    return build(study)
