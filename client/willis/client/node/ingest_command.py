"""``willis site ingest``: from a PACS' export to the site's cohort."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from willis.client.ingest.dicom.report import IntakeResult

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("ingest")
@click.argument("export", metavar="EXPORT", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="The cohort's folder; made where missing.")
@click.option(
    "--site",
    "folder",
    type=_FOLDER,
    default=".",
    show_default="this folder",
    help="The site's folder, with site.toml.",
)
@click.option("--explain", is_flag=True, help="Say for every series why it was taken, left or refused.")
@click.option("--replace", is_flag=True, help="Let the export take the place of another one in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ingest(export: Path, *, out: Path, folder: Path, explain: bool, replace: bool, as_json: bool) -> None:
    """Turn an EXPORT of DICOM files into a cohort: images and labels by pseudonym, and a table of them.

    [intake] of site.toml says which series and labels. The export is opened read-only. Again it reads what is
    new, and goes on where it was stopped. OUT/intake.html shows what came in; it stays at the site.

    \b
    Example: willis site ingest /media/export --out cohort --site north --explain
    """
    from willis.client.ingest.dicom.intake import KEY_FILE, Intake
    from willis.client.ingest.dicom.intake import ingest as take_in
    from willis.client.ingest.dicom.rule import IntakeRule
    from willis.client.site import read_site

    settings = read_site(folder / "site.toml")
    intake = Intake(
        export=export,
        out=out,
        site=settings.name,
        rule=settings.intake or IntakeRule(),
        key=folder / KEY_FILE,
        memory=settings.state / "intake",
        replace=replace,
    )
    with _bars() as progress:
        result = take_in(intake, progress=progress)
    if as_json:
        click.echo(json.dumps(result.facts() | {"table": str(out / "cohort.csv")}))
        return
    _tell(result, out, explain=explain)


def _tell(result: "IntakeResult", out: Path, *, explain: bool) -> None:
    if explain:
        for one in result.verdicts:
            what = "taken" if one.taken else "refused" if one.refused else "left"
            click.echo(f"{what:<8}{one.name}: {one.sentence}")
    refused = sum(result.refusals.values())
    click.echo(
        f"{len(result.scans)} scans of {result.subjects} patients in {out / 'cohort.csv'}, "
        f"{result.anew} of them made now; {refused} of {len(result.verdicts)} series refused"
    )
    for code, n in result.refusals.items():
        click.echo(f"  {n} {code}")
    click.echo(f"Pictures and reasons: {out / 'intake.html'}; it stays at the site")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield what shows files and scans as bars on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {}

        def show(phase: str, done: int, total: int | None) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(f"reading {phase}" if phase == "files" else "making scans")
            bars.update(tasks[phase], completed=done, total=total)

        yield show
