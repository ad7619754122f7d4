"""What the report's viewer shows: synthetic volumes with their labels, as NIfTI-1 files in memory.

A 3-D patch is a volume. 2-D patches are stacked: slice k of the volume is patch k, and nothing joins two
slices. Nothing here opens or writes a file: the bytes are made for the page alone.
"""

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy import ndarray

from willis.shared.export.nifti import nifti_bytes
from willis.shared.patch import LabelledPatches, PatchSpec

_MOST_VOXELS = 300_000  # of one volume; a larger one is thinned
_MOST_BYTES = 900_000  # of all volumes on the page, as they stand there
_MOST_3D = 3


@dataclass(frozen=True, kw_only=True)
class ViewedVolume:
    """One entry of the viewer.

    Attributes:
        title: What it is.
        told: What each slice is; one sentence where all are the same.
        view: How it is shown first: ``slice`` or ``planes``.
        start: Where the cross is first, as shares of the three axes: of a stack its middle, of a volume on
            its label, in the slice that holds most of it.
        image: The image, NIfTI-1, gzip, base64; values -1 to 1 as 0 to 255.
        label: The same of the label; 0 and 1.
    """

    title: str
    told: tuple[str, ...]
    view: str
    start: tuple[float, float, float]
    image: str
    label: str

    def bytes_on_page(self) -> int:
        """Return how long its two files are, as text."""
        return len(self.image) + len(self.label)


def viewed_volumes(drawn: LabelledPatches, spec: PatchSpec, *, title: str) -> tuple[ViewedVolume, ...]:
    """Return what of some patches the viewer shows: the first volumes that fit on a page, at least one.

    Args:
        drawn: Synthetic pairs; the first image channel is shown.
        spec: Their study's, for the size of a voxel.
        title: What they are called.
    """
    made = _stack(drawn, spec, title) if spec.dimensions == 2 else _each(drawn, spec, title)
    kept: list[ViewedVolume] = []
    for volume in made:
        if kept and sum(one.bytes_on_page() for one in (*kept, volume)) > _MOST_BYTES:
            break
        kept.append(volume)
    return tuple(kept)


def _stack(drawn: LabelledPatches, spec: PatchSpec, title: str) -> Iterator[ViewedVolume]:
    step = _step(drawn[:, 0].numel())
    thin = drawn[:, :, ::step, ::step].numpy()
    image, label = (np.moveaxis(thin[:, at], (0, 1, 2), (2, 1, 0))[:, ::-1] for at in (0, -1))
    row, col = (one * step for one in spec.spacing_mm or (1.0, 1.0))
    told = tuple(f"Slice {k} of {len(thin)}: synthetic patch {k}." for k in range(1, len(thin) + 1))
    spacing = (col, row, max(row, col))
    yield _volume(image, label, title=title, told=told, view="slice", spacing=spacing, spec=spec)


def _each(drawn: LabelledPatches, spec: PatchSpec, title: str) -> Iterator[ViewedVolume]:
    step = _step(drawn[0, 0].numel(), axes=3)
    x, y, z = (one * step for one in spec.spacing_mm or (1.0, 1.0, 1.0))
    for number, patch in enumerate(drawn[:_MOST_3D, :, ::step, ::step, ::step].numpy(), start=1):
        told = f"Synthetic patch {number}, one volume" + (
            f", every {step}. voxel shown." if step > 1 else "."
        )
        name = f"{title} {number}"
        image, label, spacing = patch[0], patch[-1], (x, y, z)
        yield _volume(image, label, title=name, told=(told,), view="planes", spacing=spacing, spec=spec)


def _step(voxels: int, *, axes: int = 2) -> int:
    step = 1
    while voxels / step**axes > _MOST_VOXELS:
        step += 1
    return step


def _volume(
    image: Shaped[ndarray, "x y z"],
    label: Shaped[ndarray, "x y z"],
    *,
    title: str,
    told: tuple[str, ...],
    view: str,
    spacing: tuple[float, float, float],
    spec: PatchSpec,
) -> ViewedVolume:
    grey = np.round((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    marks, known = (label > 0).astype(np.uint8), spec.spacing_mm is not None
    files = (nifti_bytes(voxels, spacing_mm=spacing, known=known) for voxels in (grey, marks))
    as_text = [base64.b64encode(gzip.compress(one, mtime=0)).decode() for one in files]
    start = _middle(marks.shape) if view == "slice" else _on_label(marks)
    return ViewedVolume(title=title, told=told, view=view, start=start, image=as_text[0], label=as_text[1])


def _middle(size: tuple[int, ...]) -> tuple[float, float, float]:
    """Return the middle of the middle voxel; of an even number the one before."""
    x, y, z = (((side + 1) // 2 - 0.5) / side for side in size)
    return (x, y, z)


def _on_label(marks: UInt8[ndarray, "x y z"]) -> tuple[float, float, float]:
    """Return the labelled voxel nearest to the label's middle, in the slice with most label."""
    if not marks.any():
        return _middle(marks.shape)
    at = int(marks.sum((0, 1), dtype=int).argmax())
    places = np.argwhere(marks[:, :, at])
    row, col = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    x, y, z = (float((one + 0.5) / side) for one, side in zip((row, col, at), marks.shape, strict=True))
    return (x, y, z)
