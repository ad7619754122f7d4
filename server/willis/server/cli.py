"""``willis report``: one page about a run."""

from pathlib import Path

import click


@click.command(epilog="Example: willis report runs/demo --out runs/demo/report.html")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The HTML file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
def report(run: Path, *, out: Path, as_json: bool) -> None:
    """Write one offline HTML page about a RUN's folder: privacy spent, use gained, what it draws.

    It needs study.toml there; of metrics.jsonl, release/ and scores.json it says which are missing.
    """
    import json

    from willis.server.report import write_report

    found = write_report(run, out)
    spent = found.spent()
    if as_json:
        answer = {
            "path": str(out),
            "rounds": len(found.rounds),
            "release": found.release.digest if found.release else None,
            "scored": found.scores is not None,
            "privacy": {site: figure.model_dump(mode="json") for site, figure in spent.items()},
        }
        click.echo(json.dumps(answer))
        return
    click.echo(f"Report in {out}")
    for site, figure in spent.items():
        click.echo(f"  {site}: {figure.sentence()}")
