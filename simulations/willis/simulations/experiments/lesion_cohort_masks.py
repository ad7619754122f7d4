"""Lesion masks to draw brains around: real ones, where their folder is at hand, else masks of the prior.

The real ones are the 98 expert stroke masks of LESYMAP (Pustina 2018), in the space of a template brain at
1 mm and without images. Each gives a slab: some slices of 2 mm about its largest cross-section.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from willis.client.ingest.volume import open_volume
from willis.shared.errors import CohortError
from willis.shared.prior.brain import Head
from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family
from willis.shared.prior.tissue import grid_of

FOLDER = "lesymap_lesions"
STEP_MM = 2.0
PLANE = (80, 96)  # voxels of a slab in a slice: left to right, back to front

_TEMPLATE = (181, 217, 181)  # voxels of 1 mm
_CROP = (slice(10, 170), slice(8, 200))  # the template's brain
_CENTRE, _HALF = (40.25, 48.0, 40.0), (37.0, 46.0, 39.0)  # of the template's brain, in cropped voxels of 2 mm
_BLOBS = {"lesions": (1.0, 2.0), "radius": (6.0, 16.0), "clustering": (0.8, 1.0), "ventricles": (0.0, 0.0)}
_SHALLOWEST = 8  # slices that the prior draws at least
_MIDDLE = 36  # slice of the template's brain at which drawn masks start
_LEAST = 50  # voxels a slice that a drawn lesion has
_TRIES = 50


@dataclass(frozen=True)
class MaskSlab:
    """A lesion in some slices.

    Attributes:
        name: Of the subject that is drawn around it.
        mask: True on the lesion, in voxels of 2 mm; the last axis runs to the head.
        first: Slice of the template's brain at which the slab starts.
    """

    name: str
    mask: Bool[ndarray, "x y z"]
    first: int

    @property
    def head(self) -> Head:
        """Where the brain lies on the slab's grid."""
        return Head((*_CENTRE[:2], _CENTRE[2] - self.first), _HALF)


@dataclass(frozen=True)
class MaskSource:
    """Masks and what they are.

    Attributes:
        slabs: In the order of their files.
        about: A sentence: how many, where from.
        real: Whether the masks are patients'.
    """

    slabs: tuple[MaskSlab, ...]
    about: str
    real: bool


def find_masks(data: Path | None, *, subjects: int, slices: int, seed: int) -> MaskSource:
    """Return real lesion masks, or masks of the prior where there is no folder of them.

    Args:
        data: Folder of the public cohorts.
        subjects: How many; 0 for all real ones (98 of the prior).
        slices: Of 2 mm in a slab.
        seed: Of the prior's masks.

    Raises:
        CohortError: There are fewer real masks than asked for, or one is not of the template's grid.
    """
    folder = None if data is None else data / FOLDER
    if folder is None or not folder.is_dir():
        slabs = [_drawn(number, slices, seed) for number in range(subjects or 98)]
        about = f"{len(slabs)} lesion masks of the procedural prior (no folder {FOLDER} at hand)"
        return MaskSource(tuple(slabs), about, real=False)
    files = sorted(folder.glob("*.nii.gz"))
    if not max(subjects, 1) <= len(files):
        raise CohortError(f"{subjects} lesion masks are asked for, {folder} has {len(files)}")
    chosen = files[: subjects or None]
    about = f"{len(chosen)} real stroke lesion masks of LESYMAP (Pustina 2018), {slices} slices of 2 mm each"
    return MaskSource(tuple(_read(file, slices) for file in chosen), about, real=True)


def _read(file: Path, slices: int) -> MaskSlab:
    volume = open_volume(file)
    if volume.shape != _TEMPLATE:
        raise CohortError(f"{file.name} has {volume.shape} voxels, a mask of LESYMAP has {_TEMPLATE}")
    lesion = halved((volume.label() > 0.5)[_CROP].astype(np.float32)) >= 0.5
    if not lesion.any():
        raise CohortError(f"{file.name} has no lesion at 2 mm; leave it out")
    first = slab_about(lesion, slices)
    return MaskSlab(f"lesymap-{file.name.split('.')[0]}", lesion[..., first : first + slices], first)


def halved(volume: ndarray) -> ndarray:
    """Return means over blocks of 2 x 2 x 2 voxels; an odd last layer is dropped."""
    even = volume[tuple(slice(side - side % 2) for side in volume.shape)]
    return even.reshape([part for side in even.shape for part in (side // 2, 2)]).mean(axis=(1, 3, 5))


def slab_about(lesion: Bool[ndarray, "x y z"], slices: int) -> int:
    """Return the first of ``slices`` slices that hold the most of a lesion."""
    area = np.concatenate([[0], np.cumsum(lesion.sum((0, 1)))])
    held = area[slices:] - area[:-slices]
    if not len(held):
        raise CohortError(f"a volume of {lesion.shape[2]} slices has no slab of {slices}; ask for fewer")
    return int(held.argmax())


def _drawn(number: int, slices: int, seed: int) -> MaskSlab:
    rng = np.random.default_rng([seed, number])
    size = (*PLANE, max(slices, _SHALLOWEST))
    slab = MaskSlab(f"virtual-{number:03d}", np.zeros(size, bool), _MIDDLE)
    for _ in range(_TRIES):
        _, label = draw_subject(Family.LESIONS, size=size, generator=rng, ranges=_BLOBS)
        mask = (label > 0) & _inside(slab.head, size)
        first = slab_about(mask, slices)
        mask = mask[..., first : first + slices]
        if mask.sum() >= _LEAST * slices:
            return MaskSlab(slab.name, mask, _MIDDLE + first)
    raise CohortError(f"the prior drew no lesion in {_TRIES} tries; change the seed, got {seed}")


def _inside(head: Head, size: Sequence[int]) -> Bool[ndarray, "x y z"]:
    parts = zip(grid_of(tuple(size)), head.centre, head.half, strict=True)
    square = sum((((axis - at) / half) ** 2 for axis, at, half in parts), np.zeros((), np.float32))
    return square < 0.9
