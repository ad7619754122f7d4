"""A NIfTI mask beside an export: where the site's pattern says it is, and as the label of an image."""

import string
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from willis.client.ingest.check import AFFINE_TOLERANCE, INTEGER_TOLERANCE
from willis.client.ingest.dicom.grid import Grid, plausible
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused
from willis.client.ingest.dicom.rule import PLACES
from willis.client.ingest.volume import Volume, open_volume
from willis.shared.errors import CohortError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_LONGEST_NAME = 255  # bytes of one name in a folder, as on every file system


def label_from_nifti(path: Path, grid: Grid) -> UInt8[np.ndarray, "i j k"]:
    """Return a NIfTI mask as 0 and 1 on an image's voxels; every value above 0 is foreground.

    Guarantees:
        Turned to closest canonical RAS, the mask has the image's shape, and its affine within 1e-3.

    Raises:
        MaskRefused: The mask is not fit; neither its path nor a library's words are in the message.
    """
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise MaskRefused(MaskFault.NOT_NIFTI)
    if not path.is_file():
        raise MaskRefused(MaskFault.MISSING)
    volume = _opened(path)
    if volume is None:
        raise MaskRefused(MaskFault.DAMAGED)
    _refuse_other_grid(volume, grid)
    values = _values(volume)
    if values is None:
        raise MaskRefused(MaskFault.DAMAGED)
    _refuse_values(values)
    return plausible((values > 0.5).astype(np.uint8))


def _opened(path: Path) -> Volume | None:
    """Open a file; the text of a fault, which holds its name, ends here."""
    try:
        return open_volume(path)
    except CohortError:
        return None


def _values(volume: Volume) -> np.ndarray | None:
    try:
        return volume.label()
    except CohortError:
        return None


def _refuse_other_grid(volume: Volume, grid: Grid) -> None:
    if volume.shape != grid.shape:
        raise MaskRefused(MaskFault.OTHER_GRID, f"the mask has {volume.shape} voxels, the image {grid.shape}")
    apart = float(np.abs(volume.affine - grid.affine).max())
    if not apart <= AFFINE_TOLERANCE:
        raise MaskRefused(
            MaskFault.OTHER_GRID,
            f"the affines differ by {apart:.4g}, at most {AFFINE_TOLERANCE:g} is allowed",
        )


def _refuse_values(values: np.ndarray) -> None:
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise MaskRefused(MaskFault.NOT_FINITE, f"{n_bad} values")
    off = np.abs(values - np.rint(values))
    if not off.max() <= INTEGER_TOLERANCE:
        raise MaskRefused(MaskFault.NOT_INTEGER, f"such as {float(values.flat[int(off.argmax())]):g}")
    if not values.min() > -0.5:
        raise MaskRefused(MaskFault.NEGATIVE, f"the least is {float(values.min()):g}")


def check_pattern(pattern: str) -> None:
    """Check a site's pattern of a mask's path, such as ``masks/{patient}_{series_number}.nii.gz``.

    Raises:
        CohortError: It has an unknown place or none, is not relative, has ``..`` in it, or is no NIfTI's.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError:
        raise CohortError(
            f"pattern {pattern!r} has a brace too many or too few; double it to mean it"
        ) from None
    named = [name for _, name, _, _ in parts if name is not None]
    unknown = sorted(set(named) - set(PLACES))
    if unknown or any(form or turn for _, _, form, turn in parts):
        raise CohortError(
            f"pattern {pattern!r} has a place that is not known; known are "
            + ", ".join(f"{{{one}}}" for one in PLACES)
        )
    if not named:
        raise CohortError(f"pattern {pattern!r} has no place, so all images would share one mask")
    written = "".join(text for text, _, _, _ in parts)
    if pattern.startswith(("/", "~")) or "\\" in written or "\0" in written or ".." in pattern.split("/"):
        raise CohortError(
            f"pattern {pattern!r} must be relative to the export, with / between folders and no .."
        )
    if not pattern.lower().endswith(NIFTI_SUFFIXES):
        raise CohortError(f"pattern {pattern!r} must end in {' or '.join(NIFTI_SUFFIXES)}")


def nifti_beside(
    pattern: str,
    *,
    export: Path,
    series_folder: PurePosixPath,
    file_stem: str,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    series_number: int,
) -> Path:
    """Return the mask's path that the site's pattern gives for one image.

    Guarantees:
        The path is a file inside the export, and no part of it below the export is a link.

    Args:
        pattern: As ``check_pattern`` takes it.
        export: The export's folder.
        series_folder: Folder of the series, relative to the export; the only value that may hold ``/``.
        file_stem: Name of the series' first file, without its suffix.
        patient_id: The patient's real identifier, as in the export; so are the UIDs. They stay in the path.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        series_number: 0 where absent.

    Raises:
        CohortError: The pattern is not sound.
        MaskRefused: ``outside-export`` or ``missing-mask``; no value is in the message.
    """
    check_pattern(pattern)
    values = {
        "patient": patient_id,
        "study": study_uid,
        "series": series_uid,
        "series_number": str(series_number),
        "folder": "/".join(series_folder.parts),
        "stem": file_stem,
    }
    used = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    for name in used - {"folder"}:
        if not values[name]:
            raise MaskRefused(MaskFault.MISSING, f"the image has no {name}")
        if not _is_name(values[name]):
            raise MaskRefused(MaskFault.OUTSIDE_EXPORT, f"its {name} cannot be part of a file's name")
    if series_folder.is_absolute() or any(not _is_name(part) for part in series_folder.parts):
        raise MaskRefused(MaskFault.OUTSIDE_EXPORT, "the folder of the series")
    return _inside(export, PurePosixPath(pattern.format_map(values).lstrip("/")))


def _is_name(text: str) -> bool:
    """Whether a text can be part of a name: no separator, no way up, nothing that nobody sees."""
    return text != ".." and text.isprintable() and not set(text) & set("/\\\0")


def _inside(export: Path, relative: PurePosixPath) -> Path:
    path = export
    for part in relative.parts:
        if part == ".." or len(part.encode()) > _LONGEST_NAME:
            raise MaskRefused(MaskFault.OUTSIDE_EXPORT)
        path = path / part
        if _looked(path.is_symlink):
            raise MaskRefused(MaskFault.OUTSIDE_EXPORT)
    if not _looked(path.is_file):
        raise MaskRefused(MaskFault.MISSING)
    return path


def _looked(asked: Callable[[], bool]) -> bool:
    """Ask the file system; what it raises names the path, which may name the patient."""
    try:
        return asked()
    except OSError as fault:
        told = type(fault).__name__
    raise MaskRefused(MaskFault.MISSING, f"{told} at looking for it")
