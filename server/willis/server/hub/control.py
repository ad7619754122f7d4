"""Orders to the hub's SuperLink, over the loopback: Flower's own command, asked for JSON."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from willis.server.hub.folder import CONNECTION, HubFolder
from willis.server.hub.programs import hub_environment
from willis.shared.errors import StateError, Unreachable
from willis.shared.processes import script

_PATIENCE_S = 120.0
_AT_WORK = ("pending", "starting", "running")


def register_node(hub: HubFolder, public_key: Path, *, name: str) -> str:
    """Register a site's node under its name; return the node's number.

    Raises:
        StateError: SuperLink refused it; most often the key is registered already.
        Unreachable: SuperLink does not answer: the hub is not up.
    """
    words = ("supernode", "register", str(public_key), CONNECTION, "--name", name)
    return str(_ask(hub, words)["node-id"])


def unregister_node(hub: HubFolder, number: str) -> None:
    """Shut a node's key out; SuperLink takes it never again, under any name.

    Raises:
        StateError: SuperLink refused.
        Unreachable: The hub is not up.
    """
    _ask(hub, ("supernode", "unregister", number, CONNECTION))


def list_nodes(hub: HubFolder) -> dict[str, str]:
    """Return the status of every node (``registered``, ``online``, ``offline``) by its number.

    Raises:
        Unreachable: The hub is not up.
    """
    found = _ask(hub, ("supernode", "list", CONNECTION))["nodes"]
    return {node["node-id"]: node["status"] for node in found if node["status"] != "unregistered"}


def start_run(hub: HubFolder, config: Mapping[str, object]) -> str:
    """Submit the thin bundle; return Flower's number of the run.

    Raises:
        StateError: SuperLink refused it.
        Unreachable: The hub is not up.
    """
    settings = " ".join(
        f"{key}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for key, value in config.items()
    )
    words = ("run", str(hub.path / "bundle"), CONNECTION, "--run-config", settings)
    return str(_ask(hub, words)["run-id"])


def list_runs(hub: HubFolder) -> dict[str, str]:
    """Return the status of every run that SuperLink knows (``running``, ``finished:failed``) by its number.

    Raises:
        Unreachable: The hub is not up.
    """
    return {run["run-id"]: run["status"] for run in _ask(hub, ("list", CONNECTION))["runs"]}


def stop_run(hub: HubFolder, number: str) -> None:
    """Stop a run.

    Raises:
        StateError: SuperLink refused, most often because it has ended.
        Unreachable: The hub is not up.
    """
    _ask(hub, ("stop", number, CONNECTION))


def log_of(hub: HubFolder, number: str) -> str:
    """Return what a run's ServerApp printed, as SuperLink kept it; sentences, not JSON.

    Raises:
        Unreachable: The hub is not up, or did not answer in time.
    """
    ended = _run(hub, ("log", number, CONNECTION, "--show"))
    if ended.returncode != 0:
        raise Unreachable(f"SuperLink gave no log of run {number}: exit status {ended.returncode}")
    return ended.stdout


def is_at_work(status: str | None) -> bool:
    """Return whether a run of this status may still do something."""
    return status is not None and status.startswith(_AT_WORK)


def _ask(hub: HubFolder, words: tuple[str, ...]) -> dict[str, Any]:
    what = f"`flwr {' '.join(words[:2])}`"
    ended = _run(hub, (*words, "--format", "json"))
    told = _json_in(ended.stdout)
    if told is None or not told.get("success"):
        reason = str((told or {}).get("error-message") or ended.stderr or ended.stdout).strip()
        if _is_unreachable(reason):
            raise Unreachable(f"the hub's SuperLink does not answer; is it up? `willis hub up {hub.path}`")
        raise StateError(f"SuperLink refused {what}: {reason or f'exit status {ended.returncode}'}")
    return told


def _run(hub: HubFolder, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [script("flwr"), *words],
            env=hub_environment(hub),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired as fault:
        raise Unreachable(f"SuperLink did not answer `flwr {words[0]}` within {_PATIENCE_S:g} s") from fault


def _json_in(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text[text.index("{") :])
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _is_unreachable(reason: str) -> bool:
    signs = ("connection refused", "connecterror", "unavailable", "timed out", "failed to connect")
    return any(sign in reason.lower() for sign in signs)
