"""Pictures of an experiment: curves, and grids of samples, each image above its label."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from PIL import Image

from willis.shared.patch import LabelledPatches
from willis.shared.prior.gallery import picture_of
from willis.simulations.experiments.experiment import Figure

_GREY = "#7d8793"  # legible on a light page and on a dark one
_COLOURS = ("#2a9d8f", "#e76f51", "#5b8def", "#b07aa1", "#d9a21b", "#4aa3c4", "#c05780", "#7f8c8d")
_MARKS = "osD^vPX*"
_SMALLEST = 720  # pixels a grid is wide, so that its pixels are seen as squares


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Attributes:
        label: In the legend.
        points: (x, y), or (x, y, low, high) with an interval; an infinite x stands at the right end.
    """

    label: str
    points: tuple[tuple[float, ...], ...]


def curves(
    name: str,
    title: str,
    caption: str,
    *,
    lines: Sequence[Curve],
    x: str,
    y: str,
    levels: Sequence[tuple[str, float]] = (),
) -> Figure:
    """Draw curves over a few values of x, which stand at equal distances, as words.

    Args:
        name: Of the figure's file.
        title: Above it.
        caption: What it shows.
        lines: The curves; at least one point in all.
        x: What x is, with its unit.
        y: What y is, with its unit.
        levels: Broken lines at one height: label and y.

    Raises:
        ValueError: There is no point.
    """
    places = sorted({point[0] for line in lines for point in line.points})
    if not places:
        raise ValueError(f"figure {name} has no point; leave it out")
    sheet, axes = _sheet()
    for at, line in enumerate(lines):
        _draw(axes, line, places, colour=_COLOURS[at % len(_COLOURS)], mark=_MARKS[at % len(_MARKS)])
    for at, (label, height) in enumerate(levels):
        axes.axhline(height, color=_GREY, linestyle=("--", ":", "-.")[at % 3], linewidth=1.2, label=label)
    axes.set_xticks(range(len(places)), ["infinity" if math.isinf(one) else f"{one:g}" for one in places])
    axes.set_xlabel(x, color=_GREY)
    axes.set_ylabel(y, color=_GREY)
    axes.legend(frameon=False, labelcolor=_GREY, fontsize=8)
    data = io.BytesIO()
    sheet.savefig(data, format="png", dpi=130, transparent=True, metadata={"Software": None})
    return Figure(name, title, caption, data.getvalue())


def sample_grid(name: str, title: str, caption: str, patches: LabelledPatches, *, columns: int = 8) -> Figure:
    """Draw patches: every image channel below the one before, and the label at the bottom.

    Patches of 3-D are shown by the slice that holds most of the label, else the middle one.

    Args:
        name: Of the figure's file.
        title: Above it.
        caption: What it shows.
        patches: (patch, channel, *space) within [-1, 1], the label last; at least one.
        columns: Patches in a row.

    Raises:
        ValueError: For no patches, no columns, or a shape that is not 2-D or 3-D.
    """
    picture = picture_of(patches, columns=columns)
    scale = max(1, math.ceil(_SMALLEST / picture.width))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    return Figure(name, title, caption, data.getvalue())


def _draw(axes: Axes, line: Curve, places: Sequence[float], *, colour: str, mark: str) -> None:
    points = sorted(line.points, key=lambda point: point[0])
    xs = [places.index(point[0]) for point in points]
    axes.plot(xs, [point[1] for point in points], color=colour, marker=mark, linewidth=1.8, label=line.label)
    for at, point in zip(xs, points, strict=True):
        if len(point) == 4:
            axes.vlines(at, point[2], point[3], color=colour, alpha=0.5, linewidth=1.2)


def _sheet() -> tuple[Sheet, Axes]:
    sheet = Sheet(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(colors=_GREY)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)
    return sheet, axes
