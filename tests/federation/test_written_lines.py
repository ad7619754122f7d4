"""What people copy: the README's lines as written, what units and compose files start as processes."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from harness.written_lines import PATIENCE_S, ran

from willis.server.hub.folder import HubFolder, open_hub
from willis.server.hub.programs import answers, how_it_is
from willis.shared.processes import end_family, free_port, script
from willis.shared.release import read_release

pytestmark = [pytest.mark.federation, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def willis(*words: str | Path, seconds: float = 400) -> str:
    """Run a command as a user would; return what it printed."""
    ended = subprocess.run(
        [script("willis"), *map(str, words)], capture_output=True, text=True, timeout=seconds
    )
    assert ended.returncode == 0, f"willis {words}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def test_ten_lines_of_the_readme_end_with_a_release(tmp_path):
    section = (ROOT / "README.md").read_text().partition("## You run a federation")[2]
    (block,) = re.findall(r"```\n(.*?)```", section, re.S)[:1]
    lines = block.splitlines()
    assert len(lines) <= 10
    assert all(line.startswith("willis ") for line in lines)
    (port,) = re.findall(r"--port (\d+)", block)
    with socket.socket() as door:
        if door.connect_ex(("127.0.0.1", int(port))) == 0:
            pytest.skip(f"something listens on port {port}, which the README's lines use")
    (tmp_path / "simulations").symlink_to(ROOT / "simulations")
    with ran(tmp_path, lines):
        assert "two-hospitals-1" in willis("hub", "releases", tmp_path / "hub")
        spent = read_release(tmp_path / "hub" / "runs" / "two-hospitals-1" / "release").spent
        assert spent.sentence() in willis("hub", "releases", tmp_path / "hub")


@pytest.fixture
def places(tmp_path, tiny_study_file, phantom_cohort) -> tuple[HubFolder, dict[str, Path], Path]:
    """A hub, the folders of two sites made from its kits, and the study."""
    hub, kits = tmp_path / "hub", tmp_path / "kits"
    doors = ("--port", str(free_port()), "--inner-port", str(free_port()))
    willis("hub", "init", hub, "--host", "localhost", "--listen", "127.0.0.1", *doors)
    willis("hub", "kit", hub, "site-a", "site-b", "--out", kits)
    study, cohort = tiny_study_file(training={"rounds": 1}), phantom_cohort()
    sites = {name: kits / name for name in ("site-a", "site-b")}
    for place in sites.values():
        law = place / "site.toml"  # a hospital fills in its limits
        text = law.read_text().replace("delta = 1e-4", "delta = 1e-3")
        law.write_text(text.replace("minimum_subjects = 20", "minimum_subjects = 4"))
        willis("site", "init", place, "--cohort", cohort, "--study", study)
    return open_hub(hub), sites, study


@pytest.fixture
def started(tmp_path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that end with the test, whatever happens."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in reversed(processes):
        end_family(process)


def launch(words: list[str], environment: dict[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    """Start a program with nothing but what its file says, and where programs are."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with (folder / "started.log").open("ab") as sink:
        return subprocess.Popen(
            words, env=plain | environment, stdout=sink, stderr=sink, start_new_session=True
        )


def unit_of(file: Path) -> tuple[list[str], dict[str, str]]:
    """Return the words of a unit's ExecStart, and its environment."""
    text = file.read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.M)
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
    variables = " ".join(re.findall(r"^Environment=(.*)$", text, re.M))
    return words, dict(pair.split("=", 1) for pair in shlex.split(variables))


def compose_of(file: Path) -> tuple[list[str], dict[str, str]]:
    """Return the words that a compose file's hub or site is started with, and its environment."""
    services = yaml.safe_load(file.read_text())["services"]
    (service,) = (service for name, service in services.items() if name in ("hub", "site"))
    variables = [pair for pair in service.get("environment", []) if "=" in pair]
    return [script("willis"), *service["command"]], dict(pair.split("=", 1) for pair in variables)


def moved(file: Path, place: Path) -> Path:
    """Name a site's own folder in its unit or compose file, as the guide says, and its Willis."""
    text = file.read_text().replace(f"/srv/willis/{place.name}", str(place))
    file.write_text(text.replace("/opt/willis/bin", sysconfig.get_path("scripts")))
    return file


def wait_until(true, what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.2)


def test_what_units_and_compose_files_start_is_a_federation(places, started, tmp_path):
    hub, sites, study = places
    words, environment = unit_of(hub.path / "units" / "willis-hub.service")
    started.append(launch(words, environment, tmp_path))
    willis("hub", "register", hub.path, *(place / f"{name}.pub" for name, place in sites.items()))
    for name, read, file in (
        ("site-a", unit_of, "willis-site.service"),
        ("site-b", compose_of, "compose.yaml"),
    ):
        words, environment = read(moved(sites[name] / file, sites[name]))
        assert str(sites[name]) in words
        started.append(launch(words, environment | {"OMP_NUM_THREADS": "1"}, tmp_path))
    willis("hub", "start", hub.path, study, "--wait")
    assert "tiny-1" in willis("hub", "releases", hub.path)
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert how_it_is(hub) is None

    words, environment = compose_of(hub.path / "compose.yaml")
    started.append(launch(words, environment, tmp_path))
    wait_until(lambda: how_it_is(hub) is not None and answers(hub), "the hub of the compose file")
    started[-1].send_signal(signal.SIGTERM)
    assert started[-1].wait(PATIENCE_S) == 0
