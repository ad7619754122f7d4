"""What a hub keeps running: Flower's SuperLink on the loopback, its SuperExec, and nginx in front."""

import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from willis.server.hub.folder import HubFolder, write_derived
from willis.shared.errors import Unreachable
from willis.shared.lock import held_alone, is_held
from willis.shared.processes import Keeper, Program, flower_environment, script, until_asked_to_stop
from willis.shared.whole_file import write_whole

_LOOK_S = 0.2
_TELL_S = 5.0
_NGINX_PATH = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"))


def up(hub: HubFolder) -> None:
    """Keep a hub's programs running until SIGTERM or SIGINT; ``up.json`` tells how they are.

    Order: SuperLink, once it answers SuperExec, then nginx; one that ends is started again. SuperLink keeps
    registrations and messages in ``state.db``, so that it goes on where it was.

    Raises:
        StateError: Another `up` holds the folder.
        Unreachable: nginx is not installed, or a program did not start; its log is named.
    """
    nginx = find_nginx()
    refusal = f"{hub.path} is up already; one `willis hub up` holds a folder"
    with held_alone(hub.path / "up.lock", refusal), until_asked_to_stop() as stop:
        write_derived(hub)
        ended: list[dict[str, object]] = []
        keeper = Keeper(
            programs_of(hub, nginx),
            on_end=lambda name, status: ended.append({"program": name, "status": status, "at": _now()}),
        )
        try:
            keeper.start()
            told = 0.0
            while not stop.wait(_LOOK_S):
                keeper.look()
                if time.monotonic() - told > _TELL_S:
                    _tell(hub, keeper.states(), ended[-20:])
                    told = time.monotonic()
        except TimeoutError as fault:
            raise Unreachable(str(fault)) from fault
        finally:
            keeper.stop()
            (hub.path / "up.json").unlink(missing_ok=True)


def answers(hub: HubFolder) -> bool:
    """Return whether SuperLink answers on the loopback."""
    return status_of("127.0.0.1", hub.settings.inner_port, "/health", ca=hub.authority[1]) == 200


def wait_until_up(hub: HubFolder, *, patience_s: float) -> None:
    """Wait until SuperLink answers, for an `up` that was begun a moment ago.

    Args:
        hub: Whose SuperLink it is.
        patience_s: Seconds, 0 or more.

    Raises:
        Unreachable: It did not answer in time.
    """
    until = time.monotonic() + patience_s
    while not answers(hub):
        if time.monotonic() >= until:
            raise Unreachable(
                f"the hub did not answer for {patience_s:g} s; is it up? `willis hub up {hub.path}` keeps it "
                f"up, and its logs are in {hub.logs}"
            )
        time.sleep(_LOOK_S)


def programs_of(hub: HubFolder, nginx: str) -> tuple[Program, ...]:
    """Return a hub's programs, in the order of their start."""
    inner, port = hub.settings.inner_port, hub.settings.port
    ca, (server_key, server) = hub.authority[1], hub.server
    environment = hub_environment(hub)
    secret = ("--superexec-auth-secret-file", str(hub.secret))
    superlink = (
        *(script("flower-superlink"), "--host", "127.0.0.1", "--port", str(inner)),
        *("--ssl-ca-certfile", str(ca), "--ssl-certfile", str(server), "--ssl-keyfile", str(server_key)),
        *("--enable-supernode-auth", "--database", str(hub.path / "state.db"), "--isolation", "process"),
        *(*secret, "--disable-runtime-dependency-installation"),
    )
    superexec = (
        *(script("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{inner}"),
        *("--root-certificates", str(ca), *secret),
    )
    front = (nginx, "-p", str(hub.path), "-e", "stderr", "-c", str(hub.path / "nginx.conf"))
    return (
        Program(
            "superlink",
            superlink,
            environment,
            hub.logs / "superlink.jsonl",
            ready=lambda: answers(hub),
        ),
        Program("superexec", superexec, environment, hub.logs / "superexec.jsonl"),
        Program(
            "nginx",
            front,
            environment,
            hub.logs / "nginx.jsonl",
            ready=lambda: status_of(hub.settings.own_door, port, "/", ca=ca) == 404,
        ),
    )


def hub_environment(hub: HubFolder) -> dict[str, str]:
    """Return the environment of a hub's programs: a hub calls nobody, so it needs no proxy."""
    here = "127.0.0.1,localhost"
    return flower_environment(hub.path / "flwr") | {"NO_PROXY": here, "no_proxy": here}


def status_of(address: str, port: int, path: str, *, ca: Path) -> int | None:
    """Return the HTTP status of a page; None where no server answers that has this hub's certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    question = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with (
            socket.create_connection((address, port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as door,
        ):
            door.sendall(question.encode())
            return int(door.recv(64).split()[1])
    except (OSError, ValueError, IndexError):
        return None


def find_nginx() -> str:
    """Return where nginx is.

    Raises:
        Unreachable: It is not installed.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path=_NGINX_PATH)
    if found is None:
        raise Unreachable(
            "the hub needs nginx, which is not installed: apt-get install nginx-light (or dnf, brew)"
        )
    return found


def how_it_is(hub: HubFolder) -> dict[str, object] | None:
    """Return what `up` told last, None where none is running."""
    if not is_held(hub.path / "up.lock"):
        return None
    try:
        return json.loads((hub.path / "up.json").read_bytes())
    except FileNotFoundError:  # it is starting
        return None


def _tell(hub: HubFolder, states: Mapping[str, object], ended: list[dict[str, object]]) -> None:
    told = {"pid": os.getpid(), "at": _now(), "programs": states, "ended": ended}
    write_whole(hub.path / "up.json", json.dumps(told, indent=2).encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
