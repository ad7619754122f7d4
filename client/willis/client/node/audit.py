"""The audit log: what left the hospital, when, how large, at what cost; append only, chained by hashes.

One line of JSON an event, no patient data. Every line's hash covers its content and the hash before it, so a
line that is changed, taken out or put in between shows; the last hash, kept elsewhere, shows a cut end.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from willis.shared.errors import StateError

Fact = str | int | float | bool | None
AUDIT_FILE = "audit.jsonl"
_REMEDY = "keep the file, find out who wrote it, and set it aside before the site runs on"


class AuditLog:
    """A site's audit log; several processes may append to the same file.

    Args:
        path: The file; made, for its owner alone, at the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **facts: Fact) -> None:
        """Write one line; on return it is on the disk.

        Args:
            event: What happened, one word.
            facts: Names and values without patient data.

        Raises:
            StateError: It cannot be written; what should be audited must then not happen.
        """
        try:
            with self._alone() as handle:
                whole, torn = _cut(self._bytes())
                if torn:  # a loss of power in the middle of a line: it is cut off, and told
                    os.ftruncate(handle, len(whole))
                    whole += _write(handle, whole, "torn-line", {"bytes": torn})
                _write(handle, whole, event, facts)
        except OSError as fault:
            raise StateError(f"cannot write the audit log {self.path}: {fault.strerror}") from fault

    def read(self) -> list[dict[str, Fact]]:
        """Return all lines in their order, each with ``at``, ``event``, its facts, ``previous`` and ``hash``.

        Raises:
            StateError: It cannot be read, or a line does not fit its hash.
        """
        try:
            whole, _ = _cut(self._bytes())
        except OSError as fault:
            raise StateError(f"cannot read the audit log {self.path}: {fault.strerror}") from fault
        found, previous = [], ""
        for number, line in enumerate(whole.splitlines(), start=1):
            entry = _parsed(line)
            content = {name: value for name, value in entry.items() if name != "hash"}
            if content.get("previous") != previous or entry.get("hash") != _hash(content):
                raise StateError(f"the audit log {self.path} was altered at line {number}: {_REMEDY}")
            found.append(entry)
            previous = str(entry["hash"])
        return found

    def _bytes(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    @contextmanager
    def _alone(self) -> Iterator[int]:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _write(handle: int, before: bytes, event: str, facts: dict[str, Fact]) -> bytes:
    previous = str(_parsed(before.splitlines()[-1]).get("hash", "")) if before else ""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    content: dict[str, Fact] = {"at": now, "event": event, **facts, "previous": previous}
    line = json.dumps({**content, "hash": _hash(content)}).encode() + b"\n"
    written = os.write(handle, line)
    if written != len(line):  # the next line cuts it off
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)
    return line


def _cut(data: bytes) -> tuple[bytes, int]:
    """Return the whole lines, and how many bytes follow them."""
    end = data.rfind(b"\n") + 1
    return data[:end], len(data) - end


def _parsed(line: bytes) -> dict[str, Fact]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _hash(content: dict[str, Fact]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
