"""Charts of the report: each drawn for a light page and for a dark one, as SVG on the page itself."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from willis.server.checkpoint import RoundRecord
from willis.server.report.ledger import ledger_sites
from willis.server.report.pictures import uri
from willis.shared.likeness.rows import LikenessRows
from willis.shared.metrics.sheet import ScoreSheet
from willis.shared.privacy import PrivacyBudget

_MOST_NAMES = 12  # sites in a legend
_MOST_LETTERS = 40  # of a name in a chart
_LETTERS_ACROSS = 46  # that a legend has room for
_LINE = 20  # letters of a figure's name in one line
_BUDGET = "agreed budget"
_WIDTH = 4.6  # inches; on a phone the page shows it at three quarters


@dataclass(frozen=True)
class Chart:
    """One chart, twice.

    Attributes:
        light: For a light page, as a ``data:`` address.
        dark: For a dark one.
    """

    light: str
    dark: str


@dataclass(frozen=True)
class _Palette:
    ink: str
    soft: str
    series: tuple[str, ...]


# Colours tell apart for most who see few colours (after Okabe and Ito), lighter on the dark page.
_LIGHT = _Palette("#1c2530", "#5a6675", ("#00735c", "#b84a00", "#0067a8", "#8f3b76", "#7a6200", "#44505e"))
_DARK = _Palette("#e6eaef", "#a5b1bf", ("#55c7b5", "#f0955f", "#6db8ee", "#d990c0", "#e0c04a", "#b9c2cc"))


def epsilon_chart(records: Sequence[RoundRecord], plan: PrivacyBudget) -> Chart | None:
    """Return what each site had spent after each round; None where no site has told."""
    sites = ledger_sites(records)
    if not sites:
        return None
    named = short_names(sites) if len(sites) <= _MOST_NAMES else ()
    longest = max((len(name) for name in named), default=0)
    columns = min(3, max(1, _LETTERS_ACROSS // (max(longest, len(_BUDGET)) + 4)))

    def draw(axes: Axes, palette: _Palette) -> None:
        for at, site in enumerate(sites):
            points = [
                (record.round, record.spent[site].epsilon) for record in records if site in record.spent
            ]
            width = 1.5 + 7 * (len(sites) - 1 - at) / len(sites)  # equal curves lie on one another: all show
            style = {"color": palette.series[at % len(palette.series)], "linewidth": width, "marker": "o"}
            label = named[at] if named else None
            axes.plot(*zip(*points, strict=True), markersize=1.6 * width, label=label, **style)
        axes.axhline(plan.epsilon, color=palette.soft, linestyle="--", linewidth=1.2, label=_BUDGET)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round", color=palette.soft)
        kind = f"unit {plan.unit.value},\n{plan.relation.value}"
        axes.set_ylabel(f"epsilon at delta {plan.delta:g},\n{kind}", color=palette.soft)
        if named:
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": columns}
            axes.legend(frameon=False, labelcolor=palette.ink, **place)

    return _chart(draw, height=3.2 + 0.24 * -(-(len(named) + 1) // columns))


def score_chart(scores: ScoreSheet | None) -> Chart | None:
    """Return the Dice of each row as a bar, its interval, ceiling and floor; None without scores."""
    if scores is None:
        return None
    rows = scores.rows[::-1]
    names = short_names([row.name for row in scores.rows])[::-1]
    bounds = [row.dice for row in rows if row.name in ("real", "prior")]

    def draw(axes: Axes, palette: _Palette) -> None:
        axes.barh(range(len(rows)), [row.dice for row in rows], color=palette.series[0], height=0.5)
        axes.set_yticks(range(len(rows)), names)
        for bound in bounds:
            axes.axvline(bound, color=palette.soft, linestyle=":", linewidth=1.2, zorder=0)
        for at, row in enumerate(rows):
            axes.plot(row.dice_interval, (at, at), color=palette.series[1], linewidth=3.5)
            right = max(row.dice, row.dice_interval[1]) + 0.015
            axes.text(right, at, f"{row.dice:.3f}", va="center", color=palette.ink)
        axes.set_xlim(0, 1.12)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel("Dice", color=palette.soft)

    return _chart(draw, height=1.0 + 0.45 * len(rows))


def likeness_chart(rows: LikenessRows | None) -> Chart | None:
    """Return every figure of the synthetic patches on the way from the prior's (0) to the real ones' (1).

    Figures whose floor is their ceiling have no such way and are left to the table; None where none has.
    """
    ways = rows.ways() if rows is not None else {}
    if not ways:
        return None
    names = [fill(name, _LINE) for name in short_names(list(ways))][::-1]
    lines = range(len(names))

    def draw(axes: Axes, palette: _Palette) -> None:
        shown = np.clip(list(ways.values())[::-1], -0.5, 1.5)
        axes.hlines(lines, 0, shown, color=palette.series[0], linewidth=2)
        axes.plot(shown, lines, "o", color=palette.series[0], markersize=8)
        axes.set_yticks(lines, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        for bound in (0, 1):
            axes.axvline(bound, color=palette.soft, linestyle=":", linewidth=1.2, zorder=0)
        axes.set_xlim(-0.6, 1.6)
        axes.set_xticks([-0.5, 0, 0.5, 1, 1.5], ["", "floor\n(prior)", "half", "ceiling\n(real)", ""])

    return _chart(draw, height=1.1 + 0.46 * len(names))


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that a chart has room for, in their order; the table beside it has them whole.

    A long name loses its middle. Names that are alike without it keep apart by their number in the order.
    """
    cut = [_short(name) for name in names]
    return tuple(f"{at}. {name}" if cut.count(name) > 1 else name for at, name in enumerate(cut, start=1))


def _short(name: str) -> str:
    half = _MOST_LETTERS // 2
    return name if len(name) <= _MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"


def _chart(draw: Callable[[Axes, _Palette], None], *, height: float) -> Chart:
    return Chart(*(_svg(draw, palette, height) for palette in (_LIGHT, _DARK)))


def _svg(draw: Callable[[Axes, _Palette], None], palette: _Palette, height: float) -> str:
    """Draw an SVG, transparent, without a date: the same bytes for the same run."""
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "willis", "text.parse_math": False, "font.size": 11.5}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        axes.tick_params(colors=palette.soft, labelcolor=palette.ink)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(palette.soft)
        draw(axes, palette)
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    return uri("image/svg+xml", data.getvalue())
