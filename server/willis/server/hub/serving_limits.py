"""How much a collector may ask: calls a minute, streams at once, and no stream that nobody reads."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from willis.server.hub.serving_refusal import busy
from willis.server.hub.settings import CollectionSettings

_MINUTE_S = 60.0
_STREAM_AGAIN_S = 1.0


class Limits:
    """Counts of all collectors; safe to share between threads.

    Memory is bounded by the collectors that were invited: nobody is counted before it is known who asks.

    Args:
        settings: Of the hub.
        clock: Seconds that never go back.
    """

    def __init__(self, settings: CollectionSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._calls: dict[str, deque[float]] = {}
        self._streams: dict[str, int] = {}

    def count_call(self, name: str) -> None:
        """Count a call of a collector.

        Raises:
            Refused: It made too many in the last 60 seconds; this one does not count.
        """
        most, now = self._settings.calls_a_minute, self._clock()
        with self._lock:
            calls = self._calls.setdefault(name, deque())
            while calls and calls[0] <= now - _MINUTE_S:
                calls.popleft()
            if len(calls) >= most:
                wait = calls[0] + _MINUTE_S - now
                raise busy(f"at most {most} calls a minute; ask again in {wait:.0f} s", retry_s=wait)
            calls.append(now)

    @contextmanager
    def stream(self, name: str) -> Iterator[None]:
        """Hold one stream of a collector for as long as the block lasts.

        Raises:
            Refused: It, or all together, have as many as they may.
        """
        own, most = self._settings.streams_a_collector, self._settings.streams
        with self._lock:
            if self._streams.get(name, 0) >= own:
                raise busy(f"at most {own} streams at once for one collector", retry_s=_STREAM_AGAIN_S)
            if sum(self._streams.values()) >= most:
                raise busy(f"the hub serves {most} streams, as many as it may", retry_s=_STREAM_AGAIN_S)
            self._streams[name] = self._streams.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._streams[name] -= 1

    def streams(self) -> int:
        """Return how many there are now."""
        with self._lock:
            return sum(self._streams.values())


class StallWatch:
    """Ends streams whose reader takes nothing for too long.

    Args:
        patience_s: Seconds.
        clock: Seconds that never go back.
    """

    def __init__(self, patience_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[float, Callable[[], object]]] = {}
        self._number = 0

    @contextmanager
    def handed_over(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Watch for as long as the block lasts: a message is with gRPC, until its reader takes it.

        Args:
            cancel: Ends the stream.
        """
        with self._lock:
            self._number += 1
            number = self._number
            self._waiting[number] = (self._clock() + self._patience_s, cancel)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def look(self) -> int:
        """End what stalls; return how many streams that were."""
        now = self._clock()
        with self._lock:
            due = [number for number, (until, _) in self._waiting.items() if until <= now]
            cancels = [self._waiting.pop(number)[1] for number in due]
        for cancel in cancels:
            cancel()
        return len(cancels)
