"""Train a study's recipe openly: no clip, no noise, no ledger. Not private, for papers that had no privacy.

The recipe's own order, question and learning are used; the unit is a batch of patches drawn from all
patients' together. For a game of networks that is plain training (``shared.recipes.game``).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches, check_patches
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study
from willis.shared.whole_file import write_whole
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.parts import kept_arrays, packed, unpacked

Progress = Callable[[int, int], None]

_EVERY = 200  # rounds between two checkpoints
_ROUND = "open-round"  # name of the round's number among a checkpoint's arrays


def train_openly(
    study: Study,
    patches: LabelledPatches,
    *,
    rounds: int,
    batch: int,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> dict[str, np.ndarray]:
    """Return what a release of the study's recipe holds after open training. Not private.

    Steps of every round:
        1. Draw ``batch`` patches by the round's public dice, with replacement; flip them where the study may.
        2. Ask the recipe's question of them, as of one unit.
        3. Let the recipe learn from the answer as it is.

    Args:
        study: The recipe and all that it needs; its privacy and its sites have no effect.
        patches: Pooled over all patients.
        rounds: How many.
        batch: Patches in one.
        progress: Called with rounds done, and in all.
        checkpoint: A file for the state, written every 200 rounds; a run that finds it goes on from there,
            with the same outcome.

    Returns:
        float32 arrays by name, for ``recipe_of(study).sampler``.

    Raises:
        ValueError: There is no patch, no round or no batch, or patches do not fit the study.
        StateError: The checkpoint cannot be written or read.
    """
    if not (rounds >= 1 and batch >= 1 and len(patches) >= 1):
        raise ValueError(
            f"rounds, batch and patches must be at least 1, got {rounds}, {batch} and {len(patches)}"
        )
    check_patches(patches, study.patch)
    recipe = recipe_of(study)
    done, state = _start(checkpoint) or (0, recipe.start())
    for number in range(done + 1, rounds + 1):
        question = recipe.question(recipe.order(state, number=number), number=number)
        answer = question.vector(_batch(patches, study, batch=batch, number=number))
        mean = PooledMean(mean=answer.detach().numpy(), std=0.0, units=1.0)
        state = recipe.learn(state, mean, number=number)
        if progress is not None:
            progress(number, rounds)
        if checkpoint is not None and number % _EVERY == 0 and number < rounds:
            write_whole(checkpoint, packed({**state, _ROUND: np.array(number)}))
    return recipe.released(state)


def trained_part(
    setting: Setting, name: str, study: Study, patches: LabelledPatches, *, rounds: int, batch: int
) -> dict[str, np.ndarray]:
    """Return what :func:`train_openly` does, kept in the run's folder by name, with a bar while it lasts.

    Args:
        setting: Whose folder; a run that was stopped goes on from the last checkpoint.
        name: Of the part.
        study: See there, as the others.
        patches: See there.
        rounds: See there.
        batch: See there.
    """
    checkpoint = setting.folder / f"{name.replace('/', '-')}.checkpoint"

    def make() -> dict[str, np.ndarray]:
        with setting.show.task(f"training {name}") as advance:
            return train_openly(
                study, patches, rounds=rounds, batch=batch, progress=advance, checkpoint=checkpoint
            )

    arrays = kept_arrays(setting.folder, name, make)
    checkpoint.unlink(missing_ok=True)
    return arrays


def _start(checkpoint: Path | None) -> tuple[int, dict[str, np.ndarray]] | None:
    if checkpoint is None or not checkpoint.exists():
        return None
    held = unpacked(checkpoint)
    return int(held.pop(_ROUND)), held


def _batch(
    patches: LabelledPatches, study: Study, *, batch: int, number: int
) -> Float[Tensor, "drawn channel *space"]:
    dice = public_generator(study.seed, "open training", number)
    drawn = patches[torch.randint(len(patches), (batch,), generator=dice)].float()
    for axis in range(2, drawn.ndim) if study.patch.flips else ():
        flipped = torch.rand(batch, generator=dice) < 0.5
        drawn[flipped] = drawn[flipped].flip(axis)
    return drawn
