"""Which releases a hub serves: those of its runs that it signed, and whose files are what was signed."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from willis.server.hub.folder import HubFolder
from willis.server.hub.serving_refusal import Refused
from willis.shared.collection import collection_pb2 as words
from willis.shared.errors import ReleaseError, WillisError
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.release_bundle.layout import SHEET
from willis.shared.release_signature import SIGNATURE, SUMS, read_public_key, verify_release

logger = logging.getLogger(__name__)
_LOOK_S = 2.0
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class ServedRelease:
    """A release that verifies.

    Attributes:
        name: Of its run.
        stamp: Name, size, time and inode of each of its files, when it was verified.
        description: What is told of it.
        files: Size of each file that may be fetched; no other name is ever opened.
    """

    name: str
    folder: Path
    stamp: Stamp
    description: words.Description
    files: Mapping[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 of its ``SHA256SUMS``."""
        return self.description.release.digest

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one image: channels, then pixels along each axis."""
        return tuple(self.description.shape.image)

    def read(self) -> GeneratorRelease:
        """Read it.

        Raises:
            ReleaseError: It was changed meanwhile.
        """
        found = read_release(self.folder)
        if found.digest != self.digest:
            raise ReleaseError(f"{self.folder} was replaced")
        return found


class Shelf:
    """The releases that are served, looked at again every few seconds; safe to share between threads.

    A name from outside is compared with those of the list, and never becomes part of a path.

    Args:
        hub: Whose.
        clock: Seconds that never go back.
    """

    def __init__(self, hub: HubFolder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub, self._clock = hub, clock
        self._key = read_public_key(hub.release_key[1])
        self._lock = threading.Lock()
        self._served: dict[str, ServedRelease] = {}
        self._refused: dict[str, Stamp] = {}
        self._due = -1.0

    def all(self) -> list[ServedRelease]:
        """Return what is served, by name."""
        with self._lock:
            if self._clock() >= self._due:
                self._look()
                self._due = self._clock() + _LOOK_S
            return [self._served[name] for name in sorted(self._served)]

    def find(self, name: str, *, digest: str | None = None) -> ServedRelease:
        """Return one of them by its name.

        Args:
            digest: Which it must have; None takes any.

        Raises:
            Refused: There is none, or it has another digest.
        """
        found = {one.name: one for one in self.all()}
        if name not in found:
            known = ", ".join(found) or "none"
            raise Refused(grpc.StatusCode.NOT_FOUND, f"there is no such release; served are: {known}")
        if digest is not None and found[name].digest != digest:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                "the release has another digest than was asked for: it was replaced; describe it again",
            )
        return found[name]

    def _look(self) -> None:
        there = [path for path in self._hub.runs.glob("*/release") if path.is_dir()]
        names = {path.parent.name for path in there}
        self._served = {name: one for name, one in self._served.items() if name in names}
        for folder in there:
            name = folder.parent.name
            try:
                stamp = _stamp(folder)
            except OSError as fault:  # it changes just now
                self._served.pop(name, None)
                logger.warning("%s is not served for now: %s", name, fault)
                continue
            known = self._served.get(name)
            if (known is not None and known.stamp == stamp) or self._refused.get(name) == stamp:
                continue
            self._served.pop(name, None)
            try:
                self._served[name] = self._verified(name, folder, stamp)
                self._refused.pop(name, None)
            except (WillisError, OSError) as fault:
                self._refused[name] = stamp
                logger.warning("%s is not served: %s", name, fault)

    def _verified(self, name: str, folder: Path, stamp: Stamp) -> ServedRelease:
        signed = verify_release(folder, self._key)
        release = read_release(folder)
        sizes = {file: (folder / file).stat().st_size for file in sorted(signed.files)}
        patch = release.study.patch
        line = words.ReleaseLine(
            name=name,
            digest=signed.digest,
            study=release.study.name,
            privacy=release.spent.sentence(),
            bytes=sum(sizes.values()),
        )
        told = words.Description(
            release=line,
            sheet=(folder / SHEET).read_bytes(),
            sheet_file=SHEET,
            sums=(folder / SUMS).read_bytes(),
            signature=(folder / SIGNATURE).read_bytes(),
            files=[words.ReleaseFile(name=file, bytes=size) for file, size in sizes.items()],
            shape=words.Shape(image=[len(patch.channels), *patch.size]),
            most_pairs=self._hub.settings.collection.most_pairs,
        )
        if _stamp(folder) != stamp:
            raise ReleaseError(f"{folder} changed while it was looked at")
        return ServedRelease(name, folder, stamp, told, sizes)


def _stamp(folder: Path) -> Stamp:
    """Return what changes whenever a file does."""
    found = []
    for place, _, files in os.walk(folder):
        for file in files:
            path = Path(place) / file
            told = path.lstat()
            found.append((str(path.relative_to(folder)), told.st_size, told.st_mtime_ns, told.st_ino))
    return tuple(sorted(found))
