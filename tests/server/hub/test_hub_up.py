"""A real hub, as processes: what its one door lets through, and what it heals."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from willis.server.hub.control import list_nodes
from willis.server.hub.folder import HubFolder
from willis.server.hub.programs import how_it_is, hub_environment, status_of
from willis.shared.errors import Unreachable
from willis.shared.processes import script
from willis.shared.secure_sum.identity import NodeKey

pytestmark = [pytest.mark.federation, pytest.mark.timeout(900)]

Bring = Callable[[], "subprocess.Popen[bytes]"]


def willis(hub: HubFolder, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [script("willis"), "hub", words[0], str(hub.path), *words[1:]]
    return subprocess.run(command, env=hub_environment(hub), capture_output=True, text=True, timeout=400)


def told(hub: HubFolder, *words: str) -> dict[str, Any]:
    ended = willis(hub, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def new_key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.pub"
    path.write_text(NodeKey.fresh_p384().identity.line() + "\n")
    return path


def pids(hub: HubFolder) -> dict[str, int | None]:
    state = how_it_is(hub)
    assert state is not None
    return {name: program["pid"] for name, program in state["programs"].items()}  # pyright: ignore


def until(condition: Callable[[], bool], *, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.5)


def front(hub: HubFolder, path: str) -> int | None:
    return status_of("127.0.0.1", hub.settings.port, path, ca=hub.authority[1])


def test_a_hubs_life(hub: HubFolder, bring_up: Bring, tmp_path: Path) -> None:
    """Up, a site registered, the door tried, every program killed, down: with nothing left running."""
    keeper = bring_up()
    assert willis(hub, "up").returncode == 2  # one holds the folder
    key = new_key(tmp_path, "site-a")
    node = told(hub, "register", str(key))["sites"][0]["node"]
    assert told(hub, "register", f"site-a={key}")["sites"][0]["node"] == node
    assert told(hub, "status")["sites"] == [{"name": "site-a", "online": False, "registered": True}]

    the_door_is_closed(hub)
    for name in ("nginx", "superexec", "superlink"):
        killed_it_comes_back(hub, name)
    assert list_nodes(hub) == {node: "registered"}  # SuperLink kept who may come in

    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(90) == 0
    assert how_it_is(hub) is None
    assert [port for port in (hub.settings.port, hub.settings.inner_port) if is_open(port)] == []
    assert processes_of(hub) == []
    with pytest.raises(Unreachable):
        list_nodes(hub)
    assert told(hub, "status")["sites"] == [{"name": "site-a", "online": False, "registered": True}]


def the_door_is_closed(hub: HubFolder) -> None:
    refused = {
        "/": 404,
        "/health": 404,
        "/docs": 404,
        "/openapi.json": 404,
        "/v1/control/list-runs": 404,
        "/v1/control/start-run": 404,
        "/v1/control/register-node": 404,
        "/v1/runtime/pull-task": 404,
        "/v1/fleet/../control/list-runs": 404,
        "/v1/fleet/%2e%2e/control/list-runs": 404,
        "/v1/fleet/x/../../runtime/pull-task": 404,
        "/v1/fleet/register-node": 403,
        "/v1/fleet/unregister-node": 403,
        "/v1/fleet//register-node": 403,
        "/v1/fleet/%72egister-node": 403,
        "/v1/fleet/x/../unregister-node": 403,
    }
    assert {path: front(hub, path) for path in refused} == refused
    inner = status_of("127.0.0.1", hub.settings.inner_port, "/v1/fleet/activate-node", ca=hub.authority[1])
    assert front(hub, "/v1/fleet/activate-node") == inner == 405  # the one path that is open: it takes POST
    for path in ("/v1/fleet/..%252fcontrol/list-runs", "/v1/fleet/%252e%252e/control/list-runs"):
        assert front(hub, path) == 404  # handed on, and no such path there
    with socket.create_connection(("127.0.0.1", hub.settings.port), timeout=5) as plain:
        plain.sendall(b"GET /v1/fleet/activate-node HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 400 " in plain.recv(64)  # plain HTTP to the TLS port


def killed_it_comes_back(hub: HubFolder, name: str) -> None:
    first = pids(hub)[name]
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: pids(hub)[name] not in (first, None), what=f"{name} back")
    until(
        lambda: front(hub, "/v1/fleet/activate-node") == 405, what=f"the hub answers after {name} was killed"
    )


def is_open(port: int) -> bool:
    with socket.socket() as door:
        door.settimeout(2)
        return door.connect_ex(("127.0.0.1", port)) == 0


def processes_of(hub: HubFolder) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(hub.path) in words:
            found.append(words)
    return found


def test_a_site_that_never_comes_is_a_missed_quorum(
    hub: HubFolder, bring_up: Bring, tmp_path: Path, tiny_study_file: Callable[..., Path]
) -> None:
    sites = [{"name": "site-a", "subjects": 6}]
    study = tiny_study_file(federation={"quorum": 1, "deadline_s": 5, "sites": sites})
    bring_up()
    assert willis(hub, "start", str(study)).returncode == 2  # not registered
    told(hub, "register", str(new_key(tmp_path, "site-a")))
    ended = willis(hub, "start", str(study), "--wait")
    assert ended.returncode == 1, ended.stderr
    assert "missing: site-a (absent)" in ended.stderr
    run = told(hub, "status")["runs"][0]
    assert (run["name"], run["state"], run["round"], run["failure"]["code"]) == (
        "tiny-1",
        "failed",
        0,
        "quorum",
    )
    assert told(hub, "releases") == {"releases": []}
    resumed = willis(hub, "start", str(study), "--wait", "--resume")
    assert resumed.returncode == 1, resumed.stderr
    assert [one["name"] for one in told(hub, "status")["runs"]] == ["tiny-1"]


def test_a_run_can_be_stopped(
    hub: HubFolder, bring_up: Bring, tmp_path: Path, tiny_study_file: Callable[..., Path]
) -> None:
    sites = [{"name": "site-a", "subjects": 6}]
    study = tiny_study_file(federation={"quorum": 1, "deadline_s": 600, "sites": sites})
    bring_up()
    seen = new_key(tmp_path, "site-a")
    node = told(hub, "register", str(seen))["sites"][0]["node"]
    assert told(hub, "start", str(study))["run"] == "tiny-1"
    assert willis(hub, "start", str(study)).returncode == 2  # it runs now
    busy = willis(hub, "unregister", "site-a")
    assert (busy.returncode, "site-a is in tiny-1, at work now" in busy.stderr) == (2, True)
    assert list_nodes(hub) == {node: "registered"}
    assert told(hub, "stop") == {"stopped": "tiny-1"}
    assert told(hub, "status")["runs"][0]["state"] == "stopped"
    assert willis(hub, "stop", "tiny-1").returncode == 2  # it is not at work
    a_seen_key_is_shut_out_and_another_takes_its_place(hub, seen, node=node)


def a_seen_key_is_shut_out_and_another_takes_its_place(hub: HubFolder, seen: Path, *, node: str) -> None:
    until(lambda: willis(hub, "unregister", "site-a").returncode == 0, what="the run's coordinator has ended")
    assert list_nodes(hub) == {}
    assert told(hub, "status")["sites"] == []
    for words in ((str(seen),), (f"site-b={seen}",)):  # SuperLink takes it under no name again
        assert willis(hub, "register", *words).returncode == 2
    other = new_key(seen.parent, "fresh")
    registered = told(hub, "register", f"site-a={other}")["sites"][0]["node"]
    assert list_nodes(hub) == {registered: "registered"}
    assert registered != node
    assert [run["name"] for run in told(hub, "status")["runs"]] == ["tiny-1"]


def test_the_hub_is_unreachable_when_it_is_down(hub: HubFolder, tmp_path: Path) -> None:
    from willis.server.hub.command import hub as command

    key = new_key(tmp_path, "site-a")
    ended = CliRunner().invoke(command, ["register", str(hub.path), str(key), "--patience", "1"])
    assert isinstance(ended.exception, Unreachable)
    assert "did not answer for 1 s" in str(ended.exception)
    assert list(hub.sites.glob("*.json")) == []
