"""Whether a disk has room for all pairs, told when the first of them are there and not after hours."""

import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from willis.shared.errors import StateError
from willis.shared.patch import LabelledPatches

_MOST_SAMPLED = 8  # patches that are packed to learn how much packing saves


def fitting(
    batches: Iterable[LabelledPatches], folder: Path, *, n: int, grey_bits: int | None = None
) -> Iterator[LabelledPatches]:
    """Yield batches unchanged; before the first, refuse n pairs like its own that would not fit.

    The estimate is what the first patches take when they are packed (zlib, fastest): files of one pair each
    take somewhat more, so a disk may still fill.

    Args:
        folder: What is to be written; need not exist.
        n: Pairs in all.
        grey_bits: Bits of a pixel of an image, where pictures are written; None for float32.

    Raises:
        StateError: They would not fit.
    """
    for number, batch in enumerate(batches):
        if number == 0:
            _check(batch[:_MOST_SAMPLED], folder, n=n, grey_bits=grey_bits)
        yield batch


def _check(sample: LabelledPatches, folder: Path, *, n: int, grey_bits: int | None) -> None:
    needed = n * packed_bytes(sample, grey_bits=grey_bits) / len(sample)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StateError(
            f"{n} pairs take some {needed / 1e9:.3g} GB, and the disk of {place} has {free / 1e9:.3g} GB "
            f"free; write at most {int(n * free / needed)}, free some disk, or draw them while you train "
            "(SyntheticPairs)"
        )


def packed_bytes(patches: LabelledPatches, *, grey_bits: int | None = None) -> int:
    """Return what images and labels of some patches take when they are packed."""
    images, labels = patches[:, :-1].numpy(), (patches[:, -1] > 0).numpy()
    if grey_bits is not None:
        images = np.rint((images + 1) / 2 * (2**grey_bits - 1)).astype(f"<u{grey_bits // 8}")
    return sum(len(zlib.compress(part.tobytes(), 1)) for part in (images, labels))
