"""Every reservation's key follows from what it pays for.

Two runs of one study then draw the same noise, so that a run that was disturbed can be compared with one
that was not.
"""

import hashlib
from types import ModuleType
from typing import Any

MODULE = "willis.client.ledger"


def tamper(ledger: Any) -> None:
    write = ledger.Ledger._write

    def fixed(self, rows, what, run, assumes):
        purpose = what[1].partition("/")[2]  # after the run's random name
        key = hashlib.sha256(f"{self._path.parent.name}/{purpose}".encode()).digest()
        ledger.os = _Os(ledger.os, key)
        try:
            return write(self, rows, what, run, assumes)
        finally:
            ledger.os = ledger.os.inner

    ledger.Ledger._write = fixed


class _Os:
    """The module os, but for urandom."""

    def __init__(self, inner: ModuleType, key: bytes) -> None:
        self.inner, self._key = inner, key

    def urandom(self, n: int) -> bytes:
        assert n == len(self._key)
        return self._key

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)
