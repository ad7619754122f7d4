"""Programs that a hub or a site keeps running: started together, restarted when they end, stopped whole.

Every program leads a session of its own, so that whatever it started ends with it; on Linux it also ends when
its keeper is killed. What it prints goes to its log line by line, as JSON.
"""

import ctypes
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_PAUSES_S = (0.5, 30.0)  # before a restart: first, longest
_STEADY_S = 60.0  # after so long alive the pause is short again
_STOP_S = 20.0
_MOST_LOG_BYTES = 64 * 1024 * 1024
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)
_LIBC = ctypes.CDLL(None)  # loaded here: after a fork, with threads about, it could wait for ever


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: In logs and states.
        command: Its words; the first is a path.
        environment: Whole; see :func:`flower_environment`.
        log: Where its lines go.
        ready: Asked before the next program is started; None where nothing waits for this one.
        retold: Returns what the log keeps of a line; None keeps it whole.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    ready: Callable[[], bool] | None = None
    retold: Callable[[str], Mapping[str, object]] | None = None


@dataclass
class Running:
    """A program as its keeper sees it: its process, how often it was restarted, when it may be again."""

    program: Program
    process: subprocess.Popen[bytes]
    since: float
    restarts: int = 0
    pause: float = _PAUSES_S[0]
    due: float = 0.0


class Keeper:
    """Keeps programs running until told to stop.

    Args:
        programs: In the order of their start.
        on_end: Called with a program's name and exit status whenever one ends unasked.
    """

    def __init__(
        self, programs: Sequence[Program], *, on_end: Callable[[str, int], None] | None = None
    ) -> None:
        self._programs = tuple(programs)
        self._on_end = on_end or (lambda name, status: None)
        self._running: dict[str, Running] = {}

    def start(self, *, patience_s: float = 60.0) -> None:
        """Start all, each once those before it are ready.

        Raises:
            TimeoutError: One was not ready in time, or ended before; none is left running.
        """
        try:
            for program in self._programs:
                running = Running(program, launch(program), time.monotonic())
                self._running[program.name] = running
                self._wait(running, patience_s)
        except BaseException:
            self.stop()
            raise

    def look(self) -> None:
        """Restart what has ended, each after its pause."""
        for running in self._running.values():
            status = running.process.poll()
            if status is None:
                continue
            now = time.monotonic()
            if not running.due:
                end_family(running.process)  # what it left behind
                self._on_end(running.program.name, status)
                first, longest = _PAUSES_S
                steady = now - running.since > _STEADY_S
                running.due = now + (first if steady else running.pause)
                running.pause = first if steady else min(2 * running.pause, longest)
                logger.warning(
                    "%s ended with %d; starting it again in %.1f s",
                    running.program.name,
                    status,
                    running.due - now,
                )
            elif now >= running.due:
                running.process, running.since, running.due = launch(running.program), now, 0.0
                running.restarts += 1

    def run(self, stop: threading.Event, *, every_s: float = 0.2) -> None:
        """Look until ``stop`` is set, then stop all."""
        try:
            while not stop.wait(every_s):
                self.look()
        finally:
            self.stop()

    def states(self) -> dict[str, dict[str, object]]:
        """Return by name: process id (None while it is down), restarts, seconds alive."""
        now = time.monotonic()
        return {
            name: {
                "pid": running.process.pid if running.process.poll() is None else None,
                "restarts": running.restarts,
                "alive_s": round(now - running.since, 1),
            }
            for name, running in self._running.items()
        }

    def stop(self) -> None:
        """Stop all, the last first."""
        for running in reversed(list(self._running.values())):
            end_family(running.process)
        self._running.clear()

    def _wait(self, running: Running, patience_s: float) -> None:
        ready, name = running.program.ready, running.program.name
        until = time.monotonic() + patience_s
        while ready is not None and not ready():
            status = running.process.poll()
            if status is not None or time.monotonic() > until:
                what = f"ended with {status}" if status is not None else f"was not ready in {patience_s:g} s"
                raise TimeoutError(f"{name} {what}; its log is {running.program.log}")
            time.sleep(0.1)


def launch(program: Program) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; its lines go to its log."""
    process = subprocess.Popen(
        program.command,
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_keeper if sys.platform == "linux" else None,
    )
    assert process.stdout is not None
    threading.Thread(target=_write_lines, args=(process.stdout, program), daemon=True).start()
    return process


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment of Flower's programs: nothing is told to anybody, nothing is installed.

    Args:
        home: Flower's own folder.
    """
    import willis

    rooms = [str(Path(room).parent) for room in willis.__path__]
    return os.environ | {
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([*rooms, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
    }


def script(name: str) -> str:
    """Return the path of a command that was installed with Willis."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def end_family(process: subprocess.Popen[bytes], *, patience_s: float = _STOP_S) -> None:
    """End a program that :func:`launch` started, and all that it started, whatever session they are in."""
    groups = _groups_under(process.pid)
    for ask in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, ask)
        until = time.monotonic() + patience_s
        while process.poll() is None or groups & {group for _, _, group in _processes()}:
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        else:
            return


@contextmanager
def until_asked_to_stop() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """End this process of ``multiprocessing`` at once when its parent is killed (Linux); its first line."""
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():  # it was killed before this line
        os._exit(1)


def _end_with_keeper() -> None:
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _write_lines(lines: IO[bytes], program: Program) -> None:
    log = program.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with lines:
        for line in lines:
            try:
                if log.exists() and log.stat().st_size > _MOST_LOG_BYTES:
                    log.replace(log.with_name(f"{log.name}.1"))
                with log.open("a", encoding="utf-8") as sink:
                    sink.write(_as_json(program, line.decode(errors="replace").rstrip()) + "\n")
            except OSError as fault:  # the program must not stall on a full disk
                logger.warning("a line of %s is lost: cannot write %s: %s", program.name, log, fault.strerror)


def _as_json(program: Program, text: str) -> str:
    told: Mapping[str, object] = {"text": text}
    if program.retold is not None:
        told = program.retold(text)
    else:
        with suppress(ValueError):
            if isinstance(json.loads(text), dict):
                return text
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "from": program.name, **told})


def _groups_under(root: int) -> set[int]:
    """Return the process groups of a process and its descendants."""
    table = _processes()
    family: set[int] = set()
    new = {root}
    while new:
        family |= new
        new = {pid for pid, parent, _ in table if parent in family} - family
    return {root} | {group for pid, _, group in table if pid in family}


def _processes() -> list[tuple[int, int, int]]:
    """Return process, parent and group of all that run, as Linux tells them; nothing elsewhere."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, parent, group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if state != "Z":
                found.append((int(path.parent.name), int(parent), int(group)))
    return found
