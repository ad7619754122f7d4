"""Three real subjects with lesions, brought to one form: FLAIR first, then what else there is, at 2 mm.

Two patients with multiple sclerosis (open_ms_data, FLAIR and T1 in template space) and one with a stroke
(ISLES 2022, FLAIR and DWI on the DWI's grid). Three subjects are for looking at; they prove nothing.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy import ndarray
from scipy.ndimage import affine_transform

from willis.client.ingest.volume import Volume, open_volume
from willis.shared.whole_file import make_folder
from willis.simulations.experiments.lesion_cohort import save_pair, write_rows
from willis.simulations.experiments.lesion_cohort_masks import halved, slab_about

MS, STROKE = "open_ms_mni", "isles22_case0009"
_BRIGHTEST = 4000.0  # stored value of an image's own maximum


def write_real_subjects(data: Path | None, folder: Path, *, slices: int, with_t1: bool) -> Path | None:
    """Write the real subjects that are at hand as 4-D NIfTI, and return their ``cohort.csv``, or None.

    Args:
        data: Folder of the public cohorts.
        folder: For the files.
        slices: Of 2 mm that are kept, those with the most of the lesion.
        with_t1: Leave out the stroke subject, who has no T1.

    Raises:
        CohortError: A file cannot be read.
    """
    if data is None:
        return None
    subjects = {
        place.name: _multiple_sclerosis(place, slices)
        for place in sorted((data / MS).glob("*"))
        if place.is_dir()
    }
    if not with_t1 and (data / STROKE).is_dir():
        subjects["isles-0009"] = _stroke(data / STROKE, slices)
    if not subjects:
        return None
    make_folder(folder)
    rows = []
    for name, (images, lesion) in subjects.items():
        image, label = f"{name}_image.nii.gz", f"{name}_label.nii.gz"
        save_pair(images, lesion.astype(np.uint8), folder / image, folder / label)
        rows.append((name, "real", image, label))
    return write_rows(rows, folder / "cohort.csv")


def _multiple_sclerosis(
    place: Path, slices: int
) -> tuple[Float32[ndarray, "sequence x y z"], Bool[ndarray, "x y z"]]:
    """FLAIR and T1 of 1 mm as means over 2 mm; a voxel is lesion where at least half of it is."""
    images = np.stack([halved(open_volume(place / f"{name}.nii.gz").pixels()[0]) for name in ("flair", "t1")])
    lesion = halved((open_volume(place / "lesion_mask.nii.gz").label() > 0.5).astype(np.float32)) >= 0.5
    return _kept(images, lesion, slices)


def _stroke(place: Path, slices: int) -> tuple[Float32[ndarray, "sequence x y z"], Bool[ndarray, "x y z"]]:
    """FLAIR on the DWI's grid, and DWI; the mask has the DWI's grid."""
    flair, dwi, mask = (open_volume(next(place.glob(f"*_{name}.nii.gz"))) for name in ("flair", "dwi", "msk"))
    images = np.stack([on_grid(flair, dwi.affine, dwi.shape), dwi.pixels()[0]])
    return _kept(images, mask.label() > 0.5, slices)


def on_grid(
    moving: Volume, affine: Float64[ndarray, "4 4"], shape: tuple[int, ...]
) -> Float32[ndarray, "x y z"]:
    """Return a volume's first sequence on another grid, linearly interpolated; 0 beyond its own.

    Args:
        moving: With an affine of its own.
        affine: From voxel of the grid to mm.
        shape: Voxels of the grid along each axis.
    """
    there = np.linalg.inv(moving.affine) @ affine
    moved = affine_transform(
        moving.pixels()[0],
        there[:3, :3],
        list(there[:3, 3]),  # pyright: ignore[reportArgumentType]  (one number an axis; the stub knows one)
        output_shape=shape,
        order=1,
        mode="constant",
    )
    return np.asarray(moved, np.float32)


def _kept(
    images: Float32[ndarray, "sequence x y z"], lesion: Bool[ndarray, "x y z"], slices: int
) -> tuple[Float32[ndarray, "sequence x y kept"], Bool[ndarray, "x y kept"]]:
    """The slices with the most of the lesion; every sequence from 0 to the same maximum."""
    slices = min(slices, lesion.shape[2])
    first = slab_about(lesion, slices)
    kept = slice(first, first + slices)
    images = np.maximum(images[..., kept], 0)
    top = np.maximum(images.max((1, 2, 3), keepdims=True), 1e-6)
    return (images * (_BRIGHTEST / top)).astype(np.float32), lesion[..., kept]
