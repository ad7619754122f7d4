"""Labelled patches as one compressed NumPy file (see :mod:`~willis.shared.export.pair_arrays`)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from willis.shared.export.pair_arrays import write_pair_arrays
from willis.shared.patch import LabelledPatches, PatchSpec


def write_npz(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    n: int,
    spec: PatchSpec,
    about: Mapping[str, object],
) -> Path:
    """Write ``pairs.npz`` into a new folder, and ``pairs.privacy.txt`` beside it.

    Args:
        batches: Patches as a release draws them, n in all; one batch is in memory at a time.
        folder: Must not exist, or be empty.
        n: How many patches come.
        spec: Of the patches.
        about: Privacy, where the patches come from.

    Returns:
        The file.

    Raises:
        ValueError: Not n patches came.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    arrays = (batch.numpy() for batch in batches)
    pairs = ((patches[:, :-1], (patches[:, -1] > 0).astype(np.uint8)) for patches in arrays)
    return write_pair_arrays(pairs, folder, n=n, shape=(len(spec.channels), *spec.size), about=about)
