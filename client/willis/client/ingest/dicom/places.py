"""Where an index' files are: paths carry names, so they are kept in memory, and no longer than an intake."""

import hashlib
from collections.abc import Set
from pathlib import Path

from willis.client.ingest.dicom.header_file import UnfitFileError, open_header, pixel_digest
from willis.client.ingest.dicom.identity import Pseudonyms, text_of
from willis.client.ingest.dicom.index import Index
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.scan import locate

_CLASSIC = frozenset({"mr", "ct"})
_MEANING = (
    "RescaleSlope", "RescaleIntercept", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PhotometricInterpretation",
)  # fmt: skip


class Places:
    """Paths of an export's files.

    Args:
        export: The folder.
        index: Of its files.
        pseudonyms: By which the index names them.
    """

    def __init__(self, export: Path, index: Index, pseudonyms: Pseudonyms) -> None:
        self._export, self._index, self._pseudonyms = export, index, pseudonyms
        self._all: dict[str, Path] | None = None

    def of(self, files: Set[str]) -> dict[str, Path]:
        """Return the paths of these files; those that went away are not in it."""
        if self._all is not None:
            return {file: self._all[file] for file in files if file in self._all}
        return locate(self._export, files, pseudonyms=self._pseudonyms)

    def pixel_digest(self, one: Instance) -> str:
        """Return the SHA-256 of an instance's pixels and what they mean, empty where they cannot be read.

        Equal pixels under another slope are another image. What frames and segments mean stands all over a
        file, so of all but classic images it is that of the file's bytes. The first call walks the export
        once for all that follow.
        """
        if self._all is None:
            files = (each.file for each in self._index.instances())
            self._all = locate(self._export, files, pseudonyms=self._pseudonyms)
        try:
            path = self._all[one.file]
            return _classic_digest(path) if one.kind in _CLASSIC else _file_digest(path)
        except (UnfitFileError, KeyError, OSError):
            return ""


def _classic_digest(path: Path) -> str:
    with open_header(path) as header:
        meaning = [text_of(header.dataset, keyword) for keyword in _MEANING]
    return hashlib.sha256("\n".join([pixel_digest(path), *meaning]).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
