"""The bench's curves: Dice against epsilon for a data set, against the number of subjects for phantoms."""

import base64
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from willis.simulations.benchmarks.use.grid import Grid
from willis.simulations.benchmarks.use.summary import Summary

_GREY = "#7d8793"  # legible on a light page and on a dark one
_COLOURS = ("#2a9d8f", "#e76f51", "#5b8def", "#b07aa1", "#d9a21b", "#4aa3c4", "#c05780", "#7f8c8d")
_MARKS = "osD^vPX*"
_LINES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))  # of rows that have no epsilon to choose


def epsilon_curves(rows: Sequence[Summary]) -> str:
    """Return one data set's figure as an SVG: Dice against epsilon, flat lines for what has none.

    Args:
        rows: Of one data set.

    Returns:
        A ``data:`` address; empty where no row has an epsilon.
    """
    places = sorted({row.curve for row in rows if row.privacy == "private"})
    if not places:
        return ""
    axis = [
        *places,
        *([math.inf] if any(_moves(row, rows) and math.isinf(row.curve) for row in rows) else []),
    ]
    figure, axes = _figure()
    curves, flat = _split(rows)
    for at, (label, points) in enumerate(curves.items()):
        _curve(axes, at, label, [(axis.index(row.curve), row) for row in points if row.curve in axis])
    for at, row in enumerate(flat):
        _level(axes, at, row)
    axes.set_xticks(range(len(axis)), [_epsilon(place) for place in axis])
    axes.set_xlim(-0.3, max(len(axis) - 0.7, 0.7))
    units = " and ".join(sorted({row.unit.value for row in rows if row.privacy == "private"}))
    axes.set_xlabel(f"epsilon (unit {units}; delta and relation in the table)", color=_GREY)
    return _finished(figure, axes)


def subject_curves(grid: Grid, rows: Sequence[Summary], *, family: str, epsilon: float) -> str:
    """Return one family of phantoms as an SVG: Dice against the subjects that train, at one epsilon.

    Rows without an epsilon stand beside as broken lines.
    """
    own = [row for row in rows if grid.data[row.data].family == family]
    wanted = [row for row in own if row.privacy == "private" and row.curve == epsilon]
    if not wanted:
        return ""
    figure, axes = _figure()
    curves: defaultdict[str, list[tuple[float, Summary]]] = defaultdict(list)
    levels: defaultdict[str, list[tuple[float, Summary]]] = defaultdict(list)
    for row in own:
        flat = row.privacy == "public" or (row.privacy == "not private" and not _moves(row, own))
        target = curves if row in wanted else levels if flat else None
        if target is not None:
            target[row.label].append((row.training_subjects, row))
    for at, (label, points) in enumerate(curves.items()):
        _curve(axes, at, label, sorted(points, key=lambda point: point[0]))
    for at, (label, points) in enumerate(levels.items()):
        points.sort(key=lambda point: point[0])
        xs, ys = [x for x, _ in points], [row.dice for _, row in points]
        axes.plot(xs, ys, color=_GREY, linestyle=_LINES[at % len(_LINES)], marker=".", label=label)
    axes.set_xscale("log")
    numbers = sorted({row.training_subjects for row in own})
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel(f"training subjects, all sites together, at epsilon {_epsilon(epsilon)}", color=_GREY)
    return _finished(figure, axes)


def _split(rows: Sequence[Summary]) -> tuple[Mapping[str, list[Summary]], list[Summary]]:
    """Divide rows into curves over epsilon, by label and unit, and levels."""
    curves: defaultdict[str, list[Summary]] = defaultdict(list)
    flat = []
    for row in rows:
        if _moves(row, rows):
            unit = "" if row.unit.value == "subject" else f" (unit {row.unit.value})"
            curves[row.label + unit].append(row)
        else:
            flat.append(row)
    for points in curves.values():
        points.sort(key=lambda row: row.curve)
    return curves, flat


def _moves(row: Summary, rows: Sequence[Summary]) -> bool:
    """Whether a row has a private point: then its noise-off point is the end of a curve."""
    same = (other for other in rows if (other.row, other.real_subjects) == (row.row, row.real_subjects))
    return any(other.privacy == "private" for other in same)


def _curve(axes: Axes, at: int, label: str, points: Sequence[tuple[float, Summary]]) -> None:
    colour, mark = _COLOURS[at % len(_COLOURS)], _MARKS[at % len(_MARKS)]
    xs = [x for x, _ in points]
    axes.plot(xs, [row.dice for _, row in points], color=colour, marker=mark, linewidth=1.8, label=label)
    low, high = ([row.interval[end] for _, row in points] for end in (0, 1))
    axes.vlines(xs, low, high, color=colour, alpha=0.5, linewidth=1.2)
    axes.fill_between(xs, low, high, color=colour, alpha=0.13, linewidth=0)


def _level(axes: Axes, at: int, row: Summary) -> None:
    style = _LINES[at % len(_LINES)]
    colour = _GREY if at < len(_LINES) else _COLOURS[-(at % len(_COLOURS)) - 1]
    axes.axhline(row.dice, color=colour, linestyle=style, linewidth=1.3, label=row.label)


def _epsilon(value: float) -> str:
    return "noise off\n(not private)" if math.isinf(value) else f"{value:g}"


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(colors=_GREY)
    axes.set_ylabel("Dice (band: 95 % over subjects)", color=_GREY)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)
    return figure, axes


def _finished(figure: Figure, axes: Axes) -> str:
    axes.legend(frameon=False, labelcolor=_GREY, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "willis"}):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue()).decode()}"
