"""Free text in the headers of NIfTI files, where an export may have left a name."""

import gzip
from collections.abc import Iterable
from pathlib import Path

from willis.shared.errors import CohortError

_SIZE = 348  # of a NIfTI-1 header
_TEXT = ((14, 32), (148, 228), (228, 252), (328, 344))  # db_name, descrip, aux_file, intent_name


def files_with_text(paths: Iterable[Path]) -> tuple[int, int]:
    """Return how many NIfTI files have free text in their header, and how many NIfTI files there are.

    Raises:
        CohortError: A file cannot be read.
    """
    nifti = [path for path in paths if path.name.lower().endswith((".nii", ".nii.gz"))]
    return sum(_has_text(path) for path in nifti), len(nifti)


def _has_text(path: Path) -> bool:
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            header = file.read(_SIZE)
    except (OSError, EOFError) as fault:
        raise CohortError(f"cannot read the header of {path}: {type(fault).__name__}") from fault
    return any(header[start:end].strip(b"\0 ") for start, end in _TEXT)
