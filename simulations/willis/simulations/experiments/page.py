"""An experiment's page: one file that needs nothing else, for people who did not run it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from willis.simulations.experiments.experiment import NOT_COVERED, Experiment, Figure, Result, Row, Size
from willis.simulations.experiments.table import columns_of, shown

_WIDE = 20  # characters that need a column of some width
_ABOUT = {
    "tiny": "tiny: it shows that the protocol runs, and nothing else",
    "quick": "quick: the whole protocol at small size; its numbers are not for quoting",
    "full": "full",
}


def page_of(
    experiment: Experiment,
    result: Result,
    *,
    size: Size,
    machine: Mapping[str, str],
    seconds: Mapping[str, Mapping[str, float]],
) -> str:
    """Return the page as HTML.

    Args:
        experiment: The protocol, and the paper's figures.
        result: What was found.
        size: That was run.
        machine: Where; see ``benchmarks.report.machine``.
        seconds: What every part took: by the ``clock``, and of the ``processor``.
    """
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    facts = [
        ("Size", _ABOUT[size]),
        ("Subjects", result.data),
        ("Seeds", ", ".join(str(seed) for seed in result.seeds)),
        (
            "Time",
            f"{_summed('clock', seconds):.0f} s, {_summed('processor', seconds):.0f} s of the processor",
        ),
        ("Machine", ", ".join(f"{key} {value}" for key, value in machine.items())),
        ("Privacy of the scores", NOT_COVERED),
    ]
    theirs = "The paper's own figures, on other data: not to be compared number by number."
    tables = [
        ("Here", f"What was found here: {result.data}", _cells(result.rows), ""),
        ("The paper", theirs, _cells(experiment.paper), "other"),
        *((table.title, f"Found here: {result.data}", _cells(table.rows), "") for table in result.more),
    ]
    return pages.get_template("page.html.jinja").render(
        experiment=experiment,
        result=result,
        size=size,
        facts=facts,
        tables=[table for table in tables if table[2][1]],
        address=_address,
    )


def _summed(kind: str, seconds: Mapping[str, Mapping[str, float]]) -> float:
    return sum(took[kind] for took in seconds.values())


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """Return columns, and every row as its system and its cells: text, and the class that it is set in."""
    columns = columns_of(rows)
    return columns, [(row.system, [_cell(shown(row.values.get(name))) for name in columns]) for row in rows]


def _cell(text: str) -> tuple[str, str]:
    return text, "words" if len(text) > _WIDE else "short"


def _address(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure.png).decode()}"
