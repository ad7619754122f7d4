"""Write a file whole or not at all: beside its place first, renamed when it is on the disk."""

import contextlib
import errno
import os
from pathlib import Path

from willis.shared.errors import StateError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def check_place(path: Path) -> None:
    """Refuse a file whose folder is missing, before any work is done for it.

    Raises:
        StateError: Naming the folder.
    """
    if not path.parent.is_dir():
        raise StateError(
            f"cannot write {path}: there is no folder {path.parent}; make it, or name another file"
        )


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and all that lacks above it, so that a loss of power no longer takes it away.

    What a folder holds is not safe before its own name is on the disk in the folder above it.

    Args:
        mode: Of the folder itself, less the process's umask; those above it get the usual one.

    Raises:
        OSError: It cannot be made.
    """
    lacking = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for one in reversed(lacking):
        _sync_folder(one.parent)


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file so that, whatever happens, it holds the old bytes or the new ones, never a part.

    Args:
        private: Whether it is for its owner alone; from its first byte on.

    Raises:
        StateError: The folder is missing, or the disk is full or not writable; what was there before stands.
    """
    check_place(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as fault:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        remedy = (
            "free some disk" if fault.errno in _NO_ROOM else "name another file, or let its folder be written"
        )
        raise StateError(
            f"cannot write {path}: {fault.strerror}; {remedy}, what was there before stands"
        ) from fault


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
