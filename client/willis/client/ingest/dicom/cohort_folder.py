"""The folder that an intake writes: images, labels, the table; each file whole, the same bytes each time."""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, UInt8
from nibabel.nifti1 import Nifti1Image

from willis.client.ingest.table import COLUMNS
from willis.shared.errors import StateError
from willis.shared.whole_file import make_folder, write_whole

TABLE = "cohort.csv"
_LEVEL = 4  # of gzip: voxels of a scanner gain little from more


@dataclass(frozen=True)
class KeptScan:
    """One row of the table, and what it was made of.

    Attributes:
        name: ``SUBJECT/study-K/series-N``.
        subject: Pseudonym.
        source: Digest of the files that it was made of, and of the rule.
        image: SHA-256 of the image's file; empty where there is only a mask.
        label: SHA-256 of the label's file.
        shape: Voxels.
        spacing_mm: Of the voxels.
        foreground: Share of the voxels that the label marks.
    """

    name: str
    subject: str
    source: str
    image: str
    label: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    foreground: float


class CohortFolder:
    """A cohort on disk, and beside the site's state what every scan of it was made of.

    Args:
        out: The cohort's folder; made where missing.
        memory: Where the site remembers, one file a scan.
    """

    def __init__(self, out: Path, memory: Path) -> None:
        self.out, self._memory = out, memory
        for folder in (out / "images", out / "labels", memory):
            make_folder(folder, mode=0o700)

    def kept(self, name: str, source: str) -> KeptScan | None:
        """Return a scan that is there, whole, and made of the same; None where it has to be made."""
        try:
            told = json.loads(self._note(name).read_bytes())
            scan = KeptScan(**told | {key: tuple(told[key]) for key in ("shape", "spacing_mm")})
        except (OSError, ValueError, TypeError, KeyError):
            return None  # never made, or half a note: it is made anew
        there = all(
            not digest or _digest(self.out / kind / file_of(name)) == digest
            for kind, digest in (("images", scan.image), ("labels", scan.label))
        )
        return scan if scan.source == source and there else None

    def write(
        self,
        name: str,
        source: str,
        *,
        subject: str,
        image: Float[np.ndarray, "i j k"] | None,
        label: UInt8[np.ndarray, "i j k"],
        affine: Float64[np.ndarray, "4 4"],
    ) -> KeptScan:
        """Write one scan.

        Raises:
            StateError: The disk is full or not writable; nothing half-written stays.
        """
        self._forget(name)
        digests = {}
        for kind, voxels in (("images", image), ("labels", label)):
            data = b"" if voxels is None else nifti_bytes(voxels, affine)
            if data:
                write_whole(self.out / kind / file_of(name), data)
            digests[kind] = hashlib.sha256(data).hexdigest() if data else ""
        i, j, k = label.shape
        scan = KeptScan(
            name=name,
            subject=subject,
            source=source,
            image=digests["images"],
            label=digests["labels"],
            shape=(i, j, k),
            spacing_mm=_spacing(affine),
            foreground=float(np.count_nonzero(label) / label.size),
        )
        write_whole(self._note(name), json.dumps(asdict(scan)).encode(), private=True)
        return scan

    def close(self, scans: Sequence[KeptScan], *, site: str) -> Path:
        """Write the table, and take away what earlier intakes made and this one did not.

        Raises:
            StateError: It cannot be written.
        """
        lines = io.StringIO()
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(COLUMNS)
        for scan in sorted(scans, key=lambda scan: scan.name):
            image = f"images/{file_of(scan.name)}" if scan.image else ""
            table.writerow((scan.subject, site, image, f"labels/{file_of(scan.name)}"))
        write_whole(self.out / TABLE, lines.getvalue().encode())
        names = {scan.name for scan in scans}
        for note in self._memory.glob("*.json"):
            name = str(json.loads(note.read_bytes()).get("name", ""))
            if name and name not in names:
                for kind in ("images", "labels"):
                    (self.out / kind / file_of(name)).unlink(missing_ok=True)
                note.unlink()
        return self.out / TABLE

    def _forget(self, name: str) -> None:
        """Take a scan away before it is made anew: no table may join a new image to an old label."""
        old = [self._note(name), *(self.out / kind / file_of(name) for kind in ("labels", "images"))]
        try:
            for path in old:
                path.unlink(missing_ok=True)
        except OSError as fault:
            raise StateError(
                f"cannot make {name} anew: {fault.strerror}; let the cohort be written"
            ) from None

    def _note(self, name: str) -> Path:
        return self._memory / f"{file_of(name).removesuffix('.nii.gz')}.json"


def file_of(name: str) -> str:
    """Return the file name of a scan."""
    return f"{name.replace('/', '_')}.nii.gz"


def nifti_bytes(voxels: np.ndarray, affine: Float64[np.ndarray, "4 4"]) -> bytes:
    """Return a compressed NIfTI-1 file without a word of text or a time in it.

    Whole numbers within 16 bits are written as such, all else as float32.
    """
    image = Nifti1Image(_narrow(voxels), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    return gzip.compress(image.to_bytes(), _LEVEL, mtime=0)


def _narrow(voxels: np.ndarray) -> np.ndarray:
    if voxels.dtype == np.uint8:
        return voxels
    if np.isfinite(voxels).all() and (np.abs(voxels) < 2**15).all() and (voxels == np.rint(voxels)).all():
        return voxels.astype(np.int16)
    return voxels.astype(np.float32)


def _spacing(affine: Float64[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return (x, y, z)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise StateError(f"cannot read {path}: {fault.strerror}") from fault
