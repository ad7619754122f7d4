"""Lines of a guide, run as a person would: one shell after another, and nothing left running."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from willis.shared.processes import flower_environment

PATIENCE_S = 120.0


@contextmanager
def ran(folder: Path, lines: Sequence[str]) -> Iterator[str]:
    """Run lines in one shell, as a person would; yield what they told, and end what they left running."""
    log = folder / f"lines-{len(lines)}.log"
    with log.open("wb") as sink:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", "\n".join(lines)],
            cwd=folder,
            env=flower_environment(folder / "flwr") | {"OMP_NUM_THREADS": "1"},  # PATH has willis
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        assert shell.wait(600) == 0, log.read_text()
        yield log.read_text()
    finally:
        _end_session(shell.pid)


def _end_session(group: int) -> None:
    """Ask all that a shell left behind to stop, and wait until it has."""
    until = time.monotonic() + PATIENCE_S
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while True:
            os.killpg(group, 0)
            assert time.monotonic() < until, "what the lines left running does not end"
            time.sleep(0.2)
