"""Whether a disk has room for all pairs, told when the first of them are there and not after hours."""

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy import ndarray

from willis.shared.errors import StateError
from willis.shared.patch import LabelledPatches

FileForm = Literal["nnunet", "bids", "npz", "png"]
Noun = Literal["pairs", "volumes"]

_MOST_SAMPLED = 8  # patches that are packed to learn how much packing saves
_HEADERS: Mapping[FileForm, int] = {
    "nnunet": 352,
    "bids": 352,
    "png": 57,
}  # bytes; of each file of one channel
_FOLDERS: Mapping[FileForm, int] = {"bids": 4}  # that every pair has of its own
_UNWRITTEN: Mapping[Noun, str] = {"pairs": "SyntheticPairs", "volumes": "stream_volumes"}


def fitting(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    n: int,
    form: FileForm,
    noun: Noun = "pairs",
    grey_bits: int | None = None,
) -> Iterator[LabelledPatches]:
    """Yield batches unchanged; before the first, refuse n pairs like its own that would not fit.

    The estimate is :func:`disk_bytes` of the first patches, so a disk may still fill.

    Args:
        folder: What is to be written; need not exist.
        n: Pairs in all.
        form: Of the files.
        noun: What pairs are called, and whether they are whole volumes.
        grey_bits: Bits of a pixel of an image, where pictures are written; None for float32.

    Raises:
        StateError: They would not fit.
    """
    for number, batch in enumerate(batches):
        if number == 0:
            _check(batch[:_MOST_SAMPLED], folder, n=n, form=form, noun=noun, grey_bits=grey_bits)
        yield batch


def _check(
    sample: LabelledPatches, folder: Path, *, n: int, form: FileForm, noun: Noun, grey_bits: int | None
) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    needed = n * disk_bytes(sample, place, form=form, grey_bits=grey_bits) / len(sample)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StateError(
            f"{n} {noun} take some {needed / 1e9:.3g} GB, and the disk of {place} has {free / 1e9:.3g} GB "
            f"free; write at most {int(n * free / needed)}, free some disk, or draw them while you train "
            f"({_UNWRITTEN[noun]})"
        )


def disk_bytes(patches: LabelledPatches, place: Path, *, form: FileForm, grey_bits: int | None = None) -> int:
    """Return what some patches take on a disk in files of a form, packed (zlib, fastest).

    1. ``npz`` is one file: the images, then the labels. 2. In the other forms every channel of every pair is
    a file, with a header of its own, and takes whole blocks of the file system. 3. ``bids`` has four folders
    a pair, each of which takes what ``place`` itself does, at most a block. Tables, lists and descriptions
    are not counted.

    Args:
        place: A folder of that disk.
        grey_bits: As in :func:`fitting`.
    """
    if form == "npz":
        return packed_bytes(patches)
    block = os.statvfs(place).f_frsize
    own_folder = min(place.stat().st_blocks * 512, block)
    files = sum(
        -(-(_HEADERS[form] + _packed(part)) // block) * block
        for patch in patches
        for part in _channels(patch[None], grey_bits)
    )
    return files + len(patches) * _FOLDERS.get(form, 0) * own_folder


def packed_bytes(patches: LabelledPatches, *, grey_bits: int | None = None) -> int:
    """Return what images and labels of some patches take when they are packed, each channel as one."""
    return sum(_packed(part) for part in _channels(patches, grey_bits))


def _channels(patches: LabelledPatches, grey_bits: int | None) -> list[ndarray]:
    """Return each channel of the images, then the labels, as they are stored."""
    images, labels = patches[:, :-1].numpy(), (patches[:, -1] > 0).numpy()
    if grey_bits is not None:
        images = np.rint((images + 1) / 2 * (2**grey_bits - 1)).astype(f"<u{grey_bits // 8}")
    return [*images.swapaxes(0, 1), labels]


def _packed(part: ndarray) -> int:
    return len(zlib.compress(part.tobytes(), 1))
