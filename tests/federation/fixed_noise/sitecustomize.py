"""For tests of whole federations alone: every reservation's key follows from what it pays for.

Python imports a module of this name at its start from any folder on PYTHONPATH. Two runs of one study then
draw the same noise, so that a run that was disturbed can be compared with one that was not. No code of Willis
knows of it: the product has no way to fix its noise.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

LEDGER = "willis.client.ledger"


class _Patched(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        ledger: Any = module
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


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname != LEDGER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Patched(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
