"""Draw labelled patches, or one virtual patient's larger image, from a family of the prior."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from willis.shared.patch import LabelledPatches
from willis.shared.prior.families import Family, Range, parameters_of, ranges_of
from willis.shared.prior.lesions import draw_lesions
from willis.shared.prior.organ import draw_organ
from willis.shared.prior.scanner import normalise, scan
from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, draw_tissue
from willis.shared.prior.vessels import draw_vessels

_DRAW: Mapping[Family, Callable[[Tissue, Mapping[str, float], np.random.Generator], Target]] = {
    Family.VESSELS: draw_vessels,
    Family.LESIONS: draw_lesions,
    Family.ORGAN: draw_organ,
}
_NONE: Mapping[str, Range] = {}


def draw_patches(
    family: Family,
    *,
    n: int,
    size: tuple[int, ...],
    generator: np.random.Generator,
    ranges: Mapping[str, Range] = _NONE,
) -> LabelledPatches:
    """Draw patches, each with its own parameters.

    Guarantees:
        Patch i depends on the generator and on i, not on ``n``: each has its own child of the generator
        (``Generator.spawn``), so a second call on the same generator gives other patches, and numbers
        drawn from the generator itself change nothing.

    Args:
        n: Patches.
        size: Pixels along each axis, two or three of at least 8.
        ranges: Low and high of parameters that differ from the family's own.

    Returns:
        float32 (n, 2, *size): image within [-1, 1], normalised as its subject's would be, and label -1 or 1.

    Raises:
        ValueError: For a size, a number or ranges that do not fit.
    """
    if not n >= 0:
        raise ValueError(f"n must not be negative, got {n}")
    drawable = _Drawable(family, size, ranges=ranges)
    patches = np.empty((n, 2, *size), np.float32)
    for patch, child in zip(patches, generator.spawn(n), strict=True):
        image, label, values = drawable.draw(child)
        patch[0] = _normalised(image, values)
        patch[1] = 2 * label.astype(np.float32) - 1
    return torch.from_numpy(patches)


def draw_subject(
    family: Family,
    *,
    size: tuple[int, ...],
    generator: np.random.Generator,
    ranges: Mapping[str, Range] = _NONE,
) -> tuple[Float[ndarray, "*space"], UInt8[ndarray, "*space"]]:
    """Draw one virtual patient's image, as a scanner stores it, and its label.

    Returns:
        Image (float32, scanner units, never negative) and label (uint8, 0 or 1). The margins have no
        effect here: whoever reads the image normalises it whole.

    Raises:
        ValueError: For a size or ranges that do not fit.
    """
    image, label, _ = _Drawable(family, size, ranges=ranges).draw(generator.spawn(1)[0])
    return image, label.astype(np.uint8)


def _normalised(image: Float[ndarray, "*space"], values: Mapping[str, float]) -> Float[ndarray, "*space"]:
    """Bring a scanned patch to [-1, 1]: by its own span and margins or, if ``absolute``, by the gain."""
    if values["absolute"] >= 0.5:
        return np.clip(2 * image / np.float32(values["gain"]) - 1, -1, 1)
    return normalise(image, margin_low=values["margin_low"], margin_high=values["margin_high"])


class _Drawable:
    """A family at a size, its ranges checked once."""

    def __init__(self, family: Family, size: tuple[int, ...], *, ranges: Mapping[str, Range]) -> None:
        if not (len(size) in (2, 3) and all(side >= 8 for side in size)):
            raise ValueError(f"size must be two or three numbers of at least 8, got {size}")
        used = ranges_of(family, ranges)
        self._family, self._size = Family(family), tuple(size)
        self._names = tuple(parameters_of(family))
        self._low, self._high = (np.array([used[name][end] for name in self._names]) for end in (0, 1))

    def draw(self, generator: np.random.Generator) -> tuple[ndarray, ndarray, Mapping[str, float]]:
        """Return scanned image, label and the parameters drawn for it."""
        drawn = self._low + (self._high - self._low) * generator.uniform(size=len(self._names))
        values = dict(zip(self._names, drawn.tolist(), strict=True))
        values["contrast"] *= -1 if values["polarity"] < 0 else 1
        tissue = draw_tissue(self._size, values, generator)
        target = _DRAW[self._family](tissue, values, generator)
        anatomy = tissue.intensity + target.surroundings + values["contrast"] * target.shade
        return scan(anatomy.astype(np.float32), values, generator), target.label, values
