"""The runs of a hub, each in a folder of its own: which study, which of Flower's runs, where it stands."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from willis.server.checkpoint import RoundRecord
from willis.server.hub.control import is_at_work
from willis.server.hub.folder import HubFolder
from willis.server.hub.sites import RegisteredSite
from willis.server.ledger import SpendingBook
from willis.shared.errors import StateError
from willis.shared.lock import is_held
from willis.shared.settings import parse
from willis.shared.study import Study, read_study
from willis.shared.whole_file import make_folder, write_whole


@dataclass(frozen=True)
class HubRun:
    """One run.

    Attributes:
        path: ``runs/STUDY-N`` of the hub.
        study: As run.
    """

    path: Path
    study: Study

    @property
    def name(self) -> str:
        """What the hub calls it."""
        return self.path.name

    @property
    def release(self) -> Path:
        """Where its release is, once there is one."""
        return self.path / "release"

    @property
    def is_released(self) -> bool:
        """Whether there is one."""
        return self.release.is_dir()

    def flower_runs(self) -> list[str]:
        """Return Flower's numbers of it, the newest last: one for its start, one for every resume.

        Raises:
            StateError: ``flower.jsonl`` is damaged.
        """
        path = self.path / "flower.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        try:
            return [str(json.loads(line)["run"]) for line in lines]
        except (ValueError, KeyError, TypeError) as fault:
            raise StateError(f"{path} is damaged: remove its last line") from fault

    def add_flower_run(self, number: str) -> None:
        """Note that Flower runs it under this number from now on."""
        path = self.path / "flower.jsonl"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        line = json.dumps({"run": number, "at": datetime.now(UTC).isoformat(timespec="seconds")})
        write_whole(path, f"{before}{line}\n".encode())

    def failure(self) -> dict[str, str] | None:
        """Return code and message of what ended it; None where nothing did."""
        path = self.path / "server" / "failure.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def rounds(self) -> list[RoundRecord]:
        """Return the records of the rounds that ended; a line that is still being written is left aside."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [
            parse(json.loads(line), RoundRecord, where=str(path), error=StateError)
            for line in lines
            if line.endswith("\n")
        ]

    def state(self, flower: Mapping[str, str] | None) -> str:
        """Return where it stands in one word.

        Args:
            flower: Status of Flower's runs by number; None where the hub is not up.

        Returns:
            ``released``, ``failed``, ``stopped``, ``pending``, ``starting`` or ``running``; ``down`` where it
            has not ended and the hub is not up; ``lost`` where SuperLink no longer knows it.
        """
        if self.is_released:
            return "released"
        if self.failure() is not None:
            return "failed"
        if flower is None:
            return "down"
        status = next((flower[number] for number in self.flower_runs()[-1:] if number in flower), "lost")
        if is_at_work(status):
            return status.partition(":")[0]
        return "stopped" if status == "finished:stopped" else "lost" if status == "lost" else "failed"

    def has_coordinator(self) -> bool:
        """Return whether a process coordinates it now; Flower takes a minute to see that one was killed."""
        lock = self.path / "server" / "lock"
        return lock.exists() and is_held(lock)

    def facts(self, flower: Mapping[str, str] | None) -> dict[str, object]:
        """Return what ``willis hub status --json`` tells of it."""
        book = self.path / "server" / "spending.jsonl"
        spent = SpendingBook(book).latest() if book.exists() else {}
        return {
            "name": self.name,
            "study": self.study.digest(),
            "round": max((record.round for record in self.rounds() if record.merged), default=0),
            "rounds": self.study.training.rounds,
            "state": self.state(flower),
            "spent": {site: figure.epsilon for site, figure in sorted(spent.items())},
            "failure": self.failure(),
        }


def runs_of(hub: HubFolder) -> list[HubRun]:
    """Return all runs, the oldest first."""
    folders = [path for path in hub.runs.iterdir() if (path / "study.toml").exists()]
    return [HubRun(path, read_study(path / "study.toml")) for path in sorted(folders, key=_age)]


def find_run(hub: HubFolder, name: str) -> HubRun:
    """Return a run by its name.

    Raises:
        StateError: There is none; the names there are in the message.
    """
    known = {run.name: run for run in runs_of(hub)}
    if name not in known:
        raise StateError(f"{hub.path} has no run {name}; it has {', '.join(known) or 'none'}")
    return known[name]


def new_run(hub: HubFolder, study: Study, text: bytes, *, sites: Mapping[str, RegisteredSite]) -> HubRun:
    """Make a new run's folder.

    Args:
        hub: Whose it is.
        study: What it runs.
        text: The study's TOML, as it was written.
        sites: The registered ones; under secure aggregation their public keys become the run's.
    """
    taken = [int(path.name.rpartition("-")[2]) for path in hub.runs.glob(f"{study.name}-*") if _number(path)]
    folder = hub.runs / f"{study.name}-{max(taken, default=0) + 1}"
    make_folder(folder / "server", mode=0o700)
    if study.federation.secure is not None:
        peers = {site.name: sites[site.name].public_key for site in study.federation.sites}
        write_whole(folder / "server" / "peers.json", json.dumps(peers, indent=2).encode())
    write_whole(folder / "study.toml", text)  # last: now it is one
    return HubRun(folder, study)


def _number(path: Path) -> bool:
    return re.fullmatch(r"\d+", path.name.rpartition("-")[2]) is not None


def _age(path: Path) -> tuple[float, str]:
    return (path / "study.toml").stat().st_mtime, path.name
