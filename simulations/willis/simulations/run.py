"""A whole study on one machine: hospitals, rounds, release, draws, scores, report; one folder, resumable."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from flwr.app import UserConfig

from willis.client.app import app as client_app
from willis.client.evaluation_rows import Row, judge
from willis.server.checkpoint import RoundRecord, latest_round
from willis.server.publishing import publish
from willis.server.report.page import write_report
from willis.server.rounds import run_rounds
from willis.shared.errors import StateError
from willis.shared.mechanism import mechanism_of
from willis.shared.metrics.sheet import ScoreSheet, read_scores
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.study import Study, read_study
from willis.shared.synthesis import export_pairs
from willis.shared.update import Arrays
from willis.simulations.hospitals import Hospitals, prepare, prepared, survey
from willis.simulations.likeness_of_run import compare_likeness
from willis.simulations.local_grid import LocalGrid
from willis.simulations.process_engine import run_with_processes
from willis.simulations.progress import Show
from willis.simulations.ray_engine import run_with_ray

Engine = Literal["local", "ray", "processes"]
_EXPORTED = 200  # synthetic pairs written as files; `willis synthesize` draws any number
_ROWS: tuple[Row, ...] = ("real", "synthetic", "prior")


@dataclass(frozen=True)
class Outcome:
    """What a simulation leaves.

    Attributes:
        folder: The run's folder.
        release: The generator.
        scores: Use on held-out subjects; None where the evaluation was left out.
    """

    folder: Path
    release: GeneratorRelease
    scores: ScoreSheet | None


def simulate(
    study_path: Path,
    *,
    out: Path,
    cohort: Path | None = None,
    virtual: int = 0,
    engine: Engine = "local",
    resume: bool = False,
    evaluate: bool = True,
    workers: int = 2,
    show: Show | None = None,
) -> Outcome:
    """Run a study from its hospitals to its report.

    Steps, each skipped on ``resume`` where it ended before:
        1. Hospitals: cohorts, held-out subjects, patches (:mod:`~willis.simulations.hospitals`).
        2. Rounds, by the same two Flower apps in every engine.
        3. The release, and some pairs drawn from it.
        4. U-nets on synthetic, prior and real patches, tested on held-out subjects; likeness to them.
        5. The report.

    Args:
        study_path: The study's TOML.
        out: The run's folder; new or empty unless ``resume``.
        cohort: Real subjects.
        virtual: Number of virtual sites.
        engine: ``local`` in this process; ``ray`` under ``flwr run`` with Flower's simulation engine;
            ``processes`` with a real hub and real sites.
        resume: Continue the run in ``out``.
        evaluate: Whether to take step 4.
        workers: Sites that train at the same time in the local engine, one thread each.
        show: For progress.

    Raises:
        StateError: ``out`` holds another run, or one that ``resume`` was not given for.
        WillisError: What any step raises.
    """
    show = show or Show(quiet=True)
    study = read_study(study_path)
    mechanism_of(study, steps=1)  # whatever cannot train is refused before anything is written
    initial = None if resume else recipe_of(study).start()
    _check_free(study, out, resume=resume)
    hospitals = prepared(study, out) if resume else None
    if hospitals is None:
        found = survey(study, cohort=cohort, virtual=virtual)  # refused before anything is written
        _claim(study_path, study, out)
        hospitals = prepare(study, out, found, show=show)
    release = _released(out) if resume else None
    if release is None:
        _train(study, out, hospitals, initial=initial, engine=engine, workers=workers, show=show)
        release = _released(out) or publish(out, study)
    if not (out / "synthetic").exists():
        export_pairs(release, out / "synthetic", n=_EXPORTED, seed=study.seed, form="nnunet")
    scores = _evaluate(release, hospitals, out=out, resume=resume, show=show) if evaluate else None
    write_report(out, out / "report.html")
    return Outcome(out, release, scores)


def _evaluate(
    release: GeneratorRelease, hospitals: Hospitals, *, out: Path, resume: bool, show: Show
) -> ScoreSheet:
    judged = resume and (out / "scores.json").exists()
    scores = read_scores(out / "scores.json") if judged else _judge(release, hospitals, out=out, show=show)
    if not (judged and (out / "likeness.json").exists()):
        _compare(release, hospitals, out=out, show=show)
    return scores


def _judge(release: GeneratorRelease, hospitals: Hospitals, *, out: Path, show: Show) -> ScoreSheet:
    study = release.study
    with show.task("training and testing U-nets") as advance:
        done_of: dict[str, int] = {}
        steps = len(_ROWS) * study.use.seeds * study.use.unet_steps + len(hospitals.held_out)

        def progress(title: str, done: int, _of: int) -> None:
            done_of[title] = done
            advance(sum(done_of.values()), steps)

        return judge(
            release,
            _ROWS,
            test=hospitals.held_out,
            train=hospitals.training,
            out=out / "scores.json",
            device=study.training.device,
            progress=progress,
        )


def _compare(release: GeneratorRelease, hospitals: Hospitals, *, out: Path, show: Show) -> None:
    with show.task("comparing synthetic and real patches"):
        rows = compare_likeness(release, hospitals, out=out / "likeness.json")
    if rows is None:
        show.say(f"held-out subjects have too few patches to compare: no {out / 'likeness.json'}")


def _check_free(study: Study, out: Path, *, resume: bool) -> None:
    kept = out / "study.toml"
    if kept.exists():
        if not resume:
            raise StateError(f"{out} already holds a run; --resume continues it, or name another folder")
        if read_study(kept).digest() != study.digest():
            raise StateError(f"{out} holds a run of another study; resume with its own {kept}")
        return
    own = {".study.part", "study.sha256"}  # all that a run killed here leaves
    if out.exists() and {path.name for path in out.iterdir()} - own:
        raise StateError(f"{out} is not empty and holds no run; name another folder")


def _claim(study_path: Path, study: Study, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.sha256").write_text(study.digest() + "\n", encoding="utf-8")
    shutil.copyfile(study_path, out / ".study.part")
    (out / ".study.part").replace(out / "study.toml")


def _released(out: Path) -> GeneratorRelease | None:
    return read_release(out / "release") if (out / "release").exists() else None


def _train(
    study: Study,
    out: Path,
    hospitals: Hospitals,
    *,
    initial: Arrays | None,
    engine: Engine,
    workers: int,
    show: Show,
) -> None:
    resume = latest_round(out / "server") is not None
    total = study.training.rounds
    with show.task(f"rounds of {len(study.federation.sites)} sites") as advance:
        if engine == "ray":
            advance(0, total)
            run_with_ray(out / "study.toml", out, sites=hospitals.folder, resume=resume)
            advance(total, total)
            return

        def on_round(record: RoundRecord) -> None:
            advance(record.round, total)

        if engine == "processes":
            advance(0, total)
            run_with_processes(
                out / "study.toml", out, sites=hospitals.folder, resume=resume, on_round=on_round
            )
            return
        nodes: list[UserConfig] = [
            {"site-settings": str(hospitals.folder / site.name / "site.toml")}
            for site in study.federation.sites
        ]

        advance(0, total)
        threads = torch.get_num_threads()
        try:
            run_rounds(
                LocalGrid(client_app, nodes, workers=workers),
                study,
                folder=out,
                initial=recipe_of(study).start() if initial is None else initial,
                resume=resume,
                on_round=on_round,
            )
        finally:
            torch.set_num_threads(threads)  # sites train on one thread each
