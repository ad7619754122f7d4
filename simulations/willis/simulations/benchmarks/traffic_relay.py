"""A relay in front of a port of the loopback that counts the bytes it carries, and when."""

import asyncio
import threading
import time
from bisect import bisect_right
from types import TracebackType

_CHUNK = 256 * 1024


class Tally:
    """Bytes carried in one direction, by time."""

    def __init__(self) -> None:
        self._times: list[float] = [0.0]
        self._totals: list[int] = [0]

    def add(self, size: int) -> None:
        """Count bytes that were just carried."""
        total = self._totals[-1] + size
        self._times.append(time.time())
        self._totals.append(total)

    def between(self, since: float, until: float) -> int:
        """Return how many bytes were carried after ``since``, up to ``until`` (seconds since 1970)."""
        first, last = (self._totals[bisect_right(self._times, at) - 1] for at in (since, until))
        return last - first


class Relay:
    """Carries connections to a port of the loopback while its ``with`` block lasts.

    Attributes:
        port: Where it listens, on the loopback.
        up: What went to the port that it stands in front of.
        down: What came back.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.up, self.down = Tally(), Tally()
        self._target = target
        self._lines: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        opening = asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        under_way = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for line in self._lines:
            line.close()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # nobody listens there now; whoever called sees its connection end
            writer.close()
            return
        lines = {writer, inner_writer}
        self._lines |= lines
        await asyncio.gather(_pump(reader, inner_writer, self.up), _pump(inner_reader, writer, self.down))
        self._lines -= lines


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: Tally) -> None:
    try:
        while part := await reader.read(_CHUNK):
            tally.add(len(part))
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        return  # one side went away: closing the other tells it
    finally:
        writer.close()
