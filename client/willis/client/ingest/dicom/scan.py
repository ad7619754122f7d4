"""Walk an export and read its headers, several files at once, into an index that a next scan goes on from."""

import hashlib
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

from willis.client.ingest.dicom.header import read_instance
from willis.client.ingest.dicom.identity import POLICIES, Pseudonyms
from willis.client.ingest.dicom.index import FORMAT, Index
from willis.client.ingest.dicom.instance import Instance, Left
from willis.shared.errors import CohortError
from willis.shared.processes import end_with_parent

BATCH = 64  # files that a worker reads at a time
KEEP_EVERY = 512  # files between two commits
FEW = 256  # below so many files workers take longer to start than to read

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, repr=False)
class _Seen:
    """A name found by walking; ``code`` is set where it is nothing to open."""

    path: Path
    file: str
    stamp: str
    code: str = ""


@dataclass(frozen=True, repr=False)
class _Reading:
    """How headers are read; goes to workers through a pipe."""

    pseudonyms: Pseudonyms
    mapping: Mapping[str, str]
    deid: str
    patterns: tuple[str, ...]

    def basis(self) -> str:
        """Return a keyed digest of all that what is read depends on."""
        told = [FORMAT, self.deid, self.patterns, sorted(self.mapping.items()), self.pseudonyms.fingerprint]
        return self.pseudonyms.of("basis", hashlib.sha256(json.dumps(told).encode()).hexdigest())


def scan(
    export: Path,
    index: Path,
    *,
    pseudonyms: Pseudonyms,
    mapping: Mapping[str, str] | None = None,
    deid: str = "require",
    patterns: Sequence[str] = (),
    workers: int = 2,
    progress: Progress | None = None,
) -> Index:
    """Read the headers of an export that are not in the index as they are now.

    Guarantees:
        Every file of the export is in the index, as an instance or as left with a code; memory does not grow
        with their number. Nothing in the export is written, no link is followed. A killed scan goes on.

    Args:
        export: A folder.
        index: A file outside the export, in a folder that is there; the caller closes what is returned.
        pseudonyms: Of the site.
        mapping: PatientIDs of studies that lack them.
        deid: ``require`` or ``site-local``.
        patterns: See :func:`willis.client.ingest.dicom.header.read_instance`.
        workers: Processes that read; 1 reads in this one.
        progress: Called with files done and files in all.

    Raises:
        CohortError: The export is missing, no folder, not readable or empty; or the index cannot be used.
        ValueError: ``deid``, a pattern or ``workers`` is unfit.
    """
    if deid not in POLICIES or workers < 1:
        raise ValueError(f"deid must be one of {POLICIES} and workers at least 1, got {deid!r} and {workers}")
    for pattern in patterns:
        re.compile(pattern)
    total = _checked(export, index, pseudonyms, count=progress is not None)
    reading = _Reading(pseudonyms, dict(mapping or {}), deid, tuple(patterns))
    kept = Index(index, basis=reading.basis())
    try:
        _fill(kept, _walk(export, pseudonyms), reading, workers=workers, told=_Told(progress, total))
    except BaseException:
        kept.close()
        raise
    return kept


def locate(export: Path, files: Iterable[str], *, pseudonyms: Pseudonyms) -> dict[str, Path]:
    """Return where instances' files are, by walking the export once: the index does not hold their paths.

    Files that are gone are not in the answer.
    """
    wanted = set(files)
    return {seen.file: seen.path for seen in _walk(export, pseudonyms) if seen.file in wanted}


class _Told:
    """Counts files and tells how far the scan is."""

    def __init__(self, progress: Progress | None, total: int | None) -> None:
        self.done, self._progress, self._total = 0, progress, total

    def one(self) -> None:
        """Count one file."""
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, self._total)


def _checked(export: Path, index: Path, pseudonyms: Pseudonyms, *, count: bool) -> int | None:
    """Refuse an export that nothing can come from; count its files where asked."""
    if not export.is_dir():
        raise CohortError(f"the export {export} is no folder; name the folder that the PACS exported to")
    if index.resolve().is_relative_to(export.resolve()):
        raise CohortError("the index lies in the export, where nothing is written; name a file elsewhere")
    try:
        os.listdir(export)
    except OSError as fault:
        raise CohortError(f"cannot read the export {export}: {fault.strerror}; let it be read") from None
    walked = _walk(export, pseudonyms)
    if next(walked, None) is None:
        raise CohortError(f"the export {export} holds no file; name the folder that the PACS exported to")
    return 1 + sum(1 for _ in walked) if count else None


def _walk(export: Path, pseudonyms: Pseudonyms) -> Iterator[_Seen]:
    """Yield everything but folders, sorted within each; one folder's names are in memory at a time."""
    waiting: deque[tuple[str, ...]] = deque([()])
    while waiting:
        parts = waiting.popleft()
        folder = export.joinpath(*parts)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            yield _Seen(folder, pseudonyms.of("file", "/".join(parts)), "", "unreadable")
            continue
        for name in names:
            here = (*parts, name)
            seen = _seen(folder / name, pseudonyms.of("file", "/".join(here)))
            if seen is None:
                waiting.append(here)
            else:
                yield seen


def _seen(path: Path, file: str) -> _Seen | None:
    """Return a name as what it is; None for a folder."""
    try:
        facts = path.lstat()
    except OSError:
        return _Seen(path, file, "", "unreadable")
    if stat.S_ISDIR(facts.st_mode):
        return None
    code = "link" if stat.S_ISLNK(facts.st_mode) else "" if stat.S_ISREG(facts.st_mode) else "not-dicom"
    # Times alone can be put back (cp -p, unzip); the time of change cannot.
    return _Seen(path, file, f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}", code)


def _fill(index: Index, walked: Iterator[_Seen], reading: _Reading, *, workers: int, told: _Told) -> None:
    """Read what is new or changed, keep it every few hundred files, and let go what is gone."""
    number = index.begin()

    def fresh() -> Iterator[_Seen]:
        for seen in walked:
            if index.unchanged(seen.file, stamp=seen.stamp, seen=number):
                told.one()
            else:
                yield seen

    for seen, found in _read(fresh(), reading, workers=workers):
        index.put(found, stamp=seen.stamp, seen=number)
        index.n_read += 1
        told.one()
        if index.n_read % KEEP_EVERY == 0:
            index.keep()
    index.end(number)


def _read(
    fresh: Iterator[_Seen], reading: _Reading, *, workers: int
) -> Iterator[tuple[_Seen, Instance | Left]]:
    """Yield what was read, in order; two batches a worker are under way at a time."""
    few = list(islice(fresh, FEW)) if workers > 1 else []
    with ExitStack() as stack:
        pool = None
        if workers > 1 and len(few) == FEW:
            pool = stack.enter_context(
                ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(reading,))
            )
        under_way: deque[tuple[tuple[_Seen, ...], Future | None]] = deque()
        together = chain(few, fresh)
        while batch := tuple(islice(together, BATCH)):
            under_way.append((batch, pool.submit(_read_batch, batch) if pool else None))
            if pool is None or len(under_way) >= 2 * workers:
                yield from _answer(*under_way.popleft(), reading)
        while under_way:
            yield from _answer(*under_way.popleft(), reading)


def _answer(
    batch: tuple[_Seen, ...], future: Future | None, reading: _Reading
) -> Iterator[tuple[_Seen, Instance | Left]]:
    if future is None:
        yield from ((seen, _one(seen, reading)) for seen in batch)
        return
    try:
        found = future.result()
    except BrokenProcessPool:
        raise CohortError("a process that reads headers was ended; scan again, it goes on") from None
    yield from zip(batch, found, strict=True)


def _one(seen: _Seen, reading: _Reading) -> Instance | Left:
    if seen.code:
        return Left(seen.file, seen.code)
    return read_instance(
        seen.path, seen.file, pseudonyms=reading.pseudonyms, deid=reading.deid, mapping=reading.mapping,
        patterns=reading.patterns,
    )  # fmt: skip


_reading: _Reading | None = None  # of this worker


def _start(reading: _Reading) -> None:
    end_with_parent()
    global _reading
    _reading = reading


def _read_batch(batch: tuple[_Seen, ...]) -> list[Instance | Left]:
    if _reading is None:
        raise RuntimeError("a worker reads headers before it was told how")
    return [_one(seen, _reading) for seen in batch]
