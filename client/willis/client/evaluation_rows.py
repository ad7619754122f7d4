"""What the rows of an evaluation are trained on, and the evaluation of a release from end to end.

* ``synthetic``: drawn from the release;
* ``prior``: drawn from the study's public prior, epsilon 0: what the release must beat;
* ``real``: cut from real subjects: what the release stands in for;
* ``mixed``: half synthetic, half real: what the release adds where some real subjects are at hand.

Every row has ``study.use.synthetic_pairs`` patches, from public seeds. Real patches live in a temporary
folder for as long as they are needed, and never leave.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from willis.client.cohort import Cohort
from willis.client.evaluation import Progress, run_rows
from willis.client.store import build_store
from willis.shared.errors import CohortError, StateError
from willis.shared.metrics.sheet import ScoreSheet, write_scores
from willis.shared.networks.build import choose_device
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.release import GeneratorRelease
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs

Row = Literal["synthetic", "prior", "real", "mixed"]
ROWS: tuple[Row, ...] = get_args(Row)
NEEDS_REAL: frozenset[Row] = frozenset({"real", "mixed"})


def judge(
    release: GeneratorRelease,
    rows: Sequence[Row],
    *,
    test: Cohort,
    train: Cohort | None,
    out: Path,
    seeds: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ScoreSheet:
    """Train the U-nets of every row, test them on real subjects, write ``scores.json``.

    Args:
        release: What is judged; its study says how.
        rows: Which rows, in the order in which they are written.
        test: Subjects that trained nothing: neither a row nor, as far as the caller can know, the release.
        train: Real subjects for the rows ``real`` and ``mixed``.
        out: The file of scores.
        seeds: U-nets for each row; None takes the study's number.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: See :data:`~willis.client.evaluation.Progress`.

    Raises:
        ValueError: No row, an unknown one, or a real one without ``train``.
        CohortError: A subject or a file of ``test`` is in ``train`` too, or a scan cannot be used.
        Unreachable: CUDA is asked for and there is none.
        StateError: ``out`` cannot be written; a missing folder is seen before anything is trained.
    """
    if not out.parent.is_dir():
        raise StateError(
            f"cannot write {out}: there is no folder {out.parent}; make it, or name another file"
        )
    study = _with_seeds(release.study, seeds)
    chosen = choose_device(device)
    if train is not None:
        check_apart(train, test)
    patches = training_patches(release, rows, train=train, device=device)
    found = run_rows(patches, test=test, study=study, device=chosen, progress=progress)
    per_site = {name: site.spent for name, site in release.sites.items()}
    return write_scores(out, found, privacy=release.spent, per_site=per_site)


def training_patches(
    release: GeneratorRelease, rows: Sequence[Row], *, train: Cohort | None, device: str = "auto"
) -> dict[str, LabelledPatches]:
    """Return the training patches of every row, by its name; see the module.

    Raises:
        ValueError: As :func:`judge`.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown or not rows:
        raise ValueError(f"rows must be some of {', '.join(ROWS)}, got {', '.join(unknown) or 'none'}")
    study, n = release.study, release.study.use.synthetic_pairs
    patches: dict[Row, LabelledPatches] = {}
    if "prior" in rows:
        patches["prior"] = draw_prior(study, n, purpose="evaluation")
    if {"synthetic", "mixed"} & set(rows):
        patches["synthetic"] = draw_pairs(release, n=n, seed=study.seed + 1, device=device)
    if NEEDS_REAL & set(rows):
        if train is None:
            raise ValueError(f"the rows {' and '.join(sorted(NEEDS_REAL))} need real training subjects")
        patches["real"] = real_patches(train, study)
    if "mixed" in rows:
        patches["mixed"] = torch.cat([patches["synthetic"][: n // 2], patches["real"][: n - n // 2]])
    return {name: patches[name] for name in rows}


def real_patches(train: Cohort, study: Study) -> LabelledPatches:
    """Draw as many patches of real training subjects as the other rows have; they never leave.

    Raises:
        CohortError: Some subject's scans cannot be used.
    """
    n = study.use.synthetic_pairs
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(_some(train, n, study.seed), study.patch, Path(folder), seed=study.seed)
        return store.sample(n, np.random.default_rng(study.seed))


def check_apart(train: Cohort, test: Cohort) -> None:
    """Refuse a test on subjects, or on files, that train.

    Raises:
        CohortError: Naming every subject that is in both; it stays at the site.
    """
    names = {subject.name for subject in train.subjects}
    files = {file for subject in train.subjects for file in _files(subject.scans)}
    problems = [
        f"{subject.name}: {'in both tables' if subject.name in names else 'a file of it is in both tables'}"
        for subject in test.subjects
        if subject.name in names or files & _files(subject.scans)
    ]
    if problems:
        raise CohortError(f"{len(problems)} test subjects train too; test on others", problems)


def _files(scans: Sequence) -> set[Path]:
    return {path.resolve() for scan in scans for path in (scan.image, scan.label) if path is not None}


def _some(cohort: Cohort, most: int, seed: int) -> Cohort:
    """Return no more subjects than there are patches wanted."""
    if len(cohort) <= most:
        return cohort
    chosen = np.sort(np.random.default_rng(seed).choice(len(cohort), most, replace=False))
    return Cohort(tuple(cohort.subjects[index] for index in chosen))


def _with_seeds(study: Study, seeds: int | None) -> Study:
    if seeds is None:
        return study
    use = study.use.model_validate(study.use.model_dump() | {"seeds": seeds})
    return study.model_copy(update={"use": use})
