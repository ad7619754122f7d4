"""An experiment's table: columns in the order in which rows bring them, as CSV and as JSON."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from willis.simulations.experiments.experiment import Experiment, Result, Row, Value

OURS, THEIRS = "here", "the paper, on other data"


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the columns of some rows, each once, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def shown(value: Value) -> str:
    """Return a value as a reader sees it: three decimals, a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 1e5 else f"{value:.3g}"


def as_csv(experiment: Experiment, result: Result) -> str:
    """Return one table of both, every row told apart by its ``source``; numbers in full."""
    everything = [(OURS, row) for row in result.rows]
    everything += [(f"{OURS}: {table.title}", row) for table in result.more for row in table.rows]
    everything += [(THEIRS, row) for row in experiment.paper]
    columns = columns_of([row for _, row in everything])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("source", "system", *columns))
    for source, row in everything:
        writer.writerow(
            (
                source,
                row.system,
                *("" if (one := row.values.get(name)) is None else one for name in columns),
            )
        )
    return text.getvalue()


def as_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as plain values."""
    return [{"system": row.system, **row.values} for row in rows]


def as_text(rows: Sequence[Row]) -> str:
    """Return rows as lines for a terminal, a block each: a table of many columns fits none."""
    lines = []
    for row in rows:
        told = ", ".join(f"{name} {shown(value)}" for name, value in row.values.items() if value is not None)
        lines.append(f"{row.system}: {told}")
    return "\n".join(lines)
