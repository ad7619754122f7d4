"""Real subjects for the examples beside this file: from tables that you name, and their scans.

Who tests is yours to say. After ``willis simulate`` the run's folder has both tables, ``training.csv`` and
``held_out.csv``. In a federation every subject of a site's table trains: who was left out of it can test.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from willis.client.cohort import Cohort, Subject, read_cohort
from willis.client.evaluation_rows import check_apart
from willis.client.patches import load_subject
from willis.shared.patch import PatchSpec
from willis.shared.synthetic_pairs import SyntheticPairs

UNPAID = "These are scores on real patients: no ledger paid for them, and no epsilon covers them."


def read_apart(test: Path, training: Path | None) -> tuple[Cohort, Cohort | None]:
    """Return the subjects who test, and those who trained or may train where a table names them.

    Raises:
        CohortError: A table cannot be used, or a subject, or a file, is in both.
    """
    if training is None:
        return read_cohort(test), None
    tested, trained = read_cohort(test), read_cohort(training)
    check_apart(trained, tested)
    return tested, trained


def drawn_from(pairs: SyntheticPairs) -> str:
    """Return in a sentence what a release draws, and what stands behind it."""
    study = pairs.study
    return f"Study {study.name} draws {study.prior.family.value}: {pairs.spent.sentence()}"


def who_tested(scans: Sequence[object], test: Path, training: Path | None) -> str:
    """Return in a sentence on whom a score is, and what is known of them."""
    known = (
        "whether they trained the release, only its sites can tell"
        if training is None
        else f"none of them is in {training}"
    )
    return f"{len(scans)} scans of {test}; {known}. {UNPAID}"


def some(cohort: Cohort, n: int, *, seed: int) -> tuple[Subject, ...]:
    """Return n subjects of a cohort, drawn from a seed, or all where there are fewer.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if not n >= 1:
        raise ValueError(f"at least one subject is needed, got {n}")
    order = np.random.default_rng(seed).permutation(len(cohort))
    return tuple(cohort.subjects[place] for place in sorted(order[:n]))


def planes_last(
    subject: Subject, spec: PatchSpec
) -> list[tuple[Float32[np.ndarray, "channel row col plane"], UInt8[np.ndarray, "row col plane"]]]:
    """Return a subject's scans with their labels as three axes; the last one is across 2-D patches.

    The grid and the intensities, -1 to 1, are those of the study's patches. A picture has one plane; under
    a study of 3-D patches a volume keeps its axes.
    """
    found = []
    for scan in load_subject(subject, spec):
        image, label = scan.pixels(), scan.label
        if label.ndim == 2:
            image, label = image[..., None], label[..., None]
        elif scan.slice_axis is not None:
            image = np.moveaxis(image, scan.slice_axis + 1, -1)
            label = np.moveaxis(label, scan.slice_axis, -1)
        found.append((np.ascontiguousarray(image), np.ascontiguousarray(label)))
    return found
