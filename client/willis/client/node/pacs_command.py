"""``willis site receive`` and ``willis site fetch``: the site's door to the PACS."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from willis.client.pacs.arrivals import Completed
    from willis.client.pacs.settings import PacsSettings

_FOLDER = click.argument("folder", metavar="SITE", type=click.Path(path_type=Path, file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")


@click.command("receive")
@_FOLDER
@_JSON
def receive(folder: Path, *, as_json: bool) -> None:
    """Listen for the PACS to send instances into the spool, until told to stop (SIGTERM, Ctrl-C).

    [pacs] of site.toml says where, who may send, and when a study is complete.

    \b
    Example: willis site receive north
    """
    from willis.client.pacs.receive import Receiver
    from willis.client.pacs.silence import quietly
    from willis.shared.processes import until_asked_to_stop

    settings = _settings(folder)

    def told(one: "Completed") -> None:
        if as_json:
            click.echo(json.dumps({"event": "study", **asdict(one)}))
        else:
            state = "complete" if one.complete else "cut short by the stop"
            click.echo(f"a study is {state}: {one.series} series, {one.instances} instances")

    with until_asked_to_stop() as stop, quietly(), Receiver(settings, on_complete=told) as receiver:
        where = f"{settings.listen}:{settings.port}"
        click.echo(f"{settings.ae_title} listens on {where}; Ctrl-C stops it", err=True)
        stop.wait()
    counts = dict(sorted(receiver.counts.items()))
    if as_json:
        click.echo(json.dumps({"event": "stopped", "counts": counts}))
    else:
        click.echo(", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing came", err=True)


@click.command("fetch")
@_FOLDER
@click.option(
    "--studies",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A list of StudyInstanceUIDs, one a line; it is read, never copied.",
)
@click.option(
    "--by",
    type=click.Choice(["get", "move", "web"]),
    default="get",
    show_default=True,
    help="C-GET, C-MOVE to our own listener, or DICOMweb.",
)
@_JSON
@click.pass_context
def fetch(ctx: click.Context, folder: Path, *, studies: Path, by: str, as_json: bool) -> None:
    """Fetch studies from the PACS into the spool; what is there is not asked for again.

    \b
    Example: willis site fetch north --studies studies.txt --by get

    Exit codes: 1 a study is unknown or incomplete, 2 bad configuration or a full disk, 3 no PACS there.
    """
    from typing import cast

    from willis.client.pacs.fetch import Way, read_list
    from willis.client.pacs.fetch import fetch as fetch_all
    from willis.client.pacs.silence import quietly

    settings, listed = _settings(folder), read_list(studies)
    with quietly(), click.progressbar(length=len(listed), label="studies", file=_stderr()) as bar:
        found = fetch_all(
            settings, listed, by=cast("Way", by), progress=lambda done, _: bar.update(done - bar.pos)
        )
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"{found.complete} of {found.studies} studies are in the spool, whole")
        click.echo(f"{found.fetched} instances came, {found.there} were there, {found.left} are not taken")
        for what, lines in (
            ("are not known to the PACS", found.unknown),
            ("lack instances", found.incomplete),
        ):
            if lines:
                click.echo(f"lines of the list that {what}: {', '.join(map(str, lines))}", err=True)
        for reason, count in found.refused.items():
            click.echo(f"{count} instances came and were refused: {reason}", err=True)
    ctx.exit(0 if found.complete == found.studies else 1)


def _settings(folder: Path) -> "PacsSettings":
    from willis.client.node.enrolment import SETTINGS_FILE
    from willis.client.site import read_site
    from willis.shared.errors import StateError

    settings = read_site(folder / SETTINGS_FILE).pacs
    if settings is None:
        raise StateError(
            f"{folder / SETTINGS_FILE} has no [pacs]: set ae_title, spool and callers, and source or web"
        )
    return settings


def _stderr():
    import sys

    return sys.stderr
