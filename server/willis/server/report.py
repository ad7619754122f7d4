"""One offline page about a run: privacy spent, use gained, what it draws, what not to conclude.

It reads a run's folder and says what is missing there. Every picture is of the release or of the public
prior; nothing of a patient is on the page, and no subject's own score.
"""

import base64
import io
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy import ndarray

from willis.server.checkpoint import RoundRecord
from willis.shared.errors import StateError
from willis.shared.metrics_sheet import ScoreSheet, read_scores
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.privacy import PrivacySpent, PrivacyUnit
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.settings import parse
from willis.shared.study import Study, read_study
from willis.shared.synthesis import draw_pairs
from willis.shared.whole_file import check_place, write_whole

_PAIRS = 16
_MOST_ROUNDS = 200  # lines of the table of rounds
_LEAST_SIDE = 96  # screen pixels of a picture's side
_MARK = np.array([1.0, 0.45, 0.2])  # colour of a label
_GREY = "#7d8793"  # legible on a light page and on a dark one
_COLOURS = ("#2a9d8f", "#e76f51", "#5b8def", "#b07aa1", "#d9a21b", "#7f8c8d")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunFindings:
    """What a run's folder holds.

    Attributes:
        study: As run.
        rounds: Every round that ended, merged or not.
        release: None where nothing is released yet.
        scores: None where nothing was judged yet.
    """

    study: Study
    rounds: tuple[RoundRecord, ...]
    release: GeneratorRelease | None
    scores: ScoreSheet | None

    def spent(self) -> dict[str, PrivacySpent]:
        """Return what every site has paid: as released, else as of its last answer."""
        if self.release is not None:
            return {site: self.release.sites[site].spent for site in sorted(self.release.sites)}
        last = {site: figure for record in self.rounds for site, figure in record.spent.items()}
        return dict(sorted(last.items()))

    def scores_are_of_the_release(self) -> bool:
        """Return whether the scores name the very cost of the release that lies beside them."""
        if self.release is None or self.scores is None:
            return False
        judged = self.scores.privacy.model_dump(exclude={"per_site"})
        return judged == self.release.spent.model_dump()


def read_run(run: Path) -> RunFindings:
    """Read a run's folder; only ``study.toml`` must be there.

    Raises:
        StateError: ``metrics.jsonl`` or ``scores.json`` does not fit.
        StudyError: ``study.toml`` is missing or does not fit.
        ReleaseError: The release is damaged.
    """
    release, scores = run / "release", run / "scores.json"
    return RunFindings(
        study=read_study(run / "study.toml"),
        rounds=_read_rounds(run / "metrics.jsonl"),
        release=read_release(release) if release.exists() else None,
        scores=read_scores(scores) if scores.exists() else None,
    )


def write_report(run: Path, out: Path) -> RunFindings:
    """Write the page of a run's folder.

    Args:
        run: The run's folder.
        out: The HTML file; what was there is replaced, as a whole.

    Returns:
        What the page tells.

    Raises:
        WillisError: As :func:`read_run`; StateError where the page cannot be written, and before anything
            is read where its folder is missing.
    """
    check_place(out)
    found = read_run(run)
    write_whole(out, render(found).encode())
    return found


def render(found: RunFindings) -> str:
    """Return the page: one HTML file without a link to anything outside it."""
    plan, release = found.study.privacy, found.release
    spent = found.spent()
    budget = f"epsilon {plan.epsilon:g} at delta {plan.delta:g}, unit {plan.unit.value}, "
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return pages.get_template("report.html.jinja").render(
        study=found.study,
        run=release.sheet.run if release else "",
        merged=max((record.round for record in found.rounds if record.merged), default=0),
        network=release.spent if release else None,
        spent=spent,
        patch_unit=plan.unit is PrivacyUnit.PATCH,
        budget=f"{budget}neighbours {plan.relation.value}",
        rounds=found.rounds[-_MOST_ROUNDS:],
        left_out=max(0, len(found.rounds) - _MOST_ROUNDS),
        release=release,
        scores=found.scores,
        of_this_release=found.scores_are_of_the_release(),
        samples=_samples(found),
        figures={"epsilon": _epsilon_figure(found), "scores": _score_figure(found.scores)},
        version=version("willis"),
    )


def _read_rounds(path: Path) -> tuple[RoundRecord, ...]:
    """Read the records; a last line without an end is still being written, and left aside."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return tuple(
        parse(_json(line, f"{path}, line {at}"), RoundRecord, where=f"{path}, line {at}", error=StateError)
        for at, line in enumerate(lines, start=1)
        if line.endswith("\n")
    )


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise StateError(
            f"{where} is not valid JSON; restore it, or remove it to go on without it"
        ) from fault


def _samples(found: RunFindings) -> list[tuple[str, str, list[str]]]:
    """Title, note and pictures of what the release draws, and of what the prior does."""
    study, samples = found.study, []
    if found.release is not None:
        drawn = draw_pairs(found.release, n=_PAIRS, seed=study.seed, device="cpu")
        note = f"Drawn from the release with seed {study.seed}, the first {_PAIRS}, not selected."
        samples.append(("Synthetic", note, _pictures(drawn)))
    prior = draw_prior(study, _PAIRS, purpose="report")
    note = f"Drawn from the study's public procedural prior, {study.prior.family.value}. It costs epsilon 0."
    return [*samples, ("Prior", note, _pictures(prior))]


def _pictures(patches: LabelledPatches) -> list[str]:
    if patches.ndim == 5:  # the middle slice along the first axis
        patches = patches[:, :, patches.shape[2] // 2]
    return [_picture(patch) for patch in patches.numpy()]


def _picture(patch: Float[ndarray, "channel row col"]) -> str:
    """One pair as a PNG, pixels enlarged: the image, and the image with its label in colour."""
    channels = patch[:3] if len(patch) == 4 else patch[[0, 0, 0]]
    image = (np.moveaxis(channels, 0, -1) + 1) / 2
    marked = np.where(patch[-1, ..., None] > 0, 0.35 * image + 0.65 * _MARK, image)
    gap = np.ones((len(image), 1, 3)) / 2
    factor = -(-_LEAST_SIDE // min(image.shape[:2]))
    pair = np.hstack([image, gap, marked]).repeat(factor, axis=0).repeat(factor, axis=1)
    data = io.BytesIO()
    imsave(data, np.clip(pair, 0, 1), format="png")
    return _uri("image/png", data.getvalue())


def _epsilon_figure(found: RunFindings) -> str:
    """What each site had spent after each round; empty where no site has told."""
    sites = sorted({site for record in found.rounds for site in record.spent})
    if not sites:
        return ""
    plan = found.study.privacy
    figure, axes = _figure(height=3.6)
    for at, site in enumerate(sites):
        points = [
            (record.round, record.spent[site].epsilon) for record in found.rounds if site in record.spent
        ]
        width = 1.5 + 2.5 * (len(sites) - 1 - at) / len(sites)  # equal curves lie on one another: all show
        style = {"color": _COLOURS[at % len(_COLOURS)], "linewidth": width, "marker": "o"}
        axes.plot(*zip(*points, strict=True), markersize=2 * width, label=site, **style)
    axes.axhline(plan.epsilon, color=_GREY, linestyle="--", linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round", color=_GREY)
    axes.set_ylabel(
        f"epsilon at delta {plan.delta:g}\nunit {plan.unit.value}, {plan.relation.value}", color=_GREY
    )
    if len(sites) <= 12:
        axes.legend(frameon=False, labelcolor=_GREY, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def _score_figure(scores: ScoreSheet | None) -> str:
    """Dice of each row as a bar with its interval; empty where nothing was judged."""
    if scores is None:
        return ""
    rows = scores.rows[::-1]
    figure, axes = _figure(height=0.9 + 0.42 * len(rows))
    axes.barh([row.name for row in rows], [row.dice for row in rows], color=_COLOURS[0], height=0.55)
    for at, row in enumerate(rows):
        axes.plot(row.dice_interval, (at, at), color=_COLOURS[1], linewidth=3, solid_capstyle="round")
        axes.text(
            max(row.dice, row.dice_interval[1]) + 0.015, at, f"{row.dice:.3f}", va="center", color=_GREY
        )
    axes.set_xlim(0, 1.08)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel("Dice", color=_GREY)
    return _svg(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(colors=_GREY)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an SVG, transparent, without a date: the same bytes for the same run."""
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "willis"}):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    return _uri("image/svg+xml", data.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
