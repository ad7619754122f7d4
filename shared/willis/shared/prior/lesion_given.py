"""A subject drawn around a lesion mask that somebody has: a simulated brain, and two sequences of it.

The mask may be a real patient's; everything else is drawn. What comes out is **semi-synthetic**: the shape
and place of the lesion are what they are, its contrast and the brain around it are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.brain import Head, Matter, draw_matter
from willis.shared.prior.families import Range
from willis.shared.prior.parameters import SCANNER, Parameter
from willis.shared.prior.scanner import scan
from willis.shared.prior.tissue import power_law_field

Field = Float[ndarray, "*space"]

SEQUENCES = ("flair", "t1")
P = Parameter

# Usual greys at 1.5 to 3 T: fluid dark in both, white matter darker than grey in FLAIR, brighter in T1.
AROUND: Mapping[str, Parameter] = {
    "cortex": P(1.2, 2.2, 0.2, 40, "voxels", "thickness of the cortex"),
    "folding": P(1, 4, 0, 20, "ratio", "how far folds reach inwards over the cortex' thickness"),
    "stripped": P(0, 1, 0, 1, "switch", "from 0.5 on air is exactly 0, as after brain extraction"),
    "ventricles": P(0.7, 1.4, 0.1, 4, "ratio", "size of the ventricles over the usual"),
    "flair_contrast": P(
        0.15, 0.4, -2, 2, "relative intensity", "what a lesion adds to white matter in FLAIR"
    ),
    "t1_contrast": P(-0.35, -0.1, -2, 2, "relative intensity", "what a lesion adds to white matter in T1"),
    "core": P(-0.6, 0.2, -0.95, 5, "share of the contrast", "gained deep inside; below 0 lost (cavity)"),
    "softness": P(0.5, 2.5, 0.1, 50, "voxels", "depth inside the border at which a lesion shows fully"),
    "lesion_spread": P(0.05, 0.25, 0, 2, "share of the contrast", "standard deviation of its texture"),
    "caps": P(
        0, 0.2, 0, 2, "relative intensity", "bright rim of the ventricles in FLAIR, which is no lesion"
    ),
    "grey_spread": P(0, 0.04, 0, 1, "relative intensity", "how far the tissues' greys are from the usual"),
    "texture": P(0.005, 0.03, 0, 1, "relative intensity", "standard deviation of the tissues' texture"),
    **{name: SCANNER[name] for name in ("gamma", "grain", "coarse", "gain")},
    "blur": SCANNER["blur"].usually(0.3, 0.7),
    "bias_field": SCANNER["bias_field"].usually(0, 0.25),
    "noise": SCANNER["noise"].usually(0.005, 0.03),
}
_GREYS: Mapping[str, tuple[float, ...]] = {"flair": (0.02, 0.12, 0.52, 0.42), "t1": (0.02, 0.16, 0.48, 0.72)}
_FAINTEST = 0.25  # share of the contrast that any labelled voxel keeps
_NONE: Mapping[str, Range] = {}


@dataclass(frozen=True)
class DrawnBrain:
    """A semi-synthetic subject.

    Attributes:
        images: Sequences in the order of ``SEQUENCES``, float32, in scanner units, never negative.
        matter: What each voxel would be without a lesion (:class:`~willis.shared.prior.brain.Matter`).
        label: The mask that was given.
    """

    images: Float[ndarray, " sequence *space"]
    matter: UInt8[ndarray, "*space"]
    label: UInt8[ndarray, "*space"]


def draw_brain_around(
    mask: Bool[ndarray, "*space"],
    head: Head,
    *,
    generator: np.random.Generator,
    ranges: Mapping[str, Range] = _NONE,
) -> DrawnBrain:
    """Draw a brain and two sequences of it around a lesion mask; an empty mask gives a healthy brain.

    Guarantees:
        The label is the mask: where a lesion passes the head's border, the brain is widened to hold it. Both
        sequences show the same anatomy, each with noise and bias field of its own.

    Args:
        mask: True on the lesion; two or three axes, the first from left to right.
        head: Where the brain lies.
        generator: Draws all the rest.
        ranges: Low and high of factors of ``AROUND`` that differ from the usual.

    Raises:
        ValueError: Head and mask differ in axes, or ranges do not fit.
    """
    values = _values(ranges, generator)
    matter = draw_matter(
        head, mask.shape, generator=generator, within=mask if mask.any() else None,
        cortex=values["cortex"], folding=values["folding"], ventricles=values["ventricles"],
    )  # fmt: skip
    inside = matter != Matter.OUTSIDE
    shade = _shade(mask, values, generator)
    texture = power_law_field(mask.shape, 2.0, generator)
    caps = _caps(matter) * np.float32(values["caps"])
    images = []
    for name in SEQUENCES:
        spread = values["grey_spread"] * generator.uniform(-1, 1, 4)
        greys = np.array(_GREYS[name]) + spread * [0, 0.5, 1, 1]
        healthy = greys.astype(np.float32)[matter]
        lesion = np.float32(greys[Matter.WHITE] + values[f"{name}_contrast"])
        plain = healthy + (caps if name == "flair" else 0)
        anatomy = plain + shade * (lesion - plain)
        anatomy = anatomy + np.float32(values["texture"]) * texture * inside
        image = scan(anatomy.astype(np.float32), values, generator)
        images.append(image * (inside | (values["stripped"] < 0.5)))
    return DrawnBrain(np.stack(images).astype(np.float32), matter, mask.astype(np.uint8))


def check_around(ranges: Mapping[str, Range]) -> None:
    """Refuse ranges that do not fit.

    Raises:
        ValueError: With every unknown name and every range that falls or leaves its bounds.
    """
    faults = [f"{name} is unknown" for name in sorted(set(ranges) - set(AROUND))]
    for name in sorted(set(ranges) & set(AROUND)):
        low, high = ranges[name]
        if not AROUND[name].least <= low <= high <= AROUND[name].most:
            bounds = f"{AROUND[name].least:g} to {AROUND[name].most:g}"
            faults.append(f"{name} must rise within {bounds}, got {low} to {high}")
    if faults:
        raise ValueError(f"ranges of a brain do not fit: {'; '.join(faults)}; known: {', '.join(AROUND)}")


def _values(ranges: Mapping[str, Range], generator: np.random.Generator) -> dict[str, float]:
    check_around(ranges)
    own = {name: (one.low, one.high) for name, one in AROUND.items()} | dict(ranges)
    return {name: float(generator.uniform(*own[name])) for name in AROUND}


def _shade(
    mask: Bool[ndarray, "*space"], values: Mapping[str, float], generator: np.random.Generator
) -> Field:
    """Share of the way from healthy tissue to lesion: soft at the border, another grey in the core."""
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    padded = np.pad(mask, 1)
    depth = np.asarray(ndimage.distance_transform_edt(padded), np.float32)[(slice(1, -1),) * mask.ndim]
    soft = np.clip(depth / np.float32(values["softness"]), 0, 1)
    core = np.clip(depth / max(float(depth.max()), 1e-6) * 2 - 1, 0, 1) * np.float32(values["core"])
    own = (
        soft
        * (1 + core)
        * (1 + np.float32(values["lesion_spread"]) * power_law_field(mask.shape, 2.5, generator))
    )
    return np.where(mask, np.maximum(own, np.float32(_FAINTEST)), 0).astype(np.float32)


def _caps(matter: UInt8[ndarray, "*space"]) -> Field:
    """1 beside the fluid that lies deep, fading over two voxels."""
    fluid = matter == Matter.FLUID
    deep = fluid & (np.asarray(ndimage.distance_transform_edt(matter != Matter.OUTSIDE)) > 8)
    if not deep.any():
        return np.zeros(matter.shape, np.float32)
    away = np.asarray(ndimage.distance_transform_edt(~deep), np.float32)
    return np.where(matter == Matter.WHITE, np.clip(1.5 - away / 2, 0, 1), 0).astype(np.float32)
