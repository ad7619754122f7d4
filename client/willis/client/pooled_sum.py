"""A site's answer under protocol ``pooled``: one private sum of what the recipe asks of each unit."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from willis.client.chance import Chance
from willis.client.private_sum import private_sum
from willis.client.sampling import draw_units
from willis.client.store import PatchStore
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.contract import Question
from willis.shared.study import Study


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
        ((question.vector(patches),) for patches in unit_patches(store, study, chance)),
        like=[torch.zeros(question.length)],
        clip_norm=study.privacy.clip_norm,
        noise_multiplier=noise_multiplier,
        noise=chance.noise,
    )
    return total


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
