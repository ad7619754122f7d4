"""``willis experiment``: the papers' protocols, each into a folder with a table, figures and a page."""

import json
from pathlib import Path
from typing import Literal

import click

_PATH = click.Path(path_type=Path)
# As in the catalogue; told here so that the list answers at once.
LINES = {
    "kossen2021": "labelled vessel patches by DCGAN, WGAN-GP and WGAN-GP-SN; transfer to a second cohort",
    "kossen2022": "DP-WGAN at patch level as published, its epsilon per patch and per patient",
    "shin2018": "lesions by image-to-image translation, labels edited before synthesis",
    "platscher2021": "a generator of masks and three translators, joined into a database",
}


@click.group()
def experiment() -> None:
    """The papers' protocols, on the data that are at hand.

    \b
    Example: willis experiment list
    """


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: lines by name.")
def list_experiments(*, as_json: bool) -> None:
    """List the experiments.

    \b
    Example: willis experiment list
    """
    if as_json:
        click.echo(json.dumps(LINES))
        return
    for name, line in LINES.items():
        click.echo(f"{name:<14} {line}")


@experiment.command("run")
@click.argument("name", metavar="NAME")
@click.option("--quick", is_flag=True, help="The whole protocol at small size: 4 to 12 minutes on 2 cores.")
@click.option(
    "--size",
    type=click.Choice(["tiny", "quick", "full"]),
    default="full",
    show_default=True,
    help="tiny: seconds, to see that it runs. full: 15 to 60 minutes of one core.",
)
@click.option(
    "--data",
    type=_PATH,
    envvar="WILLIS_DATA",
    help="Folder of the public cohorts; WILLIS_DATA otherwise; virtual patients where there is neither.",
)
@click.option("--cohort", type=_PATH, help="A cohort.csv of your own subjects instead.")
@click.option("--second", type=_PATH, help="A cohort.csv of your own second cohort.")
@click.option("--out", type=_PATH, help="The run's folder; runs/NAME-SIZE otherwise. Run again to go on.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
def run_experiment(
    name: str,
    *,
    quick: bool,
    size: Literal["tiny", "quick", "full"],
    data: Path | None,
    cohort: Path | None,
    second: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run the experiment NAME; see `willis experiment list`.

    Leaves in --out: index.html, table.csv, table.json, figures, and parts/, from which a run that was
    stopped goes on.

    \b
    Example: willis experiment run kossen2021 --quick --out runs/kossen2021
    """
    from willis.simulations.experiments.experiment import Setting
    from willis.simulations.experiments.runner import PAGE
    from willis.simulations.experiments.runner import run_experiment as run
    from willis.simulations.experiments.table import as_text
    from willis.simulations.progress import Show

    if quick and size == "tiny":
        raise click.UsageError("--quick is a size of its own; leave out --size, or --quick")
    chosen = "quick" if quick else size
    folder = Path("runs") / f"{name}-{chosen}" if out is None else out
    outcome = run(name, Setting(chosen, data, cohort, second, folder, Show()))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **outcome.values}))
        return
    for rows in (outcome.result.rows, *(table.rows for table in outcome.result.more)):
        click.echo(as_text(rows))
    click.echo("\n".join(("", *outcome.result.readings, "", f"Page: {folder / PAGE}")))
