"""Fetch a release whole: in pieces that survive a cut line, verified before it is there at all."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.description import SheetedRelease, checked
from willis.shared.collection.door import HubDoor
from willis.shared.collection.refusal import VERSION
from willis.shared.errors import ReleaseError, StateError
from willis.shared.release_signature import SIGNATURE, SUMS, file_digest, verify_release
from willis.shared.whole_file import write_whole

Progress = Callable[[int, int], None]


def fetch_release(
    door: HubDoor, release: str, *, out: Path, progress: Progress | None = None
) -> SheetedRelease:
    """Fetch a release into a new folder, whole or not at all.

    1) the signed digests; 2) file by file into ``.NAME.DIGEST.part`` beside the target, going on at the byte
    where an earlier call, or a line that was cut, left off; 3) signature, digests and names of all that is
    there; 4) the rename. Nothing in it is interpreted.

    Args:
        door: Of the hub.
        release: Its name there.
        out: Must not exist, or be an empty folder.
        progress: Gets the bytes that are there, and how many there will be.

    Raises:
        ReleaseError: There is no such release, it is not signed by the hub's key, or other bytes came.
        StateError: The target holds something, the disk is full or not writable; what has arrived stays in
            the part folder, and the same call goes on with it.
        CollectionRefused: The hub says no.
        Unreachable: The hub does not answer.
    """
    out = out.absolute()
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise StateError(f"{out} already holds something; name a new folder, or empty it")
    told = door.describe(release)
    described = checked(told, name=release, key=door.kit.release_key)
    part = out.with_name(f".{out.name}.{described.signed.digest[:16]}.part")
    try:
        with _held(part):
            _fill(door, described, part=part, progress=progress or (lambda done, total: None))
            write_whole(part / SUMS, told.sums)
            write_whole(part / SIGNATURE, told.signature)
            _verified(part, door)
            os.replace(part, out)
    except OSError as fault:
        raise _unwritable(out, part, fault) from fault
    return described


def _unwritable(out: Path, part: Path, fault: OSError) -> StateError:
    full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some disk" if full else "name another place"
    return StateError(
        f"cannot write {out}: {fault.strerror or type(fault).__name__}; {remedy} and run it again: what has "
        f"arrived is in {part}"
    )


def _verified(part: Path, door: HubDoor) -> None:
    try:
        verify_release(part, door.kit.release_key)
    except ReleaseError as fault:
        raise ReleaseError(
            f"what arrived is not the release; remove {part} and fetch it again\n{fault}"
        ) from fault


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Make the part folder and let nobody else fill it meanwhile."""
    part.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise StateError(f"another `willis collect fetch` fills {part}; wait for its end") from fault
        yield
    finally:
        os.close(handle)


def _fill(door: HubDoor, described: SheetedRelease, *, part: Path, progress: Progress) -> None:
    total, done = sum(described.sizes.values()), 0
    lacking = total - sum(min(_size(part / name), size) for name, size in described.sizes.items())
    if (free := shutil.disk_usage(part).free) < lacking:
        raise StateError(
            f"{part.parent} has {free / 1e6:.0f} MB free, {lacking / 1e6:.0f} MB of the release are still to "
            f"come; free some disk; what has arrived is in {part}"
        )
    for name, size in sorted(described.sizes.items()):
        path = part / name
        if path.parent != part:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        before = done
        arrived = _Arriving(path, size, lambda here, before=before: progress(before + here, total))
        arrived.take(door, described, name)
        done += size


def _size(path: Path) -> int:
    return path.stat(follow_symlinks=False).st_size if path.exists() else 0


class _Arriving:
    """One file, as far as it has come."""

    def __init__(self, path: Path, size: int, progress: Callable[[int], None]) -> None:
        self._path, self._size, self._progress = path, size, progress

    def take(self, door: HubDoor, described: SheetedRelease, name: str) -> None:
        """Fetch what lacks; bytes of an earlier call that turn out wrong are fetched anew, once."""
        wanted = described.signed.files[name]
        if _size(self._path) > self._size:
            self._path.unlink()
        resumed = _size(self._path) > 0
        self._go_on(door, described, name)
        if file_digest(self._path) == wanted:
            return
        self._path.unlink()
        if resumed:
            self._go_on(door, described, name)
            if file_digest(self._path) == wanted:
                return
            self._path.unlink()
        raise ReleaseError(f"release {described.name}: what the hub sent as {name} is not what was signed")

    def _go_on(self, door: HubDoor, described: SheetedRelease, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(os.open(self._path, flags, 0o644), "ab") as file:
            here = file.seek(0, os.SEEK_END)

            def ask() -> words.FetchRequest:
                return words.FetchRequest(
                    version=VERSION,
                    release=described.name,
                    digest=described.signed.digest,
                    file=name,
                    offset=here,
                )

            while here < self._size:
                before = here
                for chunk in door.fetch(ask):
                    if not 0 < len(chunk.data) <= self._size - here:
                        raise ReleaseError(f"release {described.name}: {name} has other bytes than was said")
                    file.write(chunk.data)
                    file.flush()  # what has arrived stays, whatever comes next
                    here += len(chunk.data)
                    self._progress(here)
                if here == before:
                    raise ReleaseError(f"release {described.name}: {name} ends after {here} bytes")
            os.fsync(file.fileno())
        self._progress(self._size)
