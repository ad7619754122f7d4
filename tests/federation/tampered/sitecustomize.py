"""For tests of whole federations alone: a process whose Willis or Flower was tampered with.

Python imports a module of this name at its start from any folder on PYTHONPATH. ``WILLIS_TEST_TAMPER`` names
modules of this folder; each says which ``MODULE`` it changes, and ``tamper`` does it once that one is loaded.
No code of Willis knows of this: the product has no way to fix its noise, or to leave it out.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType


class _Tampered(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader, change: ModuleType) -> None:
        self._inner, self._change = inner, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        self._change.tamper(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, change: ModuleType) -> None:
        self._change = change

    def find_spec(self, fullname, path, target=None):
        if fullname != self._change.MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Tampered(spec.loader, self._change)
        return spec


for name in os.environ.get("WILLIS_TEST_TAMPER", "").split():
    sys.meta_path.insert(0, _Finder(importlib.import_module(name)))
