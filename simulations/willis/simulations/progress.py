"""Progress that people can watch: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Advance = Callable[[int, int], None]
_EVERY_S = 10.0  # seconds between two plain lines of one task


class Show:
    """Shows long work as it goes.

    Args:
        stream: Where to; standard error by default, so that ``--json`` keeps standard output to itself.
        quiet: Show nothing.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._console = Console(file=stream or sys.stderr, quiet=quiet, highlight=False)

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Advance]:
        """Show one task; the yielded function takes what is done, and of how much."""
        started = time.monotonic()
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description:<34}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            with Progress(*columns, console=self._console) as bars:
                bar = bars.add_task(title, total=None)
                yield lambda done, of: bars.update(bar, completed=done, total=of)
            return
        yield self._plain(title)
        self.say(f"{title}: done after {time.monotonic() - started:.0f} s")

    def _plain(self, title: str) -> Advance:
        last = time.monotonic()

        def advance(done: int, of: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _EVERY_S and done < of:
                last = time.monotonic()
                self.say(f"{title}: {done} of {of}")

        return advance
