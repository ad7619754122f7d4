"""``willis hub``: the coordinator's own command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from willis.server.hub.collection_command import invite, serve, uninvite
from willis.shared.errors import StateError

if TYPE_CHECKING:
    from willis.server.checkpoint import RoundRecord
    from willis.server.hub.folder import HubFolder

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_hub = click.argument("folder", metavar="HUB", type=_FOLDER)
_patience = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a hub that is coming up.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")


@click.group(epilog="Example: willis hub init hub --host hub.example.org --port 8443")
def hub() -> None:
    """The coordinator: kits, sites, runs, releases. It sees private sums and updates, never patients."""


for _command in (serve, invite, uninvite):
    hub.add_command(_command)


@hub.command(epilog="Example: willis hub init hub --host hub.example.org --port 8443")
@_hub
@click.option("--host", required=True, help="Name or IPv4 address by which sites reach the hub.")
@click.option("--port", default=443, show_default=True, help="The one port that sites connect to.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address of this machine to listen on.")
@click.option("--inner-port", default=18443, show_default=True, help="Port of the loopback for SuperLink.")
@_json
def init(folder: Path, *, host: str, port: int, listen: str, inner_port: int, as_json: bool) -> None:
    """Make a hub's folder: its authority, certificate, secrets, nginx configuration, unit and compose file.

    Run again it completes and renews what is there; the authority, which sites trust, is never replaced.
    """
    from willis.server.hub.folder import make_hub
    from willis.server.hub.kit import fingerprint
    from willis.server.hub.settings import HubSettings
    from willis.server.signing import sign_older
    from willis.shared.settings import parse

    values = {"host": host, "port": port, "listen": listen, "inner_port": inner_port}
    made = make_hub(folder, parse(values, HubSettings, where="the hub's settings", error=StateError))
    told, signed = fingerprint(made.authority[1].read_bytes()), sign_older(made.runs)
    older = f"Releases that it signed now: {', '.join(signed)}\n" if signed else ""
    _say(
        {"hub": str(made.path), "address": made.settings.address, "authority": told, "signed": signed},
        f"Hub in {made.path}, reached at {made.settings.address}.\nFingerprint of its authority: {told}\n"
        f"{older}Next: willis hub up {folder}",
        as_json=as_json,
    )


@hub.command(epilog="Example: willis hub kit hub site-a site-b --out kits")
@_hub
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--out", type=_FOLDER, required=True, help="Where a folder for every site is made.")
@_json
def kit(folder: Path, names: tuple[str, ...], *, out: Path, as_json: bool) -> None:
    """Write startup kits, one folder a site; no private key is in them."""
    from willis.server.hub.folder import open_hub
    from willis.server.hub.kit import check_name, write_kit

    hub_folder = open_hub(folder)
    for name in names:
        check_name(name)
    made = [write_kit(hub_folder, name, out=out) for name in names]
    _say({"kits": [str(one) for one in made]}, "\n".join(f"Kit in {one}" for one in made), as_json=as_json)


@hub.command(epilog="Example: willis hub register hub site-a=site-a.pub")
@_hub
@click.argument("keys", metavar="[NAME=]FILE.pub...", nargs=-1, required=True)
@_patience
@_json
def register(folder: Path, keys: tuple[str, ...], *, patience: float, as_json: bool) -> None:
    """Let sites in by their public keys; without NAME= a site's name is that of its file."""
    from willis.server.hub.folder import open_hub
    from willis.server.hub.sites import register_site

    hub_folder, made = open_hub(folder), []
    _wait_until_up(hub_folder, patience)
    for key in keys:
        name, equals, file = key.partition("=")
        path = Path(file if equals else key)
        made.append(register_site(hub_folder, name if equals else path.stem, path))
    _say(
        {"sites": [{"name": site.name, "node": site.node} for site in made]},
        "\n".join(f"{site.name} is registered" for site in made),
        as_json=as_json,
    )


@hub.command(epilog="Example: willis hub unregister hub site-a")
@_hub
@click.argument("name", metavar="NAME")
@_patience
@_json
def unregister(folder: Path, name: str, *, patience: float, as_json: bool) -> None:
    """Shut out the key of site NAME, which was lost or seen; `register` then takes its new one.

    Refused while a run that names the site is at work. What the site spent stays in the books of its runs.
    """
    from willis.server.hub.folder import open_hub
    from willis.server.hub.sites import unregister_site

    hub_folder = open_hub(folder)
    _wait_until_up(hub_folder, patience)
    busy = _runs_at_work(hub_folder, site=name)
    if busy:
        raise StateError(f"{name} is in {', '.join(busy)}, at work now; wait for it, or `willis hub stop` it")
    gone = unregister_site(hub_folder, name)
    sentence = f"{name} is registered no more, and its key is taken under no name again"
    _say({"unregistered": gone.name, "node": gone.node}, sentence, as_json=as_json)


@hub.command(epilog="Example: willis hub up hub")
@_hub
def up(folder: Path) -> None:
    """Keep SuperLink, SuperExec and nginx running, until SIGTERM or Ctrl-C."""
    from willis.server.hub.folder import open_hub
    from willis.server.hub.programs import up as keep_up

    hub_folder = open_hub(folder)
    settings = hub_folder.settings
    click.echo(f"hub at {settings.address}, logs in {hub_folder.logs}; SIGTERM or Ctrl-C stops it", err=True)
    keep_up(hub_folder)


@hub.command(epilog="Example: willis hub start hub study.toml --wait")
@_hub
@click.argument("study", metavar="STUDY.toml", type=_FILE)
@click.option("--resume", is_flag=True, help="Go on with the newest run of this study that has no release.")
@click.option(
    "--wait", is_flag=True, help="Wait for its release, or for its failure and that one's exit code."
)
@_patience
@_json
def start(folder: Path, study: Path, *, resume: bool, wait: bool, patience: float, as_json: bool) -> None:
    """Start a STUDY at its sites, which must be registered; no code travels."""
    from willis.server.hub.folder import open_hub
    from willis.server.hub.start import start_study, wait_for

    hub_folder = open_hub(folder)
    _wait_until_up(hub_folder, patience)
    run = start_study(hub_folder, study, resume=resume)
    click.echo(f"{run.name} is with the sites", err=True)
    if not wait:
        _say({"run": run.name, "release": None}, f"Run {run.name} in {run.path}", as_json=as_json)
        return
    release = wait_for(hub_folder, run, on_round=_show_round)
    _say({"run": run.name, "release": str(release)}, f"Release in {release}", as_json=as_json)


@hub.command(epilog="Example: willis hub status hub --watch")
@_hub
@click.option("--watch", is_flag=True, help="Show it anew every few seconds, until Ctrl-C.")
@_json
def status(folder: Path, *, watch: bool, as_json: bool) -> None:
    """Tell which sites are online, and of every run its round, spending and failure."""
    import time

    from rich.console import Console, Group
    from rich.live import Live

    from willis.server.hub.folder import open_hub
    from willis.server.hub.status import shown, status_now

    hub_folder = open_hub(folder)
    if as_json:
        click.echo(json.dumps(status_now(hub_folder)))
        while watch:
            time.sleep(3)
            click.echo(json.dumps(status_now(hub_folder)))
        return
    if not watch:
        Console().print(*shown(status_now(hub_folder)), sep="\n")
        return
    with Live(Group(*shown(status_now(hub_folder))), auto_refresh=False) as live:
        while True:
            time.sleep(3)
            live.update(Group(*shown(status_now(hub_folder))), refresh=True)


@hub.command(epilog="Example: willis hub stop hub demo-1")
@_hub
@click.argument("run", metavar="[RUN]", required=False)
@_json
def stop(folder: Path, run: str | None, *, as_json: bool) -> None:
    """Stop a RUN, or the only one at work; `start --resume` goes on with it."""
    from willis.server.hub.control import list_runs
    from willis.server.hub.folder import open_hub
    from willis.server.hub.runs import find_run, runs_of
    from willis.server.hub.start import stop_study

    hub_folder = open_hub(folder)
    if run is None:
        known = list_runs(hub_folder)
        working = [
            one for one in runs_of(hub_folder) if one.state(known) in ("pending", "starting", "running")
        ]
        if len(working) != 1:
            names = ", ".join(one.name for one in working) or "none"
            raise StateError(f"say which RUN to stop; at work: {names}")
        found = working[0]
    else:
        found = find_run(hub_folder, run)
    stop_study(hub_folder, found)
    _say({"stopped": found.name}, f"{found.name} is stopped", as_json=as_json)


@hub.command(epilog="Example: willis hub releases hub --json")
@_hub
@_json
def releases(folder: Path, *, as_json: bool) -> None:
    """List the releases, each checked against its digest."""
    from willis.server.hub.folder import open_hub
    from willis.server.hub.runs import runs_of
    from willis.shared.release import read_release

    told, lines = [], []
    for run in runs_of(open_hub(folder)):
        if run.is_released:
            release = read_release(run.release)
            spent = release.spent
            told.append(
                {
                    "run": run.name,
                    "path": str(run.release),
                    "digest": release.digest,
                    "privacy": spent.model_dump(mode="json"),
                }
            )
            lines.append(f"{run.name}: {run.release}\n  {spent.sentence()}")
    _say({"releases": told}, "\n".join(lines) or "No release yet.", as_json=as_json)


def _runs_at_work(hub_folder: "HubFolder", *, site: str) -> list[str]:
    """Return the names of runs that a site takes part in, and that may still do something."""
    from willis.server.hub.control import is_at_work, list_runs
    from willis.server.hub.runs import runs_of

    known = list_runs(hub_folder)
    return [
        run.name
        for run in runs_of(hub_folder)
        if site in {one.name for one in run.study.federation.sites}
        and (run.has_coordinator() or any(is_at_work(known.get(number)) for number in run.flower_runs()))
    ]


def _wait_until_up(hub_folder: "HubFolder", patience_s: float) -> None:
    from willis.server.hub.programs import answers, wait_until_up

    if not answers(hub_folder):
        click.echo("waiting for the hub to come up", err=True)
        wait_until_up(hub_folder, patience_s=patience_s)


def _show_round(record: "RoundRecord") -> None:
    refused = ", ".join(f"{site} ({code})" for site, code in record.refused.items())
    click.echo(
        f"round {record.round}: {len(record.answered)} answers in {record.seconds:.0f} s"
        + ("" if record.merged else ", not merged")
        + (f"; without {refused}" if refused else ""),
        err=True,
    )


def _say(told: dict[str, object], sentence: str, *, as_json: bool) -> None:
    click.echo(json.dumps(told) if as_json else sentence)
