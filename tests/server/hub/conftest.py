"""A hub on free ports of the loopback: its folder, and the same one up."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.programs import find_nginx, how_it_is, hub_environment
from willis.server.hub.settings import HubSettings
from willis.shared.errors import Unreachable
from willis.shared.processes import end_family, free_port, script

_PATIENCE_S = 180.0


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    """Make a hub that listens on the loopback alone."""
    ports = {"port": free_port(), "inner_port": free_port()}
    settings = HubSettings.model_validate({"host": "localhost", "listen": "127.0.0.1", **ports})
    return make_hub(tmp_path / "hub", settings)


@pytest.fixture
def bring_up(hub: HubFolder) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return what brings the hub up with the real command; it ends with the test."""
    try:
        find_nginx()
    except Unreachable as fault:
        pytest.skip(str(fault))
    started: list[subprocess.Popen[bytes]] = []

    def bring() -> subprocess.Popen[bytes]:
        with (hub.path.parent / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, script("willis"), "hub", "up", str(hub.path)],
                env=hub_environment(hub),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        until = time.monotonic() + _PATIENCE_S
        while (told := how_it_is(hub)) is None or told["pid"] != process.pid:
            assert process.poll() is None, (hub.path.parent / "up.log").read_text()
            assert time.monotonic() < until, f"not up after {_PATIENCE_S:g} s"
            time.sleep(0.2)
        return process

    yield bring
    for process in started:
        end_family(process)
