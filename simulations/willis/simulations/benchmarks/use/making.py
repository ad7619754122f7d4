"""From a cell to what it is judged by: training patches for the U-net, or a U-net; and what that cost."""

import fcntl
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.segmenter import Segmenter, train_segmenter
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs
from willis.shared.whole_file import write_whole
from willis.simulations.benchmarks.use.cells import Cell
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.benchmarks.use.federated_cell import train_cell
from willis.simulations.benchmarks.use.grid import RowPlan
from willis.simulations.benchmarks.use.non_private_gan import train_non_private
from willis.simulations.benchmarks.use.paid_rounds import learn_openly, learn_privately, worst
from willis.simulations.benchmarks.use.private_unet import PrivateUnet
from willis.simulations.benchmarks.use.results import Privacy
from willis.simulations.benchmarks.use.without_noise import (
    learn_nothing,
    learn_without_noise,
    learned_before,
)

_CPU = torch.device("cpu")
_SHOWN = 1  # added to a study's seed: the pairs that are judged are drawn apart from all others
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Made:
    """What a cell made.

    Attributes:
        privacy: ``public``, ``private`` or ``not private``.
        patches: Training patches of the U-net; None where the cell made a U-net.
        segmenter: The U-net; None where patches were made.
        spent: What every site paid, by name.
        network: The bound for a patient seen at one site only; None where nothing was paid.
        release: Digest of the release, empty where there is none.
    """

    privacy: Privacy
    patches: LabelledPatches | None = None
    segmenter: Segmenter | None = None
    spent: dict[str, PrivacySpent] = field(default_factory=dict)
    network: PrivacySpent | None = None
    release: str = ""


def make(cell: Cell, row: RowPlan, study: Study, *, data: DataSet, cells: Path) -> Made:
    """Train what a cell asks for, or take up what was trained before.

    Args:
        cell: The cell.
        row: Its row.
        study: Its study.
        data: Its data set, prepared.
        cells: Folder of all cells.

    Raises:
        WillisError: What training raises.
    """
    n = study.use.synthetic_pairs
    if row.kind == "real":
        real = data.real_patches(n, seed=study.seed, subjects=cell.real_subjects)
        return Made("not private", real)
    made = _WAYS[row.kind](cell.without_real(), row, study, data, cells)
    if not cell.real_subjects or made.patches is None:
        return made
    few = data.real_patches(n - n // 2, seed=study.seed, subjects=cell.real_subjects)
    both = torch.cat([made.patches[: n // 2], few])
    return Made(made.privacy, both, None, made.spent, made.network, made.release)


def _of_prior(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    return Made("public", draw_prior(study, study.use.synthetic_pairs, purpose="evaluation"))


def _of_start(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    return Made("public", _drawn(study, learned_before(study)))


def _of_null(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    return Made("public", _drawn(study, learn_nothing(study)))


def _of_recipe(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    with _alone(cells / cell.key, study) as folder:
        if math.isinf(cell.epsilon):
            arrays = _kept(folder / "learned.npz", lambda: learn_without_noise(study, data))
            return Made("not private", _drawn(study, arrays))
        release = train_cell(study, data.folder / "sites", folder)
    patches = draw_pairs(release, n=study.use.synthetic_pairs, seed=study.seed + _SHOWN, device="cpu")
    spent = {name: site.spent for name, site in release.sites.items()}
    return Made("private", patches, None, spent, release.spent, release.digest)


def _of_gan(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    def train() -> Arrays:
        real = data.real_patches(study.use.synthetic_pairs, seed=study.seed)
        return train_non_private(study, real, steps=row.steps, batch=study.training.fakes)

    with _alone(cells / cell.key, study) as folder:
        sampler = NetworkSampler(study, _kept(folder / "learned.npz", train))
    n = study.use.synthetic_pairs
    return Made("not private", sampler.draw(first=0, n=n, seed=study.seed + _SHOWN))


def _of_private_unet(cell: Cell, row: RowPlan, study: Study, data: DataSet, cells: Path) -> Made:
    first = _unet_of_prior(study).network if row.kind == "private-finetune" else None
    recipe = PrivateUnet(study, learning_rate=row.learning_rate, trained=row.trained, first=first)
    with _alone(cells / cell.key, study) as folder:
        if math.isinf(cell.epsilon):
            state = _kept(folder / "learned.npz", lambda: learn_openly(recipe, study, data))
            return Made("not private", segmenter=recipe.segmenter(state))
        state, spent = learn_privately(recipe, study, data, folder=folder)
    return Made("private", None, recipe.segmenter(state), spent, worst(spent))


_WAYS: dict[str, Callable[[Cell, RowPlan, Study, DataSet, Path], Made]] = {
    "prior": _of_prior,
    "start": _of_start,
    "null": _of_null,
    "recipe": _of_recipe,
    "non-private-gan": _of_gan,
    "private-unet": _of_private_unet,
    "private-finetune": _of_private_unet,
}


def _drawn(study: Study, arrays: Arrays) -> LabelledPatches:
    n = study.use.synthetic_pairs
    return recipe_of(study).sampler(arrays).draw(first=0, n=n, seed=study.seed + _SHOWN)


def _unet_of_prior(study: Study) -> Segmenter:
    prior = draw_prior(study, study.use.synthetic_pairs, purpose="evaluation")
    dice = public_generator(study.seed, "segmenter", 0)
    return train_segmenter(prior, study.patch, plan=study.use, generator=dice, device=_CPU)


def _kept(path: Path, train: Callable[[], Arrays]) -> Arrays:
    """Return what was trained before, else train and keep it."""
    if not path.exists():
        data = io.BytesIO()
        np.savez(data, **train())  # pyright: ignore[reportArgumentType]  (names, not options)
        write_whole(path, data.getvalue())
    with np.load(path, allow_pickle=False) as held:
        return dict(held)


@contextmanager
def _alone(folder: Path, study: Study) -> Iterator[Path]:
    """Hold a cell's folder, its study in it: cells that share a generator wait for whoever trains it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_whole(folder / "study.json", study.model_dump_json(indent=1).encode())
        yield folder
