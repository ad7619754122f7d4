"""How alike a run's synthetic patches and held-out real ones are, beside ceiling and epsilon-0 floor.

The only room that may see both the release and real patches is this one; what it finds are statistics of
real patients that no ledger paid for, and the file says so.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from willis.client.cohort import Cohort
from willis.client.store import build_store, open_store
from willis.shared.likeness.rows import LikenessRows, write_likeness
from willis.shared.likeness.sheet import LEAST_PATCHES, likeness
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.release import GeneratorRelease
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs
from willis.simulations.hospitals import Hospitals

_MOST = 256  # patches of each set


def compare_likeness(release: GeneratorRelease, hospitals: Hospitals, *, out: Path) -> LikenessRows | None:
    """Compare synthetic and prior patches with real training patches, and write ``likeness.json``.

    Real against real is of held-out subjects' patches against the training subjects': other patients.

    Args:
        release: What is compared.
        hospitals: Its run's sites, with their patches, and the held-out subjects.
        out: The file.

    Returns:
        What was written; None, and no file, where held-out subjects have too few patches to compare.

    Raises:
        CohortError: A held-out subject's scans cannot be used.
        StateError: The file cannot be written.
    """
    study = release.study
    n = min(_MOST, study.patch.per_subject * len(hospitals.held_out), study.use.synthetic_pairs)
    if n < LEAST_PATCHES:
        return None
    names = [site.name for site in study.federation.sites]
    real = _training_patches([hospitals.folder / name / "patches" for name in names], n, seed=study.seed)
    others = _held_out_patches(hospitals.held_out, study, n)
    drawn = draw_pairs(release, n=n, seed=study.seed + 2, device=study.training.device)
    made = {"synthetic": drawn, "prior": draw_prior(study, n, purpose="likeness")}
    rows = LikenessRows(
        **{name: likeness(fake, real, others, seed=study.seed, n=n) for name, fake in made.items()}
    )
    write_likeness(out, rows)
    return rows


def _training_patches(stores: Sequence[Path], n: int, *, seed: int) -> LabelledPatches:
    """Draw patches of all sites, as many of each."""
    dice, share = np.random.default_rng(seed), -(-n // len(stores))
    return torch.cat([open_store(folder).sample(share, dice) for folder in stores])


def _held_out_patches(held_out: Cohort, study: Study, n: int) -> LabelledPatches:
    """Draw patches of held-out subjects; cut into a temporary folder, which is removed."""
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(held_out, study.patch, Path(folder), seed=study.seed)
        return store.sample(n, np.random.default_rng(study.seed + 1))
