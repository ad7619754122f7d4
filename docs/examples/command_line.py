"""What the three programs beside this file ask on their command line, and how they refuse it."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from willis.shared.errors import StateError, WillisError

_BAD_INPUT = 2


def options(about: str | None, *, test: bool = True, training: bool = False) -> argparse.ArgumentParser:
    """Return a parser of what all three ask; the first line of ``about`` is its description.

    Args:
        about: A program's docstring.
        test: Whether ``--test`` must be given.
        training: Whether ``--training`` must be given.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    add = parser.add_argument
    add("--release", type=Path, required=True, help="the release's folder")
    add("--test", type=Path, required=test, metavar="TABLE", help="table of real subjects to test on")
    said = "table of real subjects who trained the release, or may train; nobody may be in both"
    add("--training", type=Path, required=training, metavar="TABLE", help=said)
    add("--out", type=Path, required=True, help="a new folder, or an empty one")
    add("--subjects", type=int, default=40, help="real subjects to test on, at most")
    add("--seed", type=int, default=1)
    add("--device", default="cpu", help="cpu or cuda")
    return parser


@contextmanager
def plain_refusals() -> Iterator[None]:
    """End the program with a sentence, and 2 or 3, where what it was given cannot be used."""
    try:
        yield
    except (WillisError, ValueError, OSError) as fault:
        print(f"Error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code if isinstance(fault, WillisError) else _BAD_INPUT)


def check_empty(out: Path) -> None:
    """Refuse a folder that holds something; make nothing.

    Raises:
        StateError: With what to do.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StateError(f"{out} already holds something; name a new folder, or empty it")
