"""The bench's table and page: what wins where, beside its controls, every epsilon with all that it needs."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jinja2

from willis.shared.whole_file import write_whole
from willis.simulations.benchmarks.use.curves import epsilon_curves, subject_curves
from willis.simulations.benchmarks.use.grid import Grid
from willis.simulations.benchmarks.use.results import Line
from willis.simulations.benchmarks.use.summary import Difference, Summary, summarise

PAGE, TABLE = "use.html", "use.md"
TESTED = {
    "held-out": "held-out subjects, on whom nothing was designed or tuned",
    "development": "a quarter of the training subjects: for tuning, not a result to quote",
}
_COLUMNS = (
    "row", "privacy", "Dice", "95 % over subjects", "by seed", "of real", "over prior", "over null",
    "HD95", "clDice", "seeds", "CPU s",
)  # fmt: skip


def write_page(
    grid: Grid,
    lines: Sequence[Line],
    in_order: Mapping[str, Sequence[float]],
    *,
    out: Path,
    failed: Mapping[str, str],
) -> None:
    """Write ``use.md`` and ``use.html`` into a folder, each whole or not at all.

    Args:
        grid: What was asked.
        lines: Results; their epsilons are taken as checked.
        in_order: Dice by subject for every line.
        out: The folder.
        failed: Cells without a result, and why.
    """
    rows = summarise(grid, lines, in_order)
    facts = _facts(grid, lines)
    write_whole(out / TABLE, _markdown(grid, rows, facts, failed).encode())
    write_whole(out / PAGE, _html(grid, rows, facts, failed).encode())


def _facts(grid: Grid, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """What a reader needs before the numbers: machine, versions, seeds, time, whom it was tested on."""
    own = [line for line in lines if line.data in grid.data]
    kinds = (
        {key: sorted({line.machine.get(key, "") for line in own}) for key in own[0].machine} if own else {}
    )
    told = ", ".join(f"{key} {' / '.join(values)}" for key, values in kinds.items())
    wall, busy = (sum(getattr(line, name) for line in own) / 3600 for name in ("wall_s", "cpu_s"))
    return [
        ("Tested on", TESTED[grid.tested_on]),
        ("Seeds", ", ".join(str(seed) for seed in sorted({line.seed for line in own}))),
        ("Cells", f"{len(own)}, {wall:.2f} hours of one thread, {busy:.2f} of them at work"),
        ("Machine", told),
        ("Willis", version("willis")),
        (
            "Accounting",
            "every private epsilon was counted again from its sites' ledgers before this page was written",
        ),
        ("Scores", "are statistics of real subjects that no epsilon covers"),
    ]


def _markdown(
    grid: Grid, rows: Sequence[Summary], facts: Sequence[tuple[str, str]], failed: Mapping[str, str]
) -> str:
    parts = [f"# {grid.title}", "", *(f"* {name}: {what}." for name, what in facts), ""]
    for name, plan in grid.data.items():
        own = [row for row in rows if row.data == name]
        if own:
            parts += [f"## {plan.label}", "", _about(own), ""]
            parts += ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
            parts += ["| " + " | ".join(_values(row)) + " |" for row in own] + [""]
    if failed:
        parts += ["## Cells without a result", "", *(f"* `{key}`: {why}" for key, why in failed.items()), ""]
    return "\n".join(parts)


def _html(
    grid: Grid, rows: Sequence[Summary], facts: Sequence[tuple[str, str]], failed: Mapping[str, str]
) -> str:
    sections = []
    for name, plan in grid.data.items():
        own = [row for row in rows if row.data == name]
        if own:
            sections.append(
                (plan.label, _about(own), epsilon_curves(own), [(row, _values(row)) for row in own])
            )
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return pages.get_template("use.html.jinja").render(
        title=grid.title,
        facts=facts,
        columns=_COLUMNS,
        sections=sections,
        families=_families(grid, rows),
        failed=failed,
        quotable=grid.tested_on == "held-out",
    )


def _families(grid: Grid, rows: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """Figures against the number of subjects, by the family of phantoms; only where there are two numbers."""
    found = []
    for family in dict.fromkeys(plan.family for plan in grid.data.values() if plan.family):
        own = [row for row in rows if grid.data[row.data].family == family]
        if len({row.training_subjects for row in own}) > 1:
            places = sorted({row.curve for row in own if row.privacy == "private"})
            figures = [subject_curves(grid, rows, family=family, epsilon=place) for place in places]
            found.append((family, [figure for figure in figures if figure]))
    return found


def _about(rows: Sequence[Summary]) -> str:
    return f"{rows[0].training_subjects} subjects train, {rows[0].subjects} are tested on."


def _values(row: Summary) -> list[str]:
    return [
        row.label,
        row.sentence,
        f"{row.dice:.3f}",
        f"{row.interval[0]:.3f} to {row.interval[1]:.3f}",
        f"{row.by_seed[0]:.3f} to {row.by_seed[1]:.3f}",
        "-" if row.share_of_real is None else f"{100 * row.share_of_real:.0f} %",
        _difference(row.over_prior),
        _difference(row.over_null),
        f"{row.hd95:.2f} {'mm' if row.hd95_unit == 'mm' else 'px'}",
        f"{row.cldice:.3f}",
        str(row.seeds),
        f"{row.cpu_s:.0f}",
    ]


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    return f"{found.dice:+.3f} ({found.interval[0]:+.3f} to {found.interval[1]:+.3f})"
