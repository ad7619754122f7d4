"""A hub and its sites as processes on this machine, which tests disturb: killed, asked, looked into."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from willis.client.cohort import read_cohort
from willis.client.ledger import Ledger, LedgerRow
from willis.client.node.keys import make_keys
from willis.client.node.programs import states
from willis.client.site import read_site
from willis.client.store import build_store
from willis.client.training import open_ledger
from willis.server.checkpoint import RoundRecord
from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.programs import how_it_is, wait_until_up
from willis.server.hub.runs import HubRun
from willis.server.hub.settings import HubSettings
from willis.server.hub.start import start_study, wait_for
from willis.shared.errors import Unreachable, WillisError
from willis.shared.processes import Keeper, Program, flower_environment, free_port, script
from willis.shared.study import Study, read_study

TAMPERED = Path(__file__).parent / "tampered"
PATIENCE_S = 240.0


class Federation:
    """A hub and the sites of one study; every site's cap allows many runs.

    Args:
        folder: Empty; gets ``hub/``, ``NAME/`` for every site, ``logs/``.
        study: TOML file.
        table: Cohort of all sites.
        tamper: Modules of ``tampered`` that change all programs, by spaces.
        environments: By site: what its programs' environment has more, or else.
        running: Sites that are kept up; None is all.
        host: By which sites reach the hub.
        within: By ``hub`` or site: words put before its commands, such as a network namespace's.
        doors: By site: the port by which it reaches the hub, where it is not the hub's own.
        not_agreed: Sites whose law does not name the study.
    """

    def __init__(
        self,
        folder: Path,
        study: Path,
        table: Path,
        *,
        tamper: str = "",
        environments: Mapping[str, Mapping[str, str]] | None = None,
        running: Collection[str] | None = None,
        host: str = "localhost",
        within: Mapping[str, tuple[str, ...]] | None = None,
        doors: Mapping[str, int] | None = None,
        not_agreed: Collection[str] = (),
    ) -> None:
        self.folder, self.study_path, self.study = folder, study, read_study(study)
        listen = IPv4Address("127.0.0.1" if host == "localhost" else host)
        settings = HubSettings(host=host, listen=listen, port=free_port(), inner_port=free_port())
        self.hub: HubFolder = make_hub(folder / "hub", settings)
        self.sites = {site.name: folder / site.name for site in self.study.federation.sites}
        self._within = within or {}
        for name, place in self.sites.items():
            agreed = name not in not_agreed
            door = (doors or {}).get(name, self.hub.settings.port)
            make_site(place, name, self.study, table, hub=self.hub, door=door, agreed=agreed)
        if self.study.federation.secure:
            introduce(self.sites)
        self._environment = environment = flower_environment(folder / "flwr") | {"OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = f"{TAMPERED}{os.pathsep}{environment['PYTHONPATH']}"
        environment["WILLIS_TEST_TAMPER"] = tamper
        self._keeper = Keeper(
            [
                Program(
                    "hub",
                    self._words("hub", "hub", "up", str(self.hub.path)),
                    environment,
                    folder / "logs" / "hub.jsonl",
                    ready=lambda: how_it_is(self.hub) is not None,
                ),
                *(
                    Program(
                        name,
                        self._words(name, "site", "run", str(place)),
                        environment | dict((environments or {}).get(name, {})),
                        folder / "logs" / f"{name}.jsonl",
                    )
                    for name, place in self.sites.items()
                    if running is None or name in running
                ),
            ]
        )

    @contextmanager
    def alive(self) -> Iterator["Federation"]:
        """Keep it up for as long as the block lasts."""
        try:
            self._keeper.start(patience_s=PATIENCE_S)
            self.command("register", *(str(place / f"{name}.pub") for name, place in self.sites.items()))
            yield self
        finally:
            self._keeper.stop()

    def command(self, word: str, *words: str, seconds: float = PATIENCE_S) -> str:
        """Run `willis hub WORD HUB WORDS...` where the hub is; return what it printed."""
        ended = subprocess.run(
            self._words("hub", "hub", word, str(self.hub.path), *words),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert ended.returncode == 0, f"{word} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def start(self, *, resume: bool = False) -> HubRun:
        """Submit the study, as soon as SuperLink is there to take it."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                wait_until_up(self.hub, patience_s=PATIENCE_S)
                return start_study(self.hub, self.study_path, resume=resume)
            except Unreachable:  # it was killed between two calls; an operator would say it again
                assert time.monotonic() < until, "SuperLink does not stay up"

    def finish(
        self,
        run: HubRun,
        *,
        on_round: Callable[[RoundRecord], None] = lambda record: None,
        patience_s: float = 4 * PATIENCE_S,
    ) -> HubRun:
        """Wait for the release, resuming as often as a run ends without one."""
        until = time.monotonic() + patience_s
        while True:
            try:
                wait_for(self.hub, run, on_round=on_round)
            except WillisError:
                assert time.monotonic() < until, f"no release of {run.name}: {run.failure()}"
                run = self.start(resume=True)
            else:
                return run

    def _words(self, who: str, *words: str) -> tuple[str, ...]:
        return (*self._within.get(who, ()), script("willis"), *words)

    def pid(self, what: str) -> int | None:
        """Return a program's process id: ``superlink``, ``superexec``, ``nginx``, ``serverapp``, and with
        ``@NAME`` a site's ``supernode``, ``superexec`` or ``clientapp``; None where it is not there now."""
        program, at, site = what.partition("@")
        if program == "serverapp":
            return _descendant(self.pid("superexec"), "flwr-serverapp")
        if program == "clientapp":
            return _descendant(self.pid(f"superexec@{site}"), "flwr-clientapp")
        told: Any = how_it_is(self.hub)
        known: Any = told and told["programs"]
        if at:
            known = states(read_site(self.sites[site] / "site.toml"))
        return known[program]["pid"] if known and program in known else None

    def kill(self, what: str, *, not_this: int | None = None) -> int:
        """Kill -9 a program as soon as it is there; return its process id."""
        until = time.monotonic() + PATIENCE_S
        while True:
            pid = self.pid(what)
            if pid is not None and pid != not_this:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pid = None
                else:
                    return pid
            assert time.monotonic() < until, f"{what} never came"
            time.sleep(0.05)

    def payments(self, site: str) -> list[LedgerRow]:
        """Return a site's ledger, its chain verified."""
        settings = read_site(self.sites[site] / "site.toml")
        with open_ledger(settings, self.study) as ledger:
            ledger.verify()
            return ledger.rows()

    def ledger(self, site: str) -> Ledger:
        """Open a site's ledger."""
        return open_ledger(read_site(self.sites[site] / "site.toml"), self.study)

    def texts(self) -> Iterator[tuple[Path, bytes]]:
        """Yield what lies at the hub, and what the sites log and audit: all that may be read by others."""
        own = [place / part for place in self.sites.values() for part in ("logs", "audit.jsonl", "flwr")]
        for root in (self.hub.path, self.folder / "logs", *own):
            for path in [root] if root.is_file() else sorted(root.rglob("*")):
                if path.is_file():
                    yield path, path.read_bytes()


def make_site(
    place: Path,
    name: str,
    study: Study,
    table: Path,
    *,
    hub: HubFolder,
    door: int | None = None,
    agreed: bool = True,
) -> None:
    """Make a site's folder: its law, which allows this study many times, its keys and its patches.

    Args:
        place: Created.
        name: The site's.
        study: Which it has patches for.
        table: Cohort of all sites.
        hub: Which it connects to.
        door: Port by which it reaches the hub; None is the hub's.
        agreed: Whether its law allows the study.
    """
    secure, ca = study.federation.secure, json.dumps(str(hub.authority[1]))
    place.mkdir(parents=True)
    make_keys(place, name)
    (place / "site.toml").write_text(
        f'name = "{name}"\ncohort = {json.dumps(str(table))}\nstate = "."\ncohort_key = "{name}"\n'
        f'key = "node.key"\nepsilon_cap = 1000.0\ndelta = {study.privacy.delta!r}\n'
        f"studies = {json.dumps([study.digest()] if agreed else [])}\nthreads = 1\n"
        + (f"shared_noise = true\nleast_colluders = {secure.colluders}\n" if secure else "")
        + f'[hub]\naddress = "{hub.settings.host}:{door or hub.settings.port}"\nca = {ca}\n',
        encoding="utf-8",
    )
    settings = read_site(place / "site.toml")
    build_store(read_cohort(table).at(name), study.patch, settings.store, seed=study.seed)


def introduce(sites: Mapping[str, Path]) -> None:
    """Tell every site the public keys of all, as hospitals do among themselves."""
    keys = {name: (place / f"{name}.pub").read_text(encoding="utf-8") for name, place in sites.items()}
    peers = "".join(f"{name} = {json.dumps(key)}\n" for name, key in keys.items())
    for place in sites.values():
        with (place / "site.toml").open("a", encoding="utf-8") as law:
            law.write(f"[peers]\n{peers}")


def _descendant(root: int | None, word: str) -> int | None:
    """Return a process under another whose command line has a word."""
    if root is None:
        return None
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it ended while it was read
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    for pid in sorted(parents):
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and pid != root:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                return pid
    return None
