"""Recipes ``pix2pix``, ``spade``, ``cyclegan``: maps, and images given maps (Shin 2018, Platscher 2021)."""

from willis.shared.errors import StudyError
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.game.recipe import GameRecipe
from willis.shared.recipes.translation.game import TranslationGame
from willis.shared.recipes.translation.maps import Maps, Plan
from willis.shared.recipes.translation.sampler import translate_maps
from willis.shared.study import Study
from willis.shared.update import Arrays


class TranslationRecipe(GameRecipe):
    """A translation as a recipe.

    A release holds the translator, and with ``maps = "gan"`` the generator of maps: all that drawing needs.

    Args:
        study: The protocol.

    Raises:
        StudyError: Keys that do not fit a translation.
    """

    def __init__(self, study: Study) -> None:
        self._plan = _plan_of(study)
        super().__init__(study, TranslationGame(study, self._plan))

    def translate(self, arrays: Arrays, maps: Maps, seed: int) -> LabelledPatches:
        """Return images for maps that somebody has: of real labels, or of edited ones.

        Nothing is edited here. Made from maps of real patients the images are not covered by a release's
        epsilon.

        Args:
            arrays: A release's.
            maps: As :func:`~willis.shared.recipes.translation.maps.semantic_map` makes them; labels -1 or 1,
                levels are rounded to the study's.
            seed: Of the noise: patch i depends on the arrays, the seed, map i and i alone.

        Returns:
            float32 on the CPU: images within [-1, 1], then the maps' labels.

        Raises:
            ValueError: Arrays or maps are others.
        """
        return translate_maps(self._study, self._plan, arrays, maps, seed=seed)


def _plan_of(study: Study) -> Plan:
    plan, name = study.recipe, study.recipe.name
    if not isinstance(plan, Plan):
        raise StudyError(f"recipes pix2pix, spade and cyclegan were asked to run a study of recipe {name}")
    if study.training.warm_start != "none":
        raise StudyError(
            f'training.warm_start must be "none" for recipe {name}, whose networks are others, got '
            f'"{study.training.warm_start}"'
        )
    return plan
