"""Parts of an experiment, kept by name: what is done is taken up again, after a kill too.

A part is a function without arguments whose result depends on the experiment, its size and its data alone;
the folder's claim (``runner``) says that these are the same. ``parts/NAME.json`` holds plain values,
``parts/NAME.npz`` arrays; ``parts/seconds.json`` how long each took, by the clock and by the processor.
"""

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from willis.shared.errors import StateError
from willis.shared.update import Arrays
from willis.shared.whole_file import make_folder, write_whole

_FOLDER, _SECONDS = "parts", "seconds.json"


def kept_values(folder: Path, name: str, make: Callable[[], Any]) -> Any:
    """Return a part's plain values: those that were kept, else made now and kept.

    Args:
        folder: The run's.
        name: Of the part; ``/`` makes folders.
        make: Returns what JSON can hold.

    Raises:
        StateError: What was kept cannot be read.
    """
    path = _place(folder, name, "json")
    if path.exists():
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as fault:
            raise _damaged(path) from fault
    with timed(folder, name):
        text = json.dumps(make(), allow_nan=False)
        write_whole(path, text.encode())
    return json.loads(text)


def kept_arrays(folder: Path, name: str, make: Callable[[], Arrays]) -> dict[str, np.ndarray]:
    """Return a part's arrays by name; see :func:`kept_values`."""
    path = _place(folder, name, "npz")
    if not path.exists():
        with timed(folder, name):
            write_whole(path, packed(make()))
    return unpacked(path)


@contextmanager
def timed(folder: Path, name: str) -> Iterator[None]:
    """Add the time of a body that ends to what its part took so far; kept parts do so by themselves.

    Args:
        folder: The run's.
        name: Of the part.
    """
    clock, processor = time.monotonic(), _processor_s()
    yield
    clock, processor = time.monotonic() - clock, _processor_s() - processor
    known = seconds_of(folder)
    before = known.get(name, {"clock": 0.0, "processor": 0.0})
    took = {"clock": before["clock"] + clock, "processor": before["processor"] + processor}
    known[name] = {kind: round(some, 2) for kind, some in took.items()}
    make_folder(folder / _FOLDER)
    write_whole(folder / _FOLDER / _SECONDS, json.dumps(known, indent=1).encode())


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the content of a file."""
    data = io.BytesIO()
    np.savez(data, **arrays)  # pyright: ignore[reportArgumentType]  (names, not options)
    return data.getvalue()


def unpacked(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`packed` gave.

    Raises:
        StateError: The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, EOFError) as fault:
        raise _damaged(path) from fault


def seconds_of(folder: Path) -> dict[str, dict[str, float]]:
    """Return how long every part took, over all runs in the folder: ``clock`` and ``processor`` by its name.

    ``processor`` adds up all threads, and processes that ended; it is what a busy machine does not change.
    """
    path = folder / _FOLDER / _SECONDS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _place(folder: Path, name: str, kind: str) -> Path:
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"a part's name must lie within the folder, got {name!r}")
    path = folder / _FOLDER / f"{name}.{kind}"
    make_folder(path.parent)
    return path


def _processor_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _damaged(path: Path) -> StateError:
    return StateError(f"{path} is damaged; remove it and run the experiment again")
