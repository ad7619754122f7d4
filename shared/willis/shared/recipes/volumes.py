"""Which recipes make whole volumes, and what they make them from."""

from willis.shared.errors import ReleaseError
from willis.shared.game_plans import CycleganPlan, Pix2PixPlan, SpadePlan
from willis.shared.recipe_plans import DpWganPlan
from willis.shared.recipes.volume_source import VolumeSource
from willis.shared.study import Study
from willis.shared.update import Arrays

_ABLE = 'pix2pix, spade and cyclegan with maps = "prior", and by dp-wgan with refiner = true'


def check_can(study: Study) -> None:
    """Refuse a study whose releases draw patches only.

    Raises:
        ReleaseError: It is 2-D, or its recipe makes no image for a drawn label, patch by patch.
    """
    if study.patch.dimensions != 3:
        size = " x ".join(str(side) for side in study.patch.size)
        raise ReleaseError(
            f"whole volumes are made of 3-D patches, and this release draws 2-D ones of {size}: slices that "
            "are drawn one by one do not join"
        )
    match study.recipe:
        case Pix2PixPlan() | SpadePlan() | CycleganPlan():
            able, why = study.recipe.maps == "prior", ': its maps are a network\'s (maps = "gan")'
        case DpWganPlan():
            able, why = study.recipe.refiner, ": its label is a network's (refiner = false)"
        case _:
            able, why = False, ""
    if not able:
        raise ReleaseError(
            f"a release of recipe {study.recipe.name} draws patches only{why}; whole volumes are drawn by "
            f"{_ABLE}, which make an image for a label of any size"
        )


def volume_source(study: Study, arrays: Arrays) -> VolumeSource:
    """Return what draws whole volumes with a release's arrays.

    Raises:
        ReleaseError: As :func:`check_can`.
        ValueError: The arrays are not the recipe's.
    """
    check_can(study)
    # A recipe is imported when a study names it, as in the catalogue.
    if isinstance(study.recipe, Pix2PixPlan | SpadePlan | CycleganPlan):
        from willis.shared.recipes.translation.volumes import MapVolumes

        return MapVolumes(study, study.recipe, arrays)
    from willis.shared.recipes.dp_wgan.volumes import RefinedVolumes

    return RefinedVolumes(study, arrays)
