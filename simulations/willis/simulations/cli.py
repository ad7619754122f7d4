"""``willis simulate``, ``willis prior`` and ``willis bench``: many hospitals on one machine."""

import json
from pathlib import Path
from typing import Literal

import click

from willis.simulations.benchmarks.use.command import use

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("study", metavar="STUDY.toml", type=_PATH)
@click.option("--cohort", type=_PATH, help="cohort.csv with real subjects of the study's sites.")
@click.option("--virtual", type=click.IntRange(min=0), default=0, help="How many of the sites are virtual.")
@click.option("--out", required=True, type=_PATH, help="The run's folder; new, unless --resume.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray", "processes"]),
    default="local",
    show_default=True,
    help="local: in this process. ray: Flower's own simulation engine, for many sites or several GPUs. "
    "processes: a real hub and real sites, with TLS and keys.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option(
    "--evaluate/--no-evaluate", default=True, help="Judge the release by U-nets.", show_default=True
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Sites at a time (local)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def simulate(
    study: Path,
    *,
    cohort: Path | None,
    virtual: int,
    out: Path,
    engine: Literal["local", "ray", "processes"],
    resume: bool,
    evaluate: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Train a study's private generator over many hospitals on this machine, and judge it.

    Leaves in --out: study.toml, sites/, server/, release/, synthetic/, scores.json, likeness.json,
    metrics.jsonl, tensorboard/ and report.html.

    \b
    Example: willis simulate simulations/studies/demo.toml --virtual 4 --out runs/demo
    """
    from willis.simulations.progress import Show
    from willis.simulations.run import simulate as run
    from willis.simulations.summary import as_table, as_values

    show = Show()
    outcome = run(
        study,
        out=out,
        cohort=cohort,
        virtual=virtual,
        engine=engine,
        resume=resume,
        evaluate=evaluate,
        workers=workers,
        show=show,
    )
    if as_json:
        click.echo(json.dumps(as_values(outcome)))
    else:
        click.echo(as_table(outcome))


@click.group()
def prior() -> None:
    """Look at the public, procedural prior (epsilon 0); train a warm start on it.

    \b
    Example: willis prior show simulations/studies/demo.toml --out prior.png
    """


@prior.command("show")
@click.argument("study", metavar="STUDY.toml", type=_PATH)
@click.option(
    "--n",
    type=click.IntRange(min=1, max=10_000),
    default=32,
    show_default=True,
    help="Patches in the picture.",
)
@click.option("--out", required=True, type=_PATH, help="A PNG: every image above its label.")
def show_prior(study: Path, *, n: int, out: Path) -> None:
    """Draw a study's prior into one picture.

    \b
    Example: willis prior show simulations/studies/demo.toml --out prior.png
    """
    from willis.shared.prior.gallery import gallery
    from willis.shared.prior_draws import draw_prior
    from willis.shared.study import read_study
    from willis.shared.whole_file import check_place

    check_place(out)
    gallery(draw_prior(read_study(study), n, purpose="show"), out)
    click.echo(f"wrote {out}")


@prior.command("patients")
@click.argument("study", metavar="STUDY.toml", type=_PATH)
@click.option("--out", required=True, type=_PATH, help="A new folder: NAME/cohort.csv for every site.")
def virtual_patients(study: Path, *, out: Path) -> None:
    """Draw virtual patients for every site of a study, to try a federation with before it has real ones.

    \b
    Example: willis prior patients simulations/studies/two-hospitals.toml --out patients
    """
    from willis.shared.study import read_study
    from willis.simulations.hospitals import lay_out_patients
    from willis.simulations.progress import Show

    for table in lay_out_patients(read_study(study), out, show=Show()).values():
        click.echo(f"wrote {table}")


@prior.command("pretrain")
@click.argument("study", metavar="STUDY.toml", type=_PATH)
@click.option("--name", required=True, help="What training.warm_start will call it.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="A folder."
)
@click.option("--draws", type=click.IntRange(min=64), default=12_000, show_default=True, help="Prior draws.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=6_000, show_default=True, help="Generator steps."
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Patches in a step.")
@click.option(
    "--critic-first",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="First steps in which the generator stands still.",
)
@click.option(
    "--start", default="none", show_default=True, help="A warm start of half the size to go on from."
)
def pretrain_prior(
    study: Path, *, name: str, out: Path, draws: int, steps: int, batch: int, critic_first: int, start: str
) -> None:
    """Train a generator and a critic on draws of a study's prior: a warm start that costs epsilon 0.

    \b
    Example: willis prior pretrain simulations/studies/demo.toml --name vessels-48 --out .
    """
    from willis.shared.study import read_study
    from willis.simulations.pretraining import Recipe, pretrain, ship
    from willis.simulations.progress import Show

    plan, recipe = (
        read_study(study),
        Recipe(draws=draws, steps=steps, batch=batch, critic_first=critic_first, start=start),
    )
    with Show().task("pretraining") as advance:
        trained = pretrain(plan, recipe, progress=advance)
    click.echo(f"wrote {ship(name, trained, study=plan, recipe=recipe, folder=out)}")


@click.group()
def bench() -> None:
    """Measurements, side by side with peers.

    \b
    Example: willis bench list
    """


@bench.command("list")
def list_benches() -> None:
    """List the measurements.

    \b
    Example: willis bench list
    """
    for name, command in run_bench.commands.items():
        click.echo(f"{name:<18} {command.get_short_help_str(90)}")


@bench.group("run")
def run_bench() -> None:
    """Run one measurement.

    \b
    Example: willis bench run critic-step
    """


@run_bench.command("critic-step")
@click.option("--quick", is_flag=True, help="Small sizes: does it run, not how fast.")
@click.option("--out", type=_PATH, help="A folder for critic-step.json and .md; printed alone otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_critic_step(*, quick: bool, out: Path | None, as_json: bool) -> None:
    """A private critic step beside the non-private one and peers.

    \b
    Example: willis bench run critic-step
    """
    _measure("critic-step", quick=quick, out=out, as_json=as_json)


@run_bench.command("intake")
@click.option("--quick", is_flag=True, help="5,000 files, once; half a minute.")
@click.option("--out", type=_PATH, help="A folder for intake.json and .md; printed alone otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_intake(*, quick: bool, out: Path | None, as_json: bool) -> None:
    """Headers of an export a second, beside pydicom's plain loop and dcm2niix.

    \b
    Example: willis bench run intake --quick
    """
    _measure("intake", quick=quick, out=out, as_json=as_json)


@run_bench.command("pairs-per-second")
@click.option("--quick", is_flag=True, help="A narrow network, once: does it run, not how fast.")
@click.option("--out", type=_PATH, help="A folder for the figures (.json and .md); printed alone otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_pairs_per_second(*, quick: bool, out: Path | None, as_json: bool) -> None:
    """Labelled pairs a second from a network, one by one beside batched.

    \b
    Example: willis bench run pairs-per-second --quick
    """
    _measure("pairs-per-second", quick=quick, out=out, as_json=as_json)


@run_bench.command("traffic")
@click.option("--quick", is_flag=True, help="100k parameters, one round of each kind; about 3 minutes.")
@click.option("--out", type=_PATH, help="A folder for traffic.json and .md; printed alone otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run_traffic(*, quick: bool, out: Path | None, as_json: bool) -> None:
    """Bytes and seconds of a round between real processes, and the floor below.

    \b
    Example: willis bench run traffic --quick
    """
    _measure("traffic", quick=quick, out=out, as_json=as_json)


def _measure(name: str, *, quick: bool, out: Path | None, as_json: bool) -> None:
    from willis.simulations.benchmarks.catalogue import BENCHES
    from willis.simulations.benchmarks.report import as_markdown, write

    result = BENCHES[name].run(quick)
    if out is not None:
        write(result, out)
    click.echo(json.dumps(result.values()) if as_json else as_markdown(result))


run_bench.add_command(use)
