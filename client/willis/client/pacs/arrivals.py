"""When a study is complete: nothing of it came for a while. Told by counts, to a callback and to a file."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from willis.client.pacs.spool import Place

COMPLETE_FILE = "complete.jsonl"


@dataclass(frozen=True)
class Completed:
    """One study that came to rest; counts, no identity.

    Attributes:
        at: When it was told, UTC.
        complete: False where the listener was stopped before the silence was over.
        series: How many.
        instances: How many came, those that were there before included.
        kinds: Of them, by kind.
    """

    at: str
    complete: bool
    series: int
    instances: int
    kinds: dict[str, int]


@dataclass
class _Study:
    since: float = 0.0
    series: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)


class Arrivals:
    """Tells a study complete after its silence. Safe to use from several threads.

    Args:
        folder: Where ``complete.jsonl`` is appended to.
        silence_s: How long nothing may have come.
        on_complete: Called after the line is written.
    """

    def __init__(
        self, folder: Path, silence_s: float, *, on_complete: Callable[[Completed], None] | None = None
    ) -> None:
        self._path = folder / COMPLETE_FILE
        self._silence = silence_s
        self._on_complete = on_complete or (lambda _: None)
        self._open: dict[str, _Study] = {}
        self._lock = threading.Lock()

    def add(self, place: Place) -> None:
        """Count an instance that was kept."""
        with self._lock:
            study = self._open.setdefault(place.study, _Study())
            study.since = time.monotonic()
            study.series.add(place.series)
            study.kinds[place.kind] += 1

    def tell(self, *, stopping: bool = False) -> None:
        """Tell the studies whose silence is over; with ``stopping`` the others too, as not complete.

        Raises:
            OSError: The line cannot be written; it is told again the next time.
        """
        now = time.monotonic()
        with self._lock:  # one thread at a time tells: the listener's watch, and after it its end
            due = [
                (key, now - study.since >= self._silence)
                for key, study in self._open.items()
                if stopping or now - study.since >= self._silence
            ]
        for key, complete in due:
            with self._lock:
                told = _told(self._open[key], complete)
                _append(self._path, told)
                del self._open[key]
            self._on_complete(told)


def _told(study: _Study, complete: bool) -> Completed:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Completed(at, complete, len(study.series), study.kinds.total(), dict(study.kinds))


def _append(path: Path, completed: Completed) -> None:
    line = json.dumps(asdict(completed)).encode() + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, line) != len(line):  # a full disk: no torn line
            os.ftruncate(handle, before)
            raise OSError("the disk is full")
    finally:
        os.close(handle)
