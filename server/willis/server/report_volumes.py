"""What the report's viewer shows: synthetic volumes with their labels, as NIfTI-1 files in memory.

A 3-D patch is a volume. 2-D patches are stacked: slice k of the volume is patch k, and nothing joins two
slices. Nothing here opens or writes a medical file: the bytes are made for the page alone.
"""

import base64
import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy import ndarray

from willis.shared.patch import LabelledPatches, PatchSpec

_MOST_VOXELS = 300_000  # of one volume; a larger one is thinned
_MOST_BYTES = 900_000  # of all volumes on the page, as they stand there
_MOST_3D = 3
_HEADER = 352  # bytes before the first voxel
_UINT8 = 2  # NIfTI's code
_MM = 2


@dataclass(frozen=True, kw_only=True)
class ViewedVolume:
    """One entry of the viewer.

    Attributes:
        title: What it is.
        told: What each slice is; one sentence where all are the same.
        view: How it is shown first: ``slice`` or ``planes``.
        image: The image, NIfTI-1, gzip, base64; values -1 to 1 as 0 to 255.
        label: The same of the label; 0 and 1.
    """

    title: str
    told: tuple[str, ...]
    view: str
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


def nifti(voxels: UInt8[ndarray, "x y z"], *, spacing: tuple[float, float, float]) -> bytes:
    """Return a NIfTI-1 file of one volume, axes to the right, front and top (RAS).

    Args:
        voxels: Any values.
        spacing: Of a voxel along each axis, in mm.
    """
    head = bytearray(_HEADER)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *voxels.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, _UINT8, 8)
    struct.pack_into("<8f", head, 76, 1.0, *spacing, 0.0, 0.0, 0.0, 0.0)
    struct.pack_into("<3f", head, 108, float(_HEADER), 1.0, 0.0)
    struct.pack_into("<B", head, 123, _MM)
    struct.pack_into("<2h", head, 252, 0, 1)  # no quaternion; the affine maps to scanner coordinates
    for row, step in enumerate(spacing):
        struct.pack_into("<f", head, 280 + 16 * row + 4 * row, step)
    head[344:348] = b"n+1\x00"
    return bytes(head) + voxels.tobytes(order="F")


def _stack(drawn: LabelledPatches, spec: PatchSpec, title: str) -> Iterator[ViewedVolume]:
    step = _step(drawn[:, 0].numel())
    thin = drawn[:, :, ::step, ::step].numpy()
    image, label = (np.moveaxis(thin[:, at], (0, 1, 2), (2, 1, 0))[:, ::-1] for at in (0, -1))
    row, col = (one * step for one in spec.spacing_mm or (1.0, 1.0))
    told = tuple(f"Slice {k} of {len(thin)}: synthetic patch {k}." for k in range(1, len(thin) + 1))
    yield _volume(image, label, title=title, told=told, view="slice", spacing=(col, row, max(row, col)))


def _each(drawn: LabelledPatches, spec: PatchSpec, title: str) -> Iterator[ViewedVolume]:
    step = _step(drawn[0, 0].numel(), axes=3)
    x, y, z = (one * step for one in spec.spacing_mm or (1.0, 1.0, 1.0))
    for number, patch in enumerate(drawn[:_MOST_3D, :, ::step, ::step, ::step].numpy(), start=1):
        told = f"Synthetic patch {number}, one volume" + (
            f", every {step}. voxel shown." if step > 1 else "."
        )
        name = f"{title} {number}"
        yield _volume(patch[0], patch[-1], title=name, told=(told,), view="planes", spacing=(x, y, z))


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
) -> ViewedVolume:
    grey = np.round((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    files = (nifti(voxels, spacing=spacing) for voxels in (grey, (label > 0).astype(np.uint8)))
    as_text = [base64.b64encode(gzip.compress(one, mtime=0)).decode() for one in files]
    return ViewedVolume(title=title, told=told, view=view, image=as_text[0], label=as_text[1])
