"""Cohorts with lesions as files: real masks in simulated brains (semi-synthetic), and three real subjects.

A semi-synthetic subject is a lesion mask with a brain drawn around it (``shared.prior.lesion_given``): its
FLAIR-like and T1-like images are two sequences of one anatomy, written as one 4-D NIfTI. Dice on such
subjects says how well a method learns lesions of real shape in images that nobody's scanner took.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray

from willis.shared.patch import LabelledPatches
from willis.shared.prior.brain import Head, Matter
from willis.shared.prior.lesion_given import DrawnBrain, draw_brain_around
from willis.shared.prior.scanner import normalise
from willis.shared.whole_file import make_folder
from willis.simulations.experiments.lesion_cohort_masks import PLANE, STEP_MM, MaskSlab

SITES = ("site-a", "site-b", "site-c", "site-d")
SEMI_SYNTHETIC = "semi-synthetic: simulated brains around lesion masks; no scanner took these images"

# Every site has a scanner of its own.
_SCANNERS = (
    {"noise": (0.005, 0.015), "flair_contrast": (0.25, 0.4)},
    {"noise": (0.02, 0.035), "flair_contrast": (0.2, 0.35), "bias_field": (0.2, 0.4)},
    {"noise": (0.01, 0.02), "flair_contrast": (0.12, 0.25), "gamma": (1.1, 1.4)},
    {"noise": (0.01, 0.03), "flair_contrast": (0.18, 0.3), "blur": (0.6, 0.9), "caps": (0.1, 0.25)},
)
_NARROWEST, _WIDE = 0.5, 0.92  # of the half axes, where a healthy slice, or one with a lesion, is drawn

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BrainPatches:
    """Patches of drawn brains whose tissues are known exactly.

    Attributes:
        patches: FLAIR-like, T1-like and label in [-1, 1].
        matter: Tissue of every pixel (``Matter``), as it is without a lesion.
    """

    patches: LabelledPatches
    matter: UInt8[ndarray, "patch row col"]


def write_lesion_cohort(
    slabs: Sequence[MaskSlab], folder: Path, *, seed: int, progress: Progress = lambda done, of: None
) -> Path:
    """Write a semi-synthetic subject for every mask, spread over four sites, and return ``cohort.csv``.

    Args:
        slabs: The masks; a name each.
        folder: For NIfTI files and the table; what is there already is drawn again.
        seed: Of everything but the masks; the same files come again.
        progress: Told the subjects done, and of how many.

    Raises:
        ValueError: Two masks have one name.
    """
    if len({slab.name for slab in slabs}) < len(slabs):
        raise ValueError(f"every mask needs a name of its own, got {len(slabs)} with some twice")
    make_folder(folder)
    rows = []
    for number, slab in enumerate(slabs):
        brain = draw_brain_around(
            slab.mask,
            slab.head,
            generator=np.random.default_rng([seed, number]),
            ranges=_SCANNERS[number % len(SITES)],
        )
        image, label = f"{slab.name}_image.nii.gz", f"{slab.name}_label.nii.gz"
        save_pair(brain.images, brain.label, folder / image, folder / label)
        rows.append((slab.name, SITES[number % len(SITES)], image, label))
        progress(len(rows), len(slabs))
    return write_rows(rows, folder / "cohort.csv")


def write_rows(rows: Sequence[tuple[str, str, str, str]], path: Path) -> Path:
    """Write a cohort's table of subject, site, image and label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("subject", "site", "image", "label"))
        writer.writerows(rows)
    return path


def save_pair(
    images: Float32[ndarray, "sequence x y z"], label: UInt8[ndarray, "x y z"], image_to: Path, label_to: Path
) -> None:
    """Write sequences as one 4-D NIfTI of 16-bit integers with voxels of 2 mm, and the label beside it."""
    affine = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    stored = np.clip(np.rint(np.moveaxis(images, 0, -1)), 0, 65535).astype(np.uint16)
    nibabel.save(nibabel.Nifti1Image(stored, affine), image_to)
    nibabel.save(nibabel.Nifti1Image(label, affine), label_to)


def draw_brain_patches(
    n: int, *, side: int, seed: int, masks: Sequence[MaskSlab] = (), channels: int = 2
) -> BrainPatches:
    """Draw square patches of simulated slices, healthy or around masks; epsilon 0 unless masks are patients'.

    Args:
        n: Patches, each of a brain of its own.
        side: Pixels of 2 mm along both axes, at most 80.
        seed: Of all.
        masks: Masks to take slices of, in turn; none for healthy brains.
        channels: 1 for the FLAIR-like sequence alone, 2 for both.

    Raises:
        ValueError: Numbers that do not fit.
    """
    if not (n >= 1 and 8 <= side <= min(PLANE) and channels in (1, 2)):
        raise ValueError(
            f"n must be at least 1, side 8 to {min(PLANE)}, channels 1 or 2, got {n}, {side}, {channels}"
        )
    patches = np.empty((n, channels + 1, side, side), np.float32)
    matter = np.empty((n, side, side), np.uint8)
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        brain = _slice(masks[number % len(masks)] if masks else None, rng)
        corner = _corner(brain, side, rng)
        window = tuple(slice(at, at + side) for at in corner)
        for channel in range(channels):
            patches[number, channel] = normalise(brain.images[channel])[window]
        patches[number, -1] = 2.0 * brain.label[window] - 1
        matter[number] = brain.matter[window]
    return BrainPatches(torch.from_numpy(patches), matter)


def _slice(slab: MaskSlab | None, rng: np.random.Generator) -> DrawnBrain:
    """A brain in one slice; the first axes of the head of a slab at its middle are those of the template."""
    share = rng.uniform(_NARROWEST if slab is None else _WIDE, 1)
    head = Head((39.5, 47.5), (37 * share, 46 * share))
    mask = np.zeros(PLANE, bool)
    if slab is not None:
        filled = np.flatnonzero(slab.mask.any((0, 1)))
        mask = slab.mask[..., rng.choice(filled)]
    return draw_brain_around(mask, head, generator=rng, ranges=_SCANNERS[rng.integers(len(_SCANNERS))])


def _corner(brain: DrawnBrain, side: int, rng: np.random.Generator) -> list[int]:
    """The first row and column of a patch about a random pixel of the lesion, or of the brain."""
    inside = np.argwhere(brain.label if brain.label.any() else brain.matter != Matter.OUTSIDE)
    centre = inside[rng.integers(len(inside))]
    return [
        int(np.clip(at - side // 2, 0, full - side))
        for at, full in zip(centre, brain.label.shape, strict=True)
    ]
