"""Where an index' files are: paths carry names, so they are kept in memory, and no longer than an intake."""

from collections.abc import Set
from pathlib import Path

from willis.client.ingest.dicom.header_file import UnfitFileError, pixel_digest
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.index import Index
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.scan import locate


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
        """Return the SHA-256 of an instance's pixels, empty where they cannot be read.

        The first call walks the export once for all that follow.
        """
        if self._all is None:
            files = (each.file for each in self._index.instances())
            self._all = locate(self._export, files, pseudonyms=self._pseudonyms)
        try:
            return pixel_digest(self._all[one.file])
        except (UnfitFileError, KeyError):
            return ""
