"""One holder at a time: a file that the operating system lets go of when its holder ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from willis.shared.errors import StateError


@contextmanager
def held_alone(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock for as long as the block lasts.

    Args:
        path: The file; made where missing, its folder must be there.
        refusal: What is said where somebody else holds it.

    Raises:
        StateError: Somebody else does.
    """
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise StateError(refusal) from fault
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock; a process number in a file may be another's by now, this cannot."""
    if not path.exists():
        return False
    with path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
