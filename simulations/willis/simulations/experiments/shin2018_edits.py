"""Labels edited before an image is made (Shin 2018): changed in place, or put into a healthy brain."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from willis.shared.game_plans import EditPlan
from willis.shared.networks.build import public_generator
from willis.shared.prior.brain import Matter
from willis.shared.recipes.translation.editing import edit_label, put_into
from willis.shared.recipes.translation.maps import Maps, semantic_map
from willis.simulations.experiments.lesion_cohort import draw_brain_patches


@dataclass(frozen=True, repr=False)
class HealthyBrains:
    """Maps without a lesion, and where one may be put.

    Attributes:
        maps: Levels; labels are -1.
        allowed: True where a lesion may lie.
        about: How that is known.
    """

    maps: Maps
    allowed: Bool[Tensor, " patch *space"]
    about: str


def simulated_brains(n: int, *, side: int, levels: int, blur: float, seed: int) -> HealthyBrains:
    """Return maps of simulated healthy brains; a lesion may lie in grey and white matter, in no ventricle."""
    drawn = draw_brain_patches(n, side=side, seed=seed)
    matter = torch.from_numpy(drawn.matter)
    allowed = (matter == int(Matter.GREY)) | (matter == int(Matter.WHITE))
    maps = semantic_map(drawn.patches, levels=levels, blur=blur)
    return HealthyBrains(maps, allowed, "simulated healthy brains, in grey or white matter")


def freed_brains(maps: Maps) -> HealthyBrains:
    """Return subjects' own maps with their lesions taken out; without a tissue map all brain is allowed."""
    free = torch.cat([maps[:, :1], torch.full_like(maps[:, 1:], -1.0)], dim=1)
    return HealthyBrains(
        free, maps[:, 0] > -1, "other subjects' maps without their lesions, inside the brain"
    )


def edited_maps(
    maps: Maps, healthy: HealthyBrains, *, n: int, plan: EditPlan, seed: int
) -> Float[Tensor, "made 2 *space"]:
    """Return maps with edited labels: one changed in its own map, the next put into a healthy brain.

    Guarantees:
        Map i depends on the maps, the healthy brains, the seed and i alone. No lesion that was put into a
        healthy brain leaves where it is allowed.

    Args:
        maps: Of subjects with lesions.
        healthy: To put lesions into.
        n: Maps.
        plan: How far lesions are moved, scaled and mirrored.
        seed: Of the choice and of the edits.
    """
    made = []
    for number in range(n):
        dice = public_generator("shin2018", seed, number)
        level, label = maps[int(torch.randint(len(maps), (), generator=dice))]
        lesion = edit_label(label, level, plan, dice)
        if number % 2 == 0:
            made.append(torch.stack([level, lesion]))
            continue
        place = int(torch.randint(len(healthy.maps), (), generator=dice))
        made.append(put_into(healthy.maps[place], lesion, healthy.allowed[place], dice=dice))
    return torch.stack(made)
