"""What a recipe demands of a study before it is built for it."""

from typing import TypeVar, get_args

from willis.shared.errors import StudyError
from willis.shared.settings import Settings
from willis.shared.study import Study

Plan = TypeVar("Plan", bound=Settings)


def plan_of(study: Study, kind: type[Plan]) -> Plan:
    """Return the study's keys of one recipe.

    Raises:
        StudyError: The study names another recipe.
    """
    if not isinstance(study.recipe, kind):
        (own,) = get_args(kind.model_fields["name"].annotation)
        raise StudyError(f"recipe {own} was asked to run a study of recipe {study.recipe.name}")
    return study.recipe


def check_one_image_channel(study: Study) -> None:
    """Refuse a study of several image channels: the prior has one.

    Raises:
        StudyError: It has them.
    """
    if study.patch.n_channels != 2:
        raise StudyError(
            f"recipe {study.recipe.name} draws the prior, which has 1 image channel; "
            f"got {len(study.patch.channels)} in patch.channels: name one channel or another recipe"
        )
