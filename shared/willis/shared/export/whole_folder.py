"""Write a folder whole or not at all: under a hidden name first, renamed when it is complete."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from willis.shared.errors import StateError


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Hand out a hidden folder beside ``target`` that becomes it when the block ends well, else vanishes.

    Edge cases:
        A process that is killed leaves the hidden folder (``.NAME.*.part``), never a part of the target.

    Raises:
        StateError: The target is neither absent nor an empty folder, or something cannot be written.
    """
    target = target.absolute()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise StateError(f"{target} already holds something; name a new folder, or empty it")
        part.mkdir(parents=True)
        yield part
        os.replace(part, target)
    except OSError as fault:
        why = fault.strerror or type(fault).__name__
        raise StateError(
            f"cannot write {target}: {why}; free some disk or name another place, nothing was left there"
        ) from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)
