"""The ``willis`` command: one tree; every room brings its own branch and is imported only when called.

The table below is all that ``willis --help`` needs, so it answers at once, and a hospital's client never
imports the coordinator. Whatever a command raises leaves as one message and an exit code.
"""

import errno
import importlib
import sys
import traceback
from dataclasses import dataclass

import click

from willis.shared.errors import InputError, Unreachable, WillisError

INTERRUPTED = 130  # as a shell reports SIGINT


@dataclass(frozen=True)
class Branch:
    """Where a command lives, and its line in the list."""

    module: str
    attribute: str
    line: str


BRANCHES = {
    "simulate": Branch(
        "willis.simulations.cli", "simulate", "Many hospitals on one machine: train, draw, judge, report."
    ),
    "cohort": Branch("willis.client.cli", "cohort", "What of a cohort can be used, what is refused and why."),
    "synthesize": Branch("willis.shared.cli", "synthesize", "Draw labelled patches from a release."),
    "convert": Branch(
        "willis.shared.conversion_command", "convert", "A release's network for ONNX or torch.export."
    ),
    "evaluate": Branch(
        "willis.client.cli", "evaluate", "Train a U-net on a release, test it on real subjects."
    ),
    "report": Branch("willis.server.cli", "report", "One offline page about a run."),
    "collect": Branch(
        "willis.shared.collection.command", "collect", "Releases of a hub: look, fetch, draw pairs."
    ),
    "track": Branch("willis.server.cli", "track", "Send a run's rounds to MLflow."),
    "prior": Branch("willis.simulations.cli", "prior", "Look at the public prior; train a warm start on it."),
    "site": Branch("willis.client.node.command", "site", "One hospital: key, law, node, ledger."),
    "hub": Branch("willis.server.hub.command", "hub", "The coordinator: kits, sites, runs, releases."),
    "experiment": Branch(
        "willis.simulations.experiments.command", "experiment", "The papers' protocols, each into a page."
    ),
    "bench": Branch("willis.simulations.cli", "bench", "Measurements, side by side with peers."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(BRANCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None where the table has no such name.

        Raises:
            Unreachable: Its room, or a library that it needs, is not installed.
        """
        branch = BRANCHES.get(cmd_name)
        if branch is None:
            return None
        try:
            module = importlib.import_module(branch.module)
        except ModuleNotFoundError as fault:
            raise Unreachable(f"`willis {cmd_name}` needs {fault.name}, which is not installed") from fault
        return getattr(module, branch.attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, branch.line) for name, branch in BRANCHES.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what it raises becomes one message on standard error and an exit code.

        An error of Willis' tree has its own code. A ``ValueError`` is a number or a word that does not fit,
        and a file that cannot be opened is bad input too (2); a lost connection is 3; Ctrl-C is 130.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(f"willis: interrupted{self._hint(ctx)}", err=True)
            ctx.exit(INTERRUPTED)
        except (WillisError, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader has left; click ends quietly
            if ctx.params.get("traceback"):
                traceback.print_exc()
            click.echo(f"willis: {_message(error)}", err=True)
            ctx.exit(_exit_code(error))

    def _hint(self, ctx: click.Context) -> str:
        """Say how to go on, where the command that ran can."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        resumes = command is not None and any(option.name == "resume" for option in command.params)
        return "; --resume continues" if resumes else ""


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _exit_code(error: Exception) -> int:
    if isinstance(error, WillisError):
        return error.exit_code
    if isinstance(error, ConnectionError | TimeoutError):
        return Unreachable.exit_code
    return InputError.exit_code


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 refused, 2 bad input or configuration, 3 unreachable, 130 interrupted.",
)
@click.version_option(package_name="willis")
@click.option("--traceback", is_flag=True, help="Before an error's message, show where it was raised.")
def willis(traceback: bool) -> None:
    """Hospitals learn one private generator of labelled image patches; no image leaves.

    \b
    Example: willis simulate simulations/studies/demo.toml --virtual 4 --out runs/demo
    """


def main() -> None:
    """Run the command and end the process with its exit code."""
    sys.exit(willis())
