"""Instances of a made export, read as intake reads them, and the volumes that stacks of them give."""

from pathlib import Path
from typing import Any

import numpy as np
from harness.made_dicom_series import Made
from nibabel.funcs import as_closest_canonical
from nibabel.nifti1 import Nifti1Image
from pydicom import dcmread

from willis.client.ingest.dicom.header import read_instance
from willis.client.ingest.dicom.header_file import UnfitFileError, pixel_digest
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance, Left
from willis.client.ingest.dicom.stacks import Refusal, Stack, stacks
from willis.client.ingest.dicom.voxels import volume_of
from willis.shared.errors import CohortError

PSEUDONYMS = Pseudonyms(b"k" * 32)


class Scanned:
    """An export read file by file.

    Attributes:
        instances: All that are DICOM.
        left: All that are not.
        paths: The file of each instance.
    """

    def __init__(self, folder: Path, *, deid: str = "site-local") -> None:
        self.instances: list[Instance] = []
        self.left: list[Left] = []
        self.paths: dict[str, Path] = {}
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            key = PSEUDONYMS.of("file", str(path.relative_to(folder)))
            found = read_instance(path, key, pseudonyms=PSEUDONYMS, deid=deid)
            if isinstance(found, Left):
                self.left.append(found)
            else:
                self.instances.append(found)
                self.paths[key] = path

    def digest(self, one: Instance) -> str:
        """Return the digest of an instance's pixels, "" where they cannot be read."""
        try:
            return pixel_digest(self.paths[one.file])
        except UnfitFileError:
            return ""

    def found(self, *, least_slices: int = 8) -> list[Stack | Refusal]:
        """Return what the stacks are; every instance is accounted for."""
        found = stacks(self.instances, least_slices=least_slices, digest=self.digest)
        assert sum(len(one.instances) + one.duplicates for one in found) == len(self.instances)
        return found

    def outcome(self, *, least_slices: int = 8):
        """Return volumes by name, and the code of each refusal by name, whichever step refused."""
        volumes, refused = {}, {}
        for one in self.found(least_slices=least_slices):
            if isinstance(one, Refusal):
                assert one.sentence
                refused[one.name] = one.code
                continue
            try:
                volumes[one.name] = volume_of(one, self.paths)
            except CohortError as fault:
                name, code, _sentence = str(fault).split(": ", 2)
                assert name == one.name
                refused[one.name] = code
        return volumes, refused


PAT = PSEUDONYMS.subject("PAT-1")
SERIES = f"{PAT}/study-1/series-3"


def is_made(found: tuple[np.ndarray, np.ndarray], made: Made, *, values: np.ndarray | None = None) -> None:
    """Assert that a volume is the made one in closest canonical RAS, by nibabel's own turning."""
    volume = (made.voxels if values is None else values).transpose(2, 1, 0).astype(np.float32)
    canonical = as_closest_canonical(Nifti1Image(volume, made.affine))
    np.testing.assert_array_equal(found[0], np.asarray(canonical.dataobj))
    np.testing.assert_allclose(found[1], np.asarray(canonical.affine), atol=1e-5)


def change(path: Path, **tags: Any) -> None:
    """Set tags of a file by keyword."""
    item = dcmread(path)
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    if "SOPInstanceUID" in tags:
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.save_as(path, enforce_file_format=True)


def only_volume(folder: Path, made: Made, **more: Any) -> Scanned:
    """Assert that an export gives the made volume and nothing is refused."""
    scanned = Scanned(folder)
    volumes, refused = scanned.outcome()
    assert refused == {}
    assert list(volumes) == [SERIES]
    is_made(volumes[SERIES], made, **more)
    return scanned


def only_refused(folder: Path, code: str, *, name: str = SERIES) -> None:
    """Assert that an export gives no volume and one refusal."""
    volumes, refused = Scanned(folder).outcome()
    assert volumes == {}
    assert refused == {name: code}
