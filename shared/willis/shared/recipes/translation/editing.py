"""Labels changed before an image is made for them: moved, scaled, mirrored, put elsewhere (Shin 2018).

All of it acts on one patch's label, -1 or 1, and gives a label of the same shape. What leaves the patch is
cut off.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from willis.shared.game_plans import EditPlan

Label = Float[Tensor, "*space"]  # -1 or 1
Map = Float[Tensor, "2 *space"]  # level, then label

_TRIES = 32  # places that are tried for a lesion; the one that holds most of it is taken


def move(label: Label, shift: Sequence[int]) -> Label:
    """Move a label by whole pixels along each axis.

    Raises:
        ValueError: There is not one shift an axis.
    """
    if len(shift) != label.ndim:
        raise ValueError(f"shift must have {label.ndim} numbers, one an axis, got {tuple(shift)}")
    return _taken(label, [torch.arange(side) - by for side, by in zip(label.shape, shift, strict=True)])


def scale(label: Label, factor: float) -> Label:
    """Make a label ``factor`` times as long along each axis, about its centre of gravity.

    An empty label stays empty.

    Raises:
        ValueError: ``factor`` is not positive and finite.
    """
    if not (factor > 0 and math.isfinite(factor)):
        raise ValueError(f"factor must be positive and finite, got {factor}")
    if not bool((label > 0).any()):
        return label.clone()
    # In units of pixels, whose middles lie at halves.
    centre = (label > 0).nonzero().double().mean(dim=0) + 0.5
    middles = [torch.arange(side) + 0.5 for side in label.shape]
    sources = [(at - c) / factor + c for at, c in zip(middles, centre.tolist(), strict=True)]
    return _taken(label, [source.floor().long() for source in sources])


def mirror(label: Label, axes: Sequence[int]) -> Label:
    """Mirror a label along axes of its patch: a lesion on the left comes to lie on the right."""
    return label.flip(tuple(axes)) if axes else label.clone()


def put_into(
    healthy: Map,
    lesion: Float[Tensor, "*lesion"],
    allowed: Bool[Tensor, "*allowed"],
    *,
    dice: torch.Generator | None = None,
) -> Map:
    """Give the map of a healthy patch another patch's lesion.

    Guarantees:
        No pixel outside ``allowed`` is labelled.

    Args:
        healthy: Its level is kept; its label is replaced.
        lesion: Of the same shape.
        allowed: Where a lesion may lie, such as the brain without its ventricles.
        dice: A CPU generator. With it the lesion's centre goes to one of up to 32 random allowed pixels,
            the one where most of the lesion may lie; None leaves it where it is. Either way the rest is cut
            off.

    Raises:
        ValueError: The shapes differ.
    """
    if not healthy.shape[1:] == lesion.shape == allowed.shape:
        raise ValueError(
            f"map, lesion and allowed must have one shape, got {tuple(healthy.shape[1:])}, "
            f"{tuple(lesion.shape)} and {tuple(allowed.shape)}"
        )
    if dice is not None and bool((lesion > 0).any()) and bool(allowed.any()):
        lesion = _placed(lesion, allowed, dice)
    return torch.stack([healthy[0], _within(lesion, allowed).to(healthy.dtype)])


def edit_label(label: Label, level: Float[Tensor, "*space"], plan: EditPlan, dice: torch.Generator) -> Label:
    """Change a label at random as the study says, and cut off what comes to lie outside tissue.

    Steps:
        1. Mirror along each axis with chance one half, where the plan has it.
        2. Scale by a factor between the plan's, uniform in its logarithm.
        3. Move along each axis by a uniform share of the side.
        4. Cut off what lies where the level is -1; a level that is -1 everywhere tells of no tissue.

    Guarantees:
        A plan that changes nothing returns the label as it is.

    Args:
        label: On the CPU.
        level: Tissue level of the same patch.
        plan: How far.
        dice: A CPU generator; as many numbers are drawn whatever the plan.
    """
    mirrored = torch.rand(label.ndim, generator=dice) < 0.5
    size, shift = torch.rand((), generator=dice), 2 * torch.rand(label.ndim, generator=dice) - 1
    if plan == EditPlan():
        return label.clone()
    if plan.mirrored:
        label = mirror(label, mirrored.nonzero().flatten().tolist())
    low, high = (math.log(bound) for bound in plan.scaled)
    if low != 0 or high != 0:
        label = scale(label, math.exp(low + (high - low) * float(size)))
    sides = torch.tensor(label.shape)
    label = move(label, (shift * plan.moved * sides).round().long().tolist())
    tissue = level > -1
    return _within(label, tissue) if bool(tissue.any()) else label


def _taken(label: Label, sources: list[Tensor]) -> Label:
    """Return what lies at a source index along each axis; background where that is outside the patch."""
    for axis, source in enumerate(sources):
        side = label.shape[axis]
        inside = ((source >= 0) & (source < side)).reshape(-1, *[1] * (label.ndim - axis - 1))
        taken = label.index_select(axis, source.clamp(0, side - 1))
        label = torch.where(inside, taken, torch.full_like(taken, -1.0))
    return label


def _placed(lesion: Label, allowed: Tensor, dice: torch.Generator) -> Label:
    places = allowed.nonzero()
    centre = (lesion > 0).nonzero().double().mean(dim=0).round().long()
    picked = places[torch.randint(len(places), (_TRIES,), generator=dice)]
    tried = [move(lesion, (place - centre).tolist()) for place in picked]
    return max(tried, key=lambda one: int(((one > 0) & allowed).sum()))


def _within(label: Label, allowed: Tensor) -> Label:
    return torch.where(allowed, label, torch.full_like(label, -1.0))
