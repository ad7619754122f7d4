"""Make one scan of a cohort: voxels, label, files; what was made of the same before is left as it is."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from willis.client.ingest.dicom.apart import Apart
from willis.client.ingest.dicom.choice import outside
from willis.client.ingest.dicom.cohort_folder import CohortFolder, KeptScan
from willis.client.ingest.dicom.label_search import LabelSearch
from willis.client.ingest.dicom.labels import Grid
from willis.client.ingest.dicom.lattice import Flaw
from willis.client.ingest.dicom.plan import Wanted
from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.ingest.dicom.stacks import MULTI_FRAME, Stack
from willis.client.ingest.dicom.voxels import VolumeRefused, volume_of
from willis.shared.errors import CohortError

_FORMAT = "1"  # another where the same files and rule give other voxels: all scans are then made anew


class Conversion:
    """Makes scans.

    Args:
        rule: The site's.
        cohort: Where they are written.
        search: For their labels.
        apart: Where codecs decode.
    """

    def __init__(
        self,
        rule: IntakeRule,
        cohort: CohortFolder,
        *,
        search: LabelSearch,
        apart: Apart,
    ) -> None:
        self.cohort = cohort
        self._rule, self._search, self._apart = rule, search, apart
        self._paths: Mapping[str, Path] = {}

    def expect(self, wanted: Sequence[Wanted], paths: Mapping[str, Path]) -> None:
        """Say what will be made, and where the file of each instance is, by ``Instance.file``."""
        self._paths = paths
        self._search.expect((one.image for one in wanted if one.image is not None), paths)

    def scan(self, one: Wanted) -> tuple[KeptScan, bool]:
        """Return a scan of the cohort, and whether it was made now.

        Raises:
            VolumeRefused: The image gives no volume that can be trusted.
            MaskRefused: There is no label that fits.
            CohortError: A file went away.
            StateError: The cohort cannot be written.
        """
        source = self._source(one)
        kept = self.cohort.kept(one.name, source)
        return (kept, False) if kept is not None else (self._made(one, source), True)

    def _made(self, one: Wanted, source: str) -> KeptScan:
        if one.image is None:
            image = None
            label, affine = self._search.alone(one.masks[0], self._paths)
        else:
            image, affine = volume_of(
                one.image, self._paths, apart=self._apart, pseudonyms=self._search.pseudonyms
            )
            _check_spacing(one.image, affine, self._rule)
            i, j, k = image.shape
            grid = Grid((i, j, k), affine, one.image.frame_of_reference, one.image.series)
            label = self._search.label(one.image, one.masks, grid, self._paths)
        return self.cohort.write(
            one.name, source, subject=one.subject, image=image, label=label, affine=affine
        )

    def _source(self, one: Wanted) -> str:
        """Return a digest of the files that a scan is made of, by facts, size and times, and of the rule."""
        lacking = [file for file in one.files() if file not in self._paths]
        if lacking:
            raise CohortError(f"{one.name}: {len(lacking)} of its files went away while the export was read")
        told = hashlib.sha256(f"{_FORMAT} {self._rule.digest()}".encode())
        beside = () if one.image is None else self._search.beside(one.image, self._paths)
        for path in [*(self._paths[file] for file in one.files()), *beside]:
            told.update(_changed(path, one.name).encode())
        told.update("\n".join(str(astuple(each)) for each in one.instances()).encode())
        return told.hexdigest()


def _changed(path: Path, name: str) -> str:
    """Return what changes with a file: its size and times; a copy that keeps one time has another."""
    try:
        about = path.stat()
    except OSError as fault:
        told = type(fault).__name__
    else:
        return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}\n"
    raise CohortError(f"{name}: a file of it went away while the export was read ({told})")


def _check_spacing(stack: Stack, affine: Float64[np.ndarray, "4 4"], rule: IntakeRule) -> None:
    """Check what only the frames of a multi-frame image tell: how far apart its slices are."""
    if stack.kind not in MULTI_FRAME or rule.image.between_mm is None:
        return
    orientation = stack.instances[0].orientation
    if orientation is None:
        flaw = Flaw("between_mm", "its header tells no orientation, so between_mm cannot be checked")
        raise VolumeRefused(stack.name, flaw)
    normal = np.cross(orientation[:3], orientation[3:])
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    along = np.abs((affine[:3, :3] / lengths).T @ normal)  # LPS and RAS differ in signs alone
    misfit = outside("between_mm", (float(lengths[np.argmax(along)]),), rule.image.between_mm)
    if misfit is not None:
        raise VolumeRefused(stack.name, Flaw(*misfit))
