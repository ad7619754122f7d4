"""What a hub can tell of itself: sites online, runs with round, spending and failure."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from willis.server.hub.control import list_nodes, list_runs
from willis.server.hub.folder import HubFolder
from willis.server.hub.programs import how_it_is
from willis.server.hub.runs import runs_of
from willis.server.hub.sites import registered_sites
from willis.shared.errors import Unreachable


def status_now(hub: HubFolder) -> dict[str, Any]:
    """Return sites, runs and programs; of a hub that is down, what its folder tells.

    Returns:
        ``sites``: name, online, registered; ``runs``: :meth:`HubRun.facts`; ``up``: None where it is down.
    """
    nodes, flower = None, None
    up = how_it_is(hub)
    if up is not None:
        try:
            nodes, flower = list_nodes(hub), list_runs(hub)
        except Unreachable:  # SuperLink is being restarted
            up = up | {"superlink": "unreachable"}
    sites = [
        {
            "name": site.name,
            "online": (nodes or {}).get(site.node) == "online",
            "registered": nodes is None or site.node in nodes,
        }
        for site in registered_sites(hub).values()
    ]
    return {"up": up, "sites": sites, "runs": [run.facts(flower) for run in runs_of(hub)]}


def shown(told: Mapping[str, Any]) -> tuple[str, Table, Table]:
    """Return the status for a terminal: a sentence, a table of sites, a table of runs."""
    sites = Table("site", "online", "registered")
    for site in told["sites"]:
        sites.add_row(site["name"], _yes(site["online"]), _yes(site["registered"]))
    runs = Table("run", "state", "round", "epsilon spent", "failure")
    for run in told["runs"]:
        spent = ", ".join(f"{site} {epsilon:.3g}" for site, epsilon in run["spent"].items())
        failure = run["failure"]["code"] if run["failure"] else ""
        runs.add_row(run["name"], run["state"], f"{run['round']} of {run['rounds']}", spent, failure)
    return _headline(told["up"]), sites, runs


def _headline(up: Mapping[str, Any] | None) -> str:
    if up is None:
        return "The hub is down."
    restarts = {name: state["restarts"] for name, state in up["programs"].items()}
    down = [name for name, state in up["programs"].items() if state["pid"] is None]
    told = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
    return (
        f"The hub is up since process {up['pid']}"
        + (f"; down now: {', '.join(down)}" if down else "")
        + (f"; restarts: {told}" if told else "")
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
