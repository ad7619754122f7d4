"""The ``willis`` command: one tree; every room brings its own branch and is imported only when called.

The table below is all that ``willis --help`` needs, so it answers at once, and a hospital's client never
imports the coordinator. A branch whose room is not installed says so.
"""

import importlib
import sys
from dataclasses import dataclass

import click

from willis.shared.errors import Unreachable, WillisError


@dataclass(frozen=True)
class Branch:
    """Where a command lives, and its line in the list."""

    module: str
    attribute: str
    line: str


BRANCHES = {
    "simulate": Branch("willis.simulations.cli", "simulate", "Many hospitals on one machine: train, draw, judge, report."),
    "cohort": Branch("willis.client.cli", "cohort", "What of a cohort can be used, what is refused and why."),
    "synthesize": Branch("willis.shared.cli", "synthesize", "Draw labelled patches from a release."),
    "evaluate": Branch("willis.client.cli", "evaluate", "Train a U-net on a release, test it on real subjects."),
    "report": Branch("willis.server.cli", "report", "One offline page about a run."),
    "prior": Branch("willis.simulations.cli", "prior", "Look at the public prior; train a warm start on it."),
    "bench": Branch("willis.simulations.cli", "bench", "Measurements, side by side with peers."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(BRANCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None where the table has no such name."""
        branch = BRANCHES.get(cmd_name)
        if branch is None:
            return None
        try:
            module = importlib.import_module(branch.module)
        except ModuleNotFoundError as fault:
            raise click.ClickException(f"`willis {cmd_name}` needs {fault.name}, which is not installed") from fault
        return getattr(module, branch.attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, branch.line) for name, branch in BRANCHES.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 refused, 2 bad input or configuration, 3 unreachable.",
)
@click.version_option(package_name="willis")
def willis() -> None:
    """Hospitals learn one private generator of labelled image patches; no image leaves.

    Example: willis simulate simulations/studies/demo.toml --virtual 4 --out runs/demo
    """


def main() -> None:
    """Run the command; an error of Willis' tree becomes its message and exit code."""
    try:
        willis(standalone_mode=True)
    except WillisError as error:
        click.echo(f"willis: {error}", err=True)
        sys.exit(error.exit_code)
    except ConnectionError as error:
        click.echo(f"willis: {error}", err=True)
        sys.exit(Unreachable.exit_code)
