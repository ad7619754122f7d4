"""``willis report`` and ``willis track``: one page about a run, and its rounds in MLflow."""

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

    from willis.server.report.page import write_report

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


@click.command(epilog="Example: willis track runs/demo --mlflow sqlite:///mlflow.db")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--mlflow", "uri", metavar="URI", required=True, help="A file's or a server's address.")
@click.option("--experiment", default="willis", show_default=True, help="MLflow's; made where it lacks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a sentence.")
def track(run: Path, *, uri: str, experiment: str, as_json: bool) -> None:
    """Send the rounds of a RUN's folder to MLflow, those alone that it does not have yet.

    It needs the extra: pip install 'willis[mlflow]'. TensorBoard needs no command: every run leaves its
    event file under RUN/tensorboard.
    """
    import json
    from dataclasses import asdict

    from willis.server.mlflow_tracking import send_to_mlflow

    sent = send_to_mlflow(run, uri=uri, experiment=experiment)
    if as_json:
        click.echo(json.dumps(asdict(sent)))
        return
    click.echo(f"{sent.rounds} rounds of {sent.run} sent to run {sent.mlflow_run} of MLflow at {uri}")
