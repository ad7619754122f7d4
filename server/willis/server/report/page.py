"""One offline page about a run: privacy spent, use gained, what it draws, what not to conclude.

It reads a run's folder and says what is missing there. Every picture is of the release or of the public
prior; nothing of a patient is on the page, and no subject's own score. The page loads nothing: its only
scripts are the viewer's, and the browser is told to run no other, by their digests.
"""

import base64
import hashlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup

from willis.server.checkpoint import RoundRecord, read_metrics
from willis.server.report.card import card_of
from willis.server.report.figures import epsilon_chart, likeness_chart, score_chart
from willis.server.report.ledger import ledger_rows, ledger_sites
from willis.server.report.pictures import Samples, pictures_of
from willis.server.report.volumes import ViewedVolume, viewed_volumes
from willis.shared.likeness.rows import LikenessRows, read_likeness
from willis.shared.metrics.sheet import ScoreSheet, read_scores
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.privacy import PrivacySpent, PrivacyUnit
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.study import Study, read_study
from willis.shared.synthesis import draw_pairs
from willis.shared.whole_file import check_place, write_whole

_PAIRS = 16
_MOST_ROUNDS = 200  # lines of the tables of rounds
_TEMPLATES = Path(__file__).with_name("templates")
_NIIVUE = "niivue-0.69.0"


@dataclass(frozen=True, eq=False, kw_only=True)
class RunFindings:
    """What a run's folder holds.

    Attributes:
        study: As run.
        rounds: Every round that ended, merged or not.
        release: None where nothing is released yet.
        scores: None where nothing was judged yet.
        likeness: None where nothing was compared with real patches.
    """

    study: Study
    rounds: tuple[RoundRecord, ...]
    release: GeneratorRelease | None
    scores: ScoreSheet | None
    likeness: LikenessRows | None = None

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
        StateError: ``metrics.jsonl``, ``scores.json`` or ``likeness.json`` does not fit.
        StudyError: ``study.toml`` is missing or does not fit.
        ReleaseError: The release is damaged.
    """
    release, scores, likeness = run / "release", run / "scores.json", run / "likeness.json"
    return RunFindings(
        study=read_study(run / "study.toml"),
        rounds=read_metrics(run / "metrics.jsonl"),
        release=read_release(release) if release.exists() else None,
        scores=read_scores(scores) if scores.exists() else None,
        likeness=read_likeness(likeness) if likeness.exists() else None,
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
    budget = f"epsilon {plan.epsilon:g} at delta {plan.delta:g}, unit {plan.unit.value}, "
    drawn = _drawn(found)
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template("report.html.jinja").render(
        study=found.study,
        run=release.sheet.run if release else "",
        merged=max((record.round for record in found.rounds if record.merged), default=0),
        network=release.spent if release else None,
        spent=found.spent(),
        patch_unit=plan.unit is PrivacyUnit.PATCH,
        budget=f"{budget}neighbours {plan.relation.value}",
        rounds=found.rounds[-_MOST_ROUNDS:],
        ledger=ledger_rows(found.rounds, plan)[-_MOST_ROUNDS:],
        ledger_sites=ledger_sites(found.rounds),
        left_out=max(0, len(found.rounds) - _MOST_ROUNDS),
        release=release,
        scores=found.scores,
        of_this_release=found.scores_are_of_the_release(),
        way=_way(found.scores),
        likeness=found.likeness,
        samples=_samples(found, drawn),
        **_viewer(found, drawn),
        charts={
            "epsilon": epsilon_chart(found.rounds, plan),
            "scores": score_chart(found.scores),
            "likeness": likeness_chart(found.likeness),
        },
        card=card_of(release.folder) if release else Markup(""),
        version=version("willis"),
    )


def _drawn(found: RunFindings) -> LabelledPatches | None:
    if found.release is None:
        return None
    return draw_pairs(found.release, n=_PAIRS, seed=found.study.seed, device="cpu")


def _samples(found: RunFindings, drawn: LabelledPatches | None) -> list[Samples]:
    """What the release draws, and what the prior does."""
    study, samples = found.study, []
    if drawn is not None:
        note = f"Drawn from the release with seed {study.seed}, the first {_PAIRS}, not selected."
        samples.append(Samples("Synthetic", note, pictures_of(drawn)))
    prior = draw_prior(study, _PAIRS, purpose="report")
    note = f"Drawn from the study's public procedural prior, {study.prior.family.value}. It costs epsilon 0."
    return [*samples, Samples("Prior", note, pictures_of(prior))]


def _way(scores: ScoreSheet | None) -> float | None:
    """Return how far the synthetic row's Dice is from the prior's (0) to the real row's (1).

    None where a row lacks, or the ceiling is not above the floor.
    """
    dice = {row.name: row.dice for row in scores.rows} if scores is not None else {}
    if not {"real", "synthetic", "prior"} <= dice.keys() or dice["real"] <= dice["prior"]:
        return None
    return (dice["synthetic"] - dice["prior"]) / (dice["real"] - dice["prior"])


def _viewer(found: RunFindings, drawn: LabelledPatches | None) -> dict[str, object]:
    """What the template needs for the viewer: volumes, scripts, and the digests of these scripts."""
    volumes: tuple[ViewedVolume, ...] = ()
    if drawn is not None:
        volumes = viewed_volumes(drawn, found.study.patch, title="Synthetic")
    scripts = [_script(name) for name in (f"{_NIIVUE}.umd.js", "report-viewer.js") if volumes]
    return {
        "volumes": [asdict(volume) for volume in volumes],
        "scripts": scripts,
        "digests": [_digest(script) for script in scripts],
        "viewer_licence": (_TEMPLATES / f"{_NIIVUE}.LICENSE.txt").read_text(encoding="utf-8"),
    }


def _script(name: str) -> Markup:
    """Read a script of the page; none of a run's values is in it."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _digest(script: str) -> str:
    """Return what a Content-Security-Policy calls a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
