"""``willis cohort`` and ``willis evaluate``: they run inside the hospital and may name files and subjects."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

    from willis.client.evaluation import Progress
    from willis.client.evaluation_rows import Row
    from willis.client.ingest.check import Intake

ROWS_SHOWN = 50

_ROWS: "tuple[Row, ...]" = (
    "synthetic",
    "prior",
    "real",
    "mixed",
)  # as in evaluation_rows, which is slow to import
_PATH = click.Path(path_type=Path)


@click.group()
def cohort() -> None:
    """What of a cohort can be used, what is refused and why.

    \b
    Example: willis cohort check export/cohort.csv
    """


@cohort.command("check")
@click.argument("table", metavar="COHORT.csv", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every refused row.")
@click.pass_context
def check(ctx: click.Context, table: Path, as_json: bool) -> None:
    """Open every file that COHORT.csv names; report all faults at once.

    The table has the columns subject, site, image and label, with paths relative to itself.

    \b
    Example: willis cohort check export/cohort.csv

    Exit codes: 0 every row is accepted, 1 some are refused, 2 nothing can be used.
    """
    from willis.client.ingest.check import check_cohort
    from willis.shared.errors import CohortError

    try:
        intake = check_cohort(table)
    except CohortError as error:
        if as_json:
            click.echo(json.dumps({"table": str(table), "error": error.code, "message": str(error)}))
        click.echo(f"willis: {error}", err=True)
        ctx.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(_as_values(intake), indent=2))
    else:
        _print(intake)
    ctx.exit(0 if not intake.refused else 1 if intake.accepted else CohortError.exit_code)


def _chosen_rows(ctx: click.Context, param: click.Parameter, value: str | None) -> "tuple[Row, ...] | None":
    if value is None:
        return None
    wanted = dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
    known: dict[str, Row] = {row: row for row in _ROWS}
    unknown = [row for row in wanted if row not in known]
    if unknown or not wanted:
        raise click.BadParameter(
            f"unknown row {', '.join(unknown) or repr(value)}; known: {', '.join(_ROWS)}"
        )
    return tuple(known[row] for row in wanted)


@click.command()
@click.argument("release", type=_PATH)
@click.option(
    "--test", "test_table", metavar="COHORT.csv", type=_PATH, required=True, help="Subjects to test on."
)
@click.option(
    "--train", "train_table", metavar="COHORT.csv", type=_PATH, help="Subjects for the rows real and mixed."
)
@click.option(
    "--rows",
    callback=_chosen_rows,
    metavar="ROW,ROW",
    help="What U-nets are trained on: some of synthetic, prior, real, mixed. "
    "Default: synthetic,prior, and with --train all four.",
)
@click.option("--seeds", type=click.IntRange(1, 20), help="U-nets for each row; default: the study's number.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto takes CUDA where there is one.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The JSON file of scores."
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as one JSON object.")
def evaluate(
    release: Path,
    *,
    test_table: Path,
    train_table: Path | None,
    rows: "tuple[Row, ...] | None",
    seeds: int | None,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Train U-nets on a RELEASE and on what it is compared with; test them on real subjects.

    The rows: synthetic patches of the release; the study's public prior (epsilon 0), which the release must
    beat; real patches of --train; mixed, half synthetic and half real. Test on subjects that did not train
    the release. The scores are statistics of real subjects, and not covered by the release's epsilon.

    \b
    Example: willis evaluate runs/demo/release --test export/cohort.csv --out scores.json
    """
    if train_table is None and rows is not None and {"real", "mixed"} & set(rows):
        raise click.UsageError("the rows real and mixed need real training subjects: give --train COHORT.csv")
    from willis.client.cohort import read_cohort
    from willis.client.evaluation_rows import judge
    from willis.shared.metrics.table import score_lines
    from willis.shared.networks.build import choose_device
    from willis.shared.release import read_release

    choose_device(device, "--device")
    with _progress(quiet=as_json) as progress:
        found = judge(
            read_release(release),
            rows or (_ROWS if train_table is not None else _ROWS[:2]),
            test=read_cohort(test_table),
            train=None if train_table is None else read_cohort(train_table),
            out=out,
            seeds=seeds,
            device=device,
            progress=progress,
        )
    if as_json:
        click.echo(found.model_dump_json())
        return
    click.echo("\n".join([*score_lines(found), "", f"Release: {found.privacy.sentence()}", f"Scores: {out}"]))


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Progress]":
    """Show one bar for each thing that is done."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), disable=quiet) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)

        yield tell


def _as_values(intake: "Intake") -> dict[str, object]:
    return {
        "table": str(intake.table),
        "read": len(intake.rows),
        "accepted": len(intake.accepted),
        "refused": [
            {
                "line": checked.row.line,
                "subject": checked.row.subject,
                "site": checked.row.site,
                "image": checked.row.image and str(checked.row.image),
                "label": checked.row.label and str(checked.row.label),
                "reasons": [{"fault": reason.fault.value, "text": reason.text} for reason in checked.reasons],
            }
            for checked in intake.refused
        ],
        "reasons": {fault.value: count for fault, count in intake.counts().items()},
        "without_image": len(intake.without_image),
        "sites": intake.subjects_by_site(),
    }


def _visible(text: str) -> str:
    """Show what a terminal would obey, or hide, as its escape: ``\\x1b``."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _print(intake: "Intake") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if intake.refused:
        refused = Table("line", "subject", "fault", "what was found", title="Refused rows")
        for checked in intake.refused[:ROWS_SHOWN]:
            for reason in checked.reasons:
                cells = (str(checked.row.line), checked.row.subject, reason.fault.value, reason.text)
                refused.add_row(*(escape(_visible(cell)) for cell in cells))
        console.print(refused)
        if len(intake.refused) > ROWS_SHOWN:
            console.print(f"{len(intake.refused) - ROWS_SHOWN} more refused rows: see --json")
        counts = Table("fault", "rows", title="Refused rows by fault")
        for fault, count in intake.counts().items():
            counts.add_row(fault.value, str(count))
        console.print(counts)
    sites = Table("site", "subjects", title="Subjects that can be used")
    for site, count in intake.subjects_by_site().items():
        sites.add_row(escape(site), str(count))
    console.print(sites)
    console.print(
        f"{len(intake.rows)} rows read: {len(intake.accepted)} accepted, {len(intake.refused)} refused"
    )
    if intake.without_image:
        console.print(
            f"{len(intake.without_image)} accepted rows have no image, only a mask: generators of images and "
            "U-nets cannot train on them; name an image in each"
        )
