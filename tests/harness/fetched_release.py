"""A release that draws vessels, as a hub signs and serves it and as its collector fetched it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.made_release import spent_of, write
from harness.serving_trial import settings_of

from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.programs import hub_environment
from willis.server.hub.serving_check import check_serving
from willis.server.signing import sign_as_hub
from willis.shared.errors import Unreachable
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.processes import end_family, script
from willis.shared.release import GeneratorRelease
from willis.shared.study import read_study

STUDIES = Path(__file__).parents[2] / "simulations" / "studies"
RUN = "gan-1"


@dataclass(frozen=True)
class Fetched:
    """A release that came over the line, and what was drawn at the hub while it served.

    Attributes:
        folder: The release.
        key: The public half of the key that signed it, from the collector's kit.
        pairs: ``pairs.npz`` of pairs 0 to 5 of seed 1.
        release: What the hub holds.
    """

    folder: Path
    key: Path
    pairs: Path
    release: GeneratorRelease


def vessels_release(folder: Path) -> GeneratorRelease:
    """Write a release of the study gan: its shipped warm start, which no patient has seen."""
    study = read_study(STUDIES / "gan.toml")
    sites = [site.name for site in study.federation.sites]
    return write(
        folder,
        study=study,
        arrays=arrays_of(initial_generator(study)),
        spent={name: spent_of(2.5) for name in sites},
        ledger_heads=dict.fromkeys(sites, "ab12"),
    )


@contextmanager
def served(hub: HubFolder) -> Iterator[None]:
    """Keep ``willis hub serve`` running, once it answers."""
    process = subprocess.Popen(
        [sys.executable, script("willis"), "hub", "serve", str(hub.path)],
        env=hub_environment(hub) | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    until = time.monotonic() + 120
    try:
        while True:
            try:
                check_serving(hub)
            except Unreachable:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.3)
            else:
                break
        yield
    finally:
        end_family(process)


def called(*command: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command that must end well; return what it said."""
    told = os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment or {})
    told.pop("PYTHONDONTWRITEBYTECODE", None)  # a test machine's own setting would hide what a command leaves
    ended = subprocess.run(command, cwd=cwd, env=told, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout


def fetch_whole_way(place: Path) -> Fetched:
    """Sign, serve and fetch a release, by the commands that docs/collect.md tells."""
    hub = make_hub(place / "hub", settings_of())
    release = vessels_release(hub.runs / RUN / "release")
    assert sign_as_hub(hub.runs / RUN)
    willis, kit = script("willis"), str(place / "kits" / "lab-a")
    called(willis, "hub", "invite", str(hub.path), "lab-a", "--out", str(place / "kits"), "--days", "3")
    with served(hub):
        called(willis, "collect", "fetch", kit, RUN, "--out", str(place / "release"))
        drawing = ["--n", "6", "--seed", "1", "--out", str(place / "pairs")]
        called(willis, "collect", "draw", kit, RUN, *drawing)
    return Fetched(place / "release", Path(kit) / "release.pub", place / "pairs" / "pairs.npz", release)
