"""``willis bench run use``: every recipe on the same images."""

import json
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="The shipped small grid: 15 minutes on 2 cores.")
@click.option("--grid", default="full", show_default=True, help="quick, short, full, or a file of your own.")
@click.option("--data", type=_PATH, help="Folder of the real cohorts; WILLIS_DATA otherwise.")
@click.option(
    "--out", type=_PATH, default=Path("runs/use"), show_default=True, help="Results; run again to go on."
)
@click.option("--only", multiple=True, metavar="DATA/ROW", help="Only these cells, such as 'retina/*'.")
@click.option("--page", type=_PATH, help="Copy table, page and results here too, such as docs/bench.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def use(
    *,
    quick: bool,
    grid: str,
    data: Path | None,
    out: Path,
    only: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> None:
    """What synthetic data are worth: recipes x epsilons x data sets, judged by one U-net.

    Leaves in --out: results.jsonl, one line a cell; cells/, with ledgers and releases; use.md and use.html.
    Every epsilon is counted again from the ledgers before a page is written.

    \b
    Example: willis bench run use --quick --out runs/use
    """
    from willis.shared.errors import WillisError
    from willis.simulations.benchmarks.use.grid import SHIPPED, shipped_grid
    from willis.simulations.benchmarks.use.runner import run_use
    from willis.simulations.progress import Show

    if quick and grid not in ("quick", "full"):
        raise click.UsageError("--quick is a grid of its own; leave out --grid, or --quick")
    name = "quick" if quick else grid
    chosen = shipped_grid(name) if name in SHIPPED else Path(name)
    outcome = run_use(chosen, out=out, data=data, only=only, page=page, show=Show())
    if as_json:
        lines = [line.model_dump(mode="json") for line in outcome.lines]
        click.echo(json.dumps({"folder": str(out), "lines": lines, "failed": outcome.failed}))
    else:
        click.echo(f"Page: {out / 'use.html'}\nTable: {out / 'use.md'}")
    if outcome.failed:
        told = "\n".join(f"  * {key}: {why}" for key, why in outcome.failed.items())
        raise WillisError(f"{len(outcome.failed)} cells have no result; run it again to try them\n{told}")
