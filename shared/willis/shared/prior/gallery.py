"""A picture of labelled patches for people: every image with its label below it."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from willis.shared.patch import LabelledPatches
from willis.shared.shown_slice import shown_slice

_GAP = 2  # pixels between tiles
_GREY = 96


def gallery(patches: LabelledPatches, path: Path, *, columns: int = 8) -> None:
    """Write :func:`picture_of` patches as a PNG.

    Args:
        patches: (patch, channel, *space) within [-1, 1], the label last; at least one.
        path: File to write; its folder must exist.
        columns: Patches in a row.

    Raises:
        ValueError: For no patches, no columns or a shape that is not 2-D or 3-D.
    """
    picture_of(patches, columns=columns).save(path, format="PNG")


def picture_of(patches: LabelledPatches, *, columns: int = 8) -> Image.Image:
    """Return a picture: each patch's image channels below one another, and its label at the bottom.

    Patches of 3-D are shown by the slice that holds most of the label, else the middle one.

    Args:
        patches: (patch, channel, *space) within [-1, 1], the label last; at least one.
        columns: Patches in a row.

    Raises:
        ValueError: For no patches, no columns or a shape that is not 2-D or 3-D.
    """
    if not columns >= 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    if not (patches.ndim in (4, 5) and len(patches) >= 1 and patches.shape[1] >= 2):
        raise ValueError(
            f"patches must be (patch, channel, *space), at least one, got {tuple(patches.shape)}"
        )
    tiles = [_tile(patch) for patch in patches]
    tiles += [np.full_like(tiles[0], _GREY)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return Image.fromarray(np.vstack(rows))


def _tile(patch: Tensor) -> UInt8[ndarray, "row col"]:
    values = shown_slice(patch).detach().float().cpu().numpy()
    grey = np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)
    framed = np.pad(grey, ((0, 0), (0, _GAP), (0, _GAP)), constant_values=_GREY)
    return framed.reshape(-1, framed.shape[-1])
