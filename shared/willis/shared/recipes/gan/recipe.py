"""Recipes ``dcgan`` and ``wgan-gp``: image and label made together (Kossen 2021)."""

from willis.shared.errors import StudyError
from willis.shared.game_plans import DcganPlan, WganGpPlan
from willis.shared.recipes.game.recipe import GameRecipe
from willis.shared.recipes.gan.dcgan import DcganGame
from willis.shared.recipes.gan.wgan_gp import WganGpGame
from willis.shared.study import Study


class GanRecipe(GameRecipe):
    """The recipe for one study.

    Args:
        study: The protocol.

    Raises:
        StudyError: Keys that do not fit these recipes, or each other.
    """

    def __init__(self, study: Study) -> None:
        faults = list(_faults(study))
        if faults:
            raise StudyError(f"the study does not fit recipe {study.recipe.name}", faults)
        super().__init__(study, _game(study))


def _game(study: Study) -> DcganGame | WganGpGame:
    match study.recipe:
        case DcganPlan() as plan:
            return DcganGame(study, plan)
        case WganGpPlan() as plan:
            return WganGpGame(study, plan)
        case other:
            raise StudyError(f"recipes dcgan and wgan-gp were asked to run a study of recipe {other.name}")


def _faults(study: Study) -> list[str]:
    found = []
    if study.training.warm_start != "none":
        found.append(
            f'training.warm_start must be "none": no generator of this architecture is shipped, '
            f'got "{study.training.warm_start}"'
        )
    if study.networks.constraint != "spectral":
        found.append(
            'networks.constraint "weight-clip" is for recipe dp-wgan; leave it out, or name that recipe'
        )
    if study.training.fakes < 2:
        found.append(
            "training.fakes must be at least 2: the generator normalises over them, "
            f"got {study.training.fakes}"
        )
    return found
