"""``willis site``: one hospital, from its key to its ledger."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from willis.client.node.ingest_command import ingest
from willis.client.node.pacs_command import fetch, receive

if TYPE_CHECKING:
    from willis.client.node.enrolment import Enrolled, Progress

_FOLDER = click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def site() -> None:
    """One hospital: its key, its law, its node, its ledger. FOLDER is the kit's, unpacked.

    \b
    Example: willis site check north
    """


site.add_command(ingest)
site.add_command(receive)
site.add_command(fetch)


@site.command("init")
@_FOLDER
@click.option("--cohort", type=_FILE, required=True, help="The table of subjects, images and labels.")
@click.option("--study", type=_FILE, required=True, help="The study to agree to.")
@_JSON
def init(folder: Path, *, cohort: Path, study: Path, as_json: bool) -> None:
    """Make the site's key, cut its patches, agree to a study; print the public key for the hub to register.

    A key that is there is kept. Read site.toml and set its limits first.

    \b
    Example: willis site init north --cohort export/cohort.csv --study study.toml
    """
    from willis.client.node.enrolment import enrol

    with _progress("cutting patches") as progress:
        _tell(enrol(folder, cohort=cohort, study=study, progress=progress), as_json)


@site.command("agree")
@_FOLDER
@click.argument("study", metavar="STUDY.toml", type=_FILE)
@_JSON
def agree(folder: Path, study: Path, as_json: bool) -> None:
    """Agree to another study; its patches take the place of the earlier ones where it cuts otherwise.

    \b
    Example: willis site agree north study.toml
    """
    from willis.client.node.enrolment import agree as agree_to

    with _progress("cutting patches") as progress:
        _tell(agree_to(folder, study, progress=progress), as_json)


@site.command("check")
@_FOLDER
@_JSON
@click.pass_context
def check(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Look at all that must be right before the site runs; nothing leaves, nothing is paid.

    \b
    Example: willis site check north

    Exit codes: the worst of all faults: 1 refused, 2 bad input or configuration, 3 unreachable.
    """
    from willis.client.node.preflight import check_site

    found = []
    for one in check_site(folder):
        found.append(one)
        if not as_json:
            click.echo(f"{one.state:<8}{one.name:<15}{one.sentence}")
    worst = max(one.exit_code for one in found)
    if as_json:
        click.echo(json.dumps({"exit_code": worst, "checks": [asdict(one) for one in found]}))
    ctx.exit(worst)


@site.command("run")
@_FOLDER
def run(folder: Path) -> None:
    """Keep the site's node running until told to stop (SIGTERM, Ctrl-C); what dies is started again.

    It connects outward to the hub and runs no bundle but those that site.toml allows.

    \b
    Example: willis site run north
    """
    from willis.client.node.programs import keep_running
    from willis.shared.processes import until_asked_to_stop

    def ended(name: str, status: int) -> None:
        click.echo(f"{name} ended with {status}; starting it again, see {folder / 'logs'}", err=True)

    with until_asked_to_stop() as stop:
        click.echo(f"{folder} runs; Ctrl-C stops it", err=True)
        keep_running(folder, stop, on_end=ended)
    click.echo(f"{folder} stopped", err=True)


@site.command("status")
@_FOLDER
@_JSON
def status(folder: Path, as_json: bool) -> None:
    """Tell whether the site runs, what it agreed to, what it has paid, what left last.

    \b
    Example: willis site status north --json
    """
    from willis.client.node.status import status_of

    found = status_of(folder)
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:<14}{json.dumps(value) if isinstance(value, dict | list) else value}")


@site.command("ledger")
@_FOLDER
@_JSON
def ledger(folder: Path, as_json: bool) -> None:
    """Print every payment of the site's cohort, the chain of hashes verified.

    \b
    Example: willis site ledger north
    """
    from willis.client.node.enrolment import SETTINGS_FILE
    from willis.client.node.spending import spending_of
    from willis.client.site import read_site

    found = spending_of(read_site(folder / SETTINGS_FILE))
    spent = found.spent
    if as_json:
        values = {
            "rows": [asdict(row) for row in found.rows],
            "spent": None if spent is None else spent.model_dump(mode="json"),
            "cap": found.cap,
            "left": found.left,
            "delta": found.delta,
            "head": found.head,
        }
        click.echo(json.dumps(values))
        return
    for row in found.rows:
        state = "settled" if row.settled else "reserved"
        click.echo(f"{row.id:>4}  {row.at}  {state:<8}  {row.purpose}  {row.study[:12]}  {row.hash[:12]}")
    click.echo("nothing was ever paid" if spent is None else spent.sentence())
    click.echo(f"epsilon {found.left:.4g} of {found.cap:g} is left (delta {found.delta:g}), chain whole")


@site.command("optout")
@_FOLDER
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="Take the names off the list.")
@_JSON
def optout(folder: Path, names: tuple[str, ...], *, undo: bool, as_json: bool) -> None:
    """Leave subjects out of every round that has not begun; what was drawn before cannot be undone.

    NAME is a pseudonym as the cohort's table writes it.

    \b
    Example: willis site optout north p17 p23
    """
    from willis.client.node.enrolment import SETTINGS_FILE
    from willis.client.node.optout import change
    from willis.client.site import read_site

    listed = change(read_site(folder / SETTINGS_FILE), names, undo=undo)
    if as_json:
        click.echo(json.dumps({"opted_out": listed}))
    else:
        click.echo(f"{len(listed)} subjects are left out of every round that has not begun")


def _tell(enrolled: "Enrolled", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(enrolled)))
        return
    click.echo(
        f"{enrolled.site} agrees to {enrolled.study} ({enrolled.digest[:12]}), {enrolled.subjects} subjects",
        err=True,
    )
    if enrolled.public_key:
        click.echo("for the hub to register:", err=True)
        click.echo(enrolled.public_key)


@contextmanager
def _progress(what: str) -> "Iterator[Progress]":
    """Show a bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
