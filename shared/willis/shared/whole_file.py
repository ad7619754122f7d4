"""Write a file whole or not at all: beside its place first, renamed when it is on the disk."""

import contextlib
import os
from pathlib import Path

from willis.shared.errors import StateError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, it holds the old bytes or the new ones, never a part.

    Raises:
        StateError: The disk is full or not writable; what was there before stands.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as fault:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StateError(
            f"cannot write {path}: {fault.strerror}; free some disk, what was there before stands"
        ) from fault


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
