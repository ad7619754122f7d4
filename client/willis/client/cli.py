"""``willis cohort``: what of an export can be used. It runs inside the hospital and may name files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from willis.client.ingest.check import Intake

ROWS_SHOWN = 50

cohort = click.Group("cohort", help="What of a cohort can be used, what is refused and why.")


@cohort.command("check")
@click.argument("table", metavar="COHORT.csv", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every refused row.")
@click.pass_context
def check(ctx: click.Context, table: Path, as_json: bool) -> None:
    """Open every file that COHORT.csv names; report all faults at once.

    The table has the columns subject, site, image and label, with paths relative to itself.

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
        "sites": intake.subjects_by_site(),
    }


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
                refused.add_row(*(escape(cell) for cell in cells))
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
