"""Read a volume: NIfTI in 2-D or 3-D, turned to closest canonical RAS; a picture is a volume of one plane.

Axes 0, 1, 2 of a volume then run to the patient's right, front and head. A fourth axis of a NIfTI holds the
sequences of one image (T1, FLAIR...) on one grid, as in the Medical Segmentation Decathlon (Antonelli 2022).
Headers are read at once, voxels only when they are asked for.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Num
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import OrientationError, apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from willis.client.ingest.picture import PICTURE_SUFFIXES, picture_shape, read_picture
from willis.shared.errors import CohortError

SUFFIXES = (".nii", ".nii.gz", *PICTURE_SUFFIXES)
MOST_SEQUENCES = 16

# What nibabel, zlib and numpy raise on a damaged file.
_DAMAGE = (
    OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError, KeyError,
    zlib.error, np.linalg.LinAlgError, ImageFileError, OrientationError, HeaderDataError, WrapStructError,
)  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """One file's grid, and how to read its values.

    Attributes:
        path: The file.
        shape: Voxels along each of the two or three axes.
        spacing_mm: Voxel size in mm along each axis; 1.0 (pixels) for a picture.
        affine: From voxel (i, j, k) to mm in RAS; k is 0 for a plane. The identity for a picture.
        in_mm: Whether the spacing is a length; False for a picture.
    """

    path: Path = field(repr=False)
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    affine: Float64[np.ndarray, "4 4"] = field(repr=False, compare=False)
    in_mm: bool
    _read: Callable[[bool], Num[np.ndarray, " channel *space"]] = field(repr=False, compare=False)

    def pixels(self) -> Float32[np.ndarray, " channel *space"]:
        """Read the image: one channel, a colour picture's three, or a volume's sequences.

        Raises:
            CohortError: The voxels cannot be read.
        """
        return self._read(False).astype(np.float32, copy=False)

    def label(self) -> Float32[np.ndarray, "*space"]:
        """Read the values as a label; they are not yet known to be integers (see ``ingest.check``).

        Raises:
            CohortError: The voxels cannot be read, a picture has colours, or a volume several sequences.
        """
        values = self._read(True).astype(np.float32, copy=False)
        if not np.array_equal(values[:1].repeat(len(values), 0), values, equal_nan=True):
            raise CohortError(f"{self.path.name} is a colour picture; a label needs one integer a pixel")
        return values[0]


def open_volume(path: Path) -> Volume:
    """Read the header of a NIfTI, PNG or JPEG file.

    A volume of one slice is a plane: its third axis is dropped, whichever it is.

    Raises:
        CohortError: The type is unknown, the file is damaged, has a fifth axis or more than 16 sequences,
            or its affine no inverse.
    """
    name = path.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        return Volume(
            path, picture_shape(path), (1.0, 1.0), np.eye(4), False,
            lambda as_label: read_picture(path, as_label=as_label),
        )  # fmt: skip
    if not name.endswith(SUFFIXES):
        raise CohortError(f"{path.name} is of no known type; it must end in {', '.join(SUFFIXES)}")
    try:
        return _nifti(path)
    except _DAMAGE as fault:
        raise _unreadable(path, fault) from fault


def _nifti(path: Path) -> Volume:
    image = Nifti1Image.from_filename(path)
    shape = _three_and_sequences(image.shape, path)[:3]
    if np.dtype(image.get_data_dtype()).kind not in "iuf":
        raise CohortError(f"{path.name} must hold real numbers, got {image.get_data_dtype()}")
    if image.affine is None or not (np.isfinite(image.affine).all() and np.linalg.det(image.affine) != 0):
        raise CohortError(f"{path.name} has an affine without inverse; export it again with its geometry")
    turn = io_orientation(image.affine)
    affine = image.affine @ inv_ornt_aff(turn, shape)
    shape = tuple(shape[source] for source in np.argsort(turn[:, 0]))
    axes = _kept(shape)
    dropped = [axis for axis in range(3) if axis not in axes]
    spacing = voxel_sizes(affine)
    return Volume(
        path=path,
        shape=tuple(shape[axis] for axis in axes),
        spacing_mm=tuple(float(spacing[axis]) for axis in axes),
        affine=affine[:, [*axes, *dropped, 3]].astype(np.float64),
        in_mm=True,
        _read=partial(_voxels, image, path, turn),
    )


def _three_and_sequences(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Return the shape with exactly three axes of space and one of sequences."""
    if len(shape) < 2 or any(side != 1 for side in shape[4:]) or 0 in shape:
        raise CohortError(
            f"{path.name} must have two or three axes, and a fourth for sequences, got shape {shape}"
        )
    if any(side > MOST_SEQUENCES for side in shape[3:4]):
        raise CohortError(
            f"{path.name} must have at most {MOST_SEQUENCES} sequences on its fourth axis, got shape {shape};"
            " split it, or keep one point in time"
        )
    return (*shape[:4], 1, 1)[:4]


def _kept(shape: tuple[int, ...]) -> list[int]:
    """Return the axes of a plane or a volume."""
    return [axis for axis in range(3) if shape[axis] > 1] if shape.count(1) == 1 else [0, 1, 2]


def _voxels(
    image: Nifti1Image, path: Path, turn: np.ndarray, as_label: bool
) -> Float32[np.ndarray, " channel *space"]:
    shape = _three_and_sequences(image.shape, path)
    if as_label and shape[3] > 1:
        raise CohortError(f"{path.name} has {shape[3]} sequences; a label needs one integer a voxel")
    try:
        values = image.get_fdata(dtype=np.float32, caching="unchanged")
    except _DAMAGE as fault:
        raise _unreadable(path, fault) from fault
    turned = np.moveaxis(apply_orientation(values.reshape(shape), turn), 3, 0)
    kept = [turned.shape[1 + axis] for axis in _kept(turned.shape[1:])]
    return np.ascontiguousarray(turned.reshape(shape[3], *kept))


def _unreadable(path: Path, fault: BaseException) -> CohortError:
    return CohortError(f"cannot read {path.name}: {type(fault).__name__}: {fault}; export it again")
