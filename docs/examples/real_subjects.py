"""Real subjects of a cohort.csv for the examples beside this file: who may train, who tests, their scans.

A study holds some subjects of every site back from training (``use.held_out``). The division depends on the
cohort and the study alone, so that whoever has both finds the same held-out subjects again.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from willis.client.cohort import Cohort, Subject, read_cohort, split
from willis.client.patches import load_subject
from willis.shared.errors import CohortError
from willis.shared.patch import PatchSpec
from willis.shared.study import Study

UNPAID = "These are scores on real patients: no ledger paid for them, and no epsilon covers them."


def divided(cohort: Path, study: Study) -> tuple[Cohort, Cohort]:
    """Return the subjects that may train, then those that the study holds out.

    Raises:
        CohortError: The table cannot be used, or nobody is held out.
    """
    training, held_out = split(read_cohort(cohort), study.use.held_out, seed=study.seed)
    if not (len(training) and len(held_out)):
        raise CohortError(
            f"{cohort} leaves {len(training)} subjects to train on and {len(held_out)} to test on; "
            "name a cohort with at least two subjects at a site"
        )
    return training, held_out


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
