"""What touches an organ: bright beds along it, a fluid-filled horn, a large body beyond, rim, neighbours."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.folded import draw_folds
from willis.shared.prior.organ_body import Body, Frame, axes_of
from willis.shared.prior.tissue import Tissue

Field = Float[ndarray, "*space"]

_WANDER = 1.5  # half the pixels that the large body's border wanders, standard deviation


def draw_surroundings(
    tissue: Tissue,
    label: Bool[ndarray, "*space"],
    *,
    body: Body,
    frame: Frame,
    rough: Field,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> Field:
    """Draw what lies about an organ and return what it adds to the tissue, not meant for its own pixels.

    From the farthest to the nearest: folds, a large body beyond the horn's side, pools of fluid, neighbours,
    the layers that follow the organ (where there is one), its rim, a body that touches its head. Outside
    the tissue all stays as it is.

    Args:
        tissue: What they lie in.
        label: The organ; all False where there is none.
        body: The organ's shape, be it there or not.
        frame: Its coordinates.
        rough: A smooth field of deviation 1, which makes the borders wander.
        values: Parameters.
        generator: Draws what else is random.
    """
    size = tissue.intensity.shape
    wander = np.flip(rough)
    added, covered = _backdrop(label, body, frame, wander=wander, values=values, generator=generator)
    greys, where = _neighbours(body, wander, values=values, generator=generator)
    added, covered = np.where(where, greys, added), covered | where
    if label.any():
        greys, where = _layers(label, frame, wander, values=values, generator=generator)
        added, covered = np.where(where, greys, added), covered | where
    if values["abutting"] > 0:
        where = _abutting(body, size, values["abutting"], generator).frame(size).level + 0.2 * wander < 1
        added, covered = np.where(where, np.float32(values["contrast"]), added), covered | where
    own = (1 - values["through"]) * (values["background"] - tissue.intensity)
    return np.where(covered & tissue.inside, own + added, 0)


def _backdrop(
    label: Bool[ndarray, "*space"],
    body: Body,
    frame: Frame,
    *,
    wander: Field,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> tuple[Field, Bool[ndarray, "*space"]]:
    """What is far from the organ: folds, the large body, pools; and where."""
    size = wander.shape
    added, covered = np.zeros(size, np.float32), np.zeros(size, bool)
    if values["folds"] > 0:
        added, covered = draw_folds(frame.across, values, generator), np.ones(size, bool)
    if values["mass"] >= 0:
        beyond = _beyond(frame, body, wander, values=values, shifted=not label.any(), generator=generator)
        added = np.where(beyond, np.float32(values["white"] * generator.uniform(0.5, 1)), added)
        covered |= beyond
    if values["pools"] > 0:
        pool = np.roll(wander, size[0] // 2, 0)
        pool = pool > np.quantile(pool, 1 - values["pools"])
        added, covered = np.where(pool, np.float32(values["fluid"]), added), covered | pool
    return added, covered


def _beyond(
    frame: Frame,
    body: Body,
    wander: Field,
    *,
    values: Mapping[str, float],
    shifted: bool,
    generator: np.random.Generator,
) -> Bool[ndarray, "*space"]:
    """The large body; where there is no organ its border may lie anywhere over it."""
    gap = values["mass"] + (generator.uniform(-3, 1) * body.half[1] if shifted else 0)
    return frame.across - np.float32(body.half[1] + gap) > 2 * _WANDER * wander


def _neighbours(
    organ: Body, rough: Field, *, values: Mapping[str, float], generator: np.random.Generator
) -> tuple[Field, Bool[ndarray, "*space"]]:
    """Bodies of the organ's kind at its sides, each with a share ``likeness`` of its contrast; and where."""
    greys, where = np.zeros(rough.shape, np.float32), np.zeros(rough.shape, bool)
    for _ in range(round(values["neighbours"])):
        away = generator.normal(size=rough.ndim)
        distance = organ.half[0] * generator.uniform(0.7, 1.8)
        body = Body(
            centre=organ.centre + distance * away / np.linalg.norm(away),
            axes=axes_of(rough.ndim, values["angle"] + generator.normal(0, 40), values["tilt"]),
            half=organ.half * generator.uniform(0.4, 1.1, rough.ndim),
            bend=generator.uniform(-0.5, 0.5),
        )
        grey = values["contrast"] * values["likeness"] * generator.uniform(0.7, 1.3)
        inside = body.frame(rough.shape).level + 0.2 * rough < 1
        greys, where = np.where(inside, np.float32(grey), greys), where | inside
    return greys, where


def _abutting(organ: Body, size: tuple[int, ...], share: float, generator: np.random.Generator) -> Body:
    """A round body that touches the organ's head."""
    half = share * organ.half[1] * generator.uniform(0.8, 1.2, len(size))
    reach = organ.half[0] + half[0] * generator.uniform(0.2, 0.9)
    aside = (organ.bend * organ.half[0] + generator.normal(0, 0.4) * organ.half[1]) * organ.axes[1]
    return Body(organ.centre - reach * organ.axes[0] + aside, organ.axes, half, bend=0.0)


def _layers(
    label: Bool[ndarray, "*space"],
    frame: Frame,
    wander: Field,
    *,
    values: Mapping[str, float],
    generator: np.random.Generator,
) -> tuple[Field, Bool[ndarray, "*space"]]:
    """Layers that follow the surface: rim, then fluid on the horn's side, then a bed on either; and where."""
    away = np.asarray(ndimage.distance_transform_edt(~label), np.float32)
    horn_side = frame.across + wander > 0
    rim = np.float32(values["rim_width"])
    horn = np.where(horn_side, _along(frame, values["horn"], generator), 0)
    bed = np.where(horn_side, values["bed"] * generator.uniform(), values["bed"])
    bed = bed * _faded(frame, generator) + 0.5 * wander
    bed = np.where(values["bed"] > 0, bed, 0)
    depth = away - horn * (away > 0)
    greys = np.where(depth > 0, np.float32(values["white"]), np.float32(values["fluid"]))
    where = (away > 0) & (depth <= bed) | (away > 0) & (away <= horn)
    patchy = np.clip(0.5 + np.roll(wander, label.shape[-1] // 2, -1), 0, 1)
    near = (away > 0) & (away <= rim) & (np.float32(values["rim"]) * patchy != 0)
    under = np.where(where, greys, 0)
    return np.where(near, under + (np.float32(values["rim"]) - under) * patchy, under), where | near


def _along(frame: Frame, thickness: float, generator: np.random.Generator) -> Field:
    """Thickness in pixels that comes and goes along the organ; 0 where it is negative."""
    period, phase = generator.uniform(0.1, 0.5), generator.uniform(0, 2 * np.pi)
    share = 0.5 + 0.8 * np.cos(2 * np.pi * period * frame.long + np.float32(phase))
    return np.asarray(max(thickness, 0) * np.clip(share, 0, 1), np.float32)


def _faded(frame: Frame, generator: np.random.Generator) -> Field:
    """Share of a bed's thickness left beyond head and tail; all of it beside the middle."""
    head, tail = generator.uniform(0, 1, 2)
    beyond = np.clip(2 * np.abs(frame.long) - 1.2, 0, 1)
    return np.asarray(1 - beyond * np.where(frame.long < 0, 1 - head, 1 - tail), np.float32)
