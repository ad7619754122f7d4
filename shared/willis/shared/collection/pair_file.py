"""Collected pairs as one NumPy file, as ``willis synthesize --format npz`` writes them, without torch."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.export.pair_arrays import ArrayPairs, write_pair_arrays


def write_pairs(
    pairs: RemotePairs, folder: Path, *, n: int, seed: int, progress: Callable[[int], None]
) -> Path:
    """Write ``pairs.npz`` into a new folder, and ``pairs.privacy.txt`` beside it, whole or not at all.

    Args:
        pairs: Where they come from.
        folder: Must not exist, or be empty.
        n: How many come.
        seed: Of the draw, for ``about``.
        progress: Gets the number of pairs that came.

    Returns:
        The file.

    Raises:
        ValueError: Not n pairs came.
        StateError: The folder is not empty or cannot be written; nothing is left there.
        WillisError: As iterating over :class:`RemotePairs`.
    """
    about = _about(pairs, n=n, seed=seed)
    return write_pair_arrays(
        _counted(pairs, progress), folder, n=n, shape=pairs.described.image_shape, about=about
    )


def _counted(pairs: RemotePairs, progress: Callable[[int], None]) -> Iterator[ArrayPairs]:
    came = 0
    for images, labels in pairs:
        yield images, labels
        came += len(images)
        progress(came)


def _about(pairs: RemotePairs, *, n: int, seed: int) -> Mapping[str, object]:
    told = pairs.described
    study = f"a generator of study {told.study}"
    return {
        "description": f"Synthetic: {n} pairs drawn at a hub with seed {seed} from {study}",
        "privacy": told.privacy,
        "release": told.signed.digest,
    }
