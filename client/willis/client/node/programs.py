"""What ``willis site run`` keeps up: the guarded SuperNode, and the executor of its tasks."""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from willis.client.node.enrolment import SETTINGS_FILE
from willis.client.node.keys import KEY_FILE, SECRET_FILE, check_private
from willis.client.node.retold import retold
from willis.client.site import SiteSettings, read_site
from willis.shared.errors import StateError
from willis.shared.lock import held_alone, is_held
from willis.shared.processes import Keeper, Program, flower_environment, free_port, script
from willis.shared.whole_file import make_folder, write_whole

_LOOPBACK = "127.0.0.1"
_PATIENCE_S = 180.0  # for a slow machine to import Flower
_EVERY_S = 0.2
STATES_FILE = "node.json"
LOCK_FILE = "node.lock"


def keep_running(folder: Path, stop: threading.Event, *, on_end: Callable[[str, int], None]) -> None:
    """Keep a site's programs running until told to stop; what dies is started again.

    Args:
        folder: The site's.
        stop: Set to end.
        on_end: Called with a program's name and exit status whenever one ends unasked.

    Raises:
        StateError: The folder is no site's, a secret is open to others, or another process runs the site.
        TimeoutError: A program did not start.
    """
    folder = folder.resolve()
    settings = read_site(folder / SETTINGS_FILE)
    make_folder(settings.state, mode=0o700)
    refusal = f"another process runs the site in {settings.state}; stop it first"
    with held_alone(settings.state / LOCK_FILE, refusal):
        keeper = Keeper(site_programs(folder, settings, port=free_port()), on_end=on_end)
        try:
            keeper.start(patience_s=_PATIENCE_S)
            told = None
            while not stop.wait(_EVERY_S):
                keeper.look()
                now = {name: (state["pid"], state["restarts"]) for name, state in keeper.states().items()}
                if now != told:
                    _tell(settings, keeper)
                    told = now
        finally:
            keeper.stop()
            (settings.state / STATES_FILE).unlink(missing_ok=True)


def site_programs(folder: Path, settings: SiteSettings, *, port: int) -> list[Program]:
    """Return a site's programs in the order of their start.

    Args:
        folder: The site's, absolute.
        settings: The site's.
        port: Free, on loopback: the only one that the site listens on, for its own executor.

    Raises:
        StateError: The site has no hub, or a secret is missing or open to others.
    """
    if settings.hub is None:
        raise StateError(f"{folder / SETTINGS_FILE} has no [hub]: set address and ca, as the hub's kit does")
    if set(str(folder)) & set('"\\'):
        raise StateError(f"the site's folder {folder} has a quote or a backslash in its path; move it")
    key, secret, site = folder / KEY_FILE, folder / SECRET_FILE, folder / SETTINGS_FILE
    check_private(key)
    check_private(secret)
    environment = flower_environment(folder / "flwr") | _without_proxy()
    logs = folder / "logs"
    make_folder(logs, mode=0o700)
    make_folder(folder / "flwr", mode=0o700)
    execution = ("--superexec-auth-secret-file", str(secret))
    node = (
        *(sys.executable, "-m", "willis.client.node.guard", "--site", str(site), "--"),
        *("--superlink", settings.hub.address, "--root-certificates", str(settings.hub.ca)),
        *("--auth-supernode-private-key", str(key), "--isolation", "process", *execution),
        *("--host", _LOOPBACK, "--port", str(port), "--node-config", f'site-settings="{site}"'),
    )
    executor = (
        *(script("flower-superexec"), "--runtime-api-address", f"{_LOOPBACK}:{port}", "--insecure"),
        *execution,
    )
    return [
        Program("supernode", node, environment, logs / "supernode.jsonl", ready=lambda: _listens(port)),
        Program("superexec", executor, environment, logs / "superexec.jsonl", retold=retold),
    ]


def states(settings: SiteSettings) -> dict[str, dict[str, object]] | None:
    """Return a running site's programs by name, as its keeper last told; None where it does not run."""
    if not is_held(settings.state / LOCK_FILE):
        return None
    path = settings.state / STATES_FILE
    return json.loads(path.read_bytes()) if path.exists() else {}


def _tell(settings: SiteSettings, keeper: Keeper) -> None:
    write_whole(settings.state / STATES_FILE, json.dumps(keeper.states()).encode(), private=True)


def _without_proxy() -> dict[str, str]:
    """Return what keeps the executor's own calls on loopback off a proxy."""
    there = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    value = ",".join(filter(None, (there, _LOOPBACK, "localhost")))
    return {"NO_PROXY": value, "no_proxy": value}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((_LOOPBACK, port)) == 0
