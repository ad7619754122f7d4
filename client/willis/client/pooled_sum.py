"""A site's answer under protocol ``pooled``: one private sum of what the recipe asks of each unit."""

import logging
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from willis.client.chance import Chance
from willis.client.private_sum import private_sum
from willis.client.sampling import draw_units
from willis.client.store import PatchStore
from willis.client.wall import without_text
from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.contract import Question
from willis.shared.study import Study

logger = logging.getLogger(__name__)


def pooled_sum(
    question: Question, *, store: PatchStore, study: Study, noise_multiplier: float, chance: Chance
) -> Float[Tensor, " coordinate"]:
    """Return the noisy sum of the clipped vectors of the units that take part.

    Steps:
        1. Draw units by Poisson.
        2. Ask the question of each: of one subject's bag of patches, or of one patch where that is the unit.
        3. The private sum. It is not divided: the coordinator knows the public expected number of units.

    Args:
        question: What the recipe asks in this round.
        store: The cohort's patches.
        study: Its clip, sampling rate and unit.
        noise_multiplier: Standard deviation of the noise in units of the clip.
        chance: Dice of this reservation.
    """
    [total] = private_sum(
        ((vector,) for vector in unit_vectors(question, store=store, study=study, chance=chance)),
        like=[torch.zeros(question.length)],
        clip_norm=study.privacy.clip_norm,
        noise_multiplier=noise_multiplier,
        noise=chance.noise,
    )
    return total


def rehearse(question: Question, study: Study) -> None:
    """Ask a question of made-up patches, before anything is paid: what fails here would fail on patients.

    Raises:
        StudyError: It fails, or its answer is not a vector of the length it promised.
    """
    patch, dice = study.patch, public_generator(study.seed, "rehearsal")
    k = study.training.patches_per_bag if study.privacy.unit is PrivacyUnit.SUBJECT else 1
    patches = 1.8 * torch.rand((k, patch.n_channels, *patch.size), generator=dice) - 0.9
    patches[:, -1] = -1.0
    patches[(slice(None), -1, *(slice(side // 4, side - side // 4) for side in patch.size))] = 1.0
    try:
        _asked(question, patches)
    except Exception as fault:
        raise StudyError(
            f"recipe {study.recipe.name} cannot ask its question of this study's patches: {fault!r}"
        ) from fault


def unit_vectors(
    question: Question, *, store: PatchStore, study: Study, chance: Chance
) -> Iterator[Float[Tensor, " coordinate"]]:
    """Yield the vector of one unit that takes part after another.

    Edge cases:
        A question that fails on a unit's patches counts as zero there, and the site's log says so. An error
        that left the site would tell of that unit what no noise covers.
    """
    for patches in unit_patches(store, study, chance):
        try:
            vector = _asked(question, patches)
        except Exception as fault:
            logger.error(
                "recipe %s fails on a unit, which counts as nothing: %s",
                study.recipe.name,
                without_text(fault),
            )
            vector = torch.zeros(question.length)
        yield vector


def _asked(question: Question, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
    vector = question.vector(patches).detach()
    if vector.shape != (question.length,):  # one number would be added to every coordinate, past the clip
        raise ValueError(f"a vector must have shape ({question.length},), got {tuple(vector.shape)}")
    return vector


def unit_patches(
    store: PatchStore, study: Study, chance: Chance
) -> Iterator[Float[Tensor, "patch channel *space"]]:
    """Yield the patches of one unit that takes part after another, drawn afresh."""
    plan = study.privacy
    if plan.unit is PrivacyUnit.SUBJECT:
        for subject in draw_units(store.n_subjects, plan.sampling_rate, chance.units):
            yield store.bag(subject, study.training.patches_per_bag, chance.bags)
    else:
        for patch in draw_units(store.n_patches, plan.sampling_rate, chance.units):
            yield store.patch(patch, chance.bags)[None]
