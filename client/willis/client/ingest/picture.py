"""Read PNG and JPEG pictures.

A picture carries no length in mm that could be trusted (a resolution tag is that of a print): its spacing is
unknown, and is told as 1 pixel.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Num
from PIL import Image

from willis.shared.errors import CohortError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LOSSY_SUFFIXES = (".jpg", ".jpeg")

# What Pillow raises on a damaged file: it has no error of its own for that.
_DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, IndexError, EOFError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def picture_shape(path: Path) -> tuple[int, int]:
    """Return rows and columns; only the header is read.

    Raises:
        CohortError: The picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except _DAMAGE as fault:
        raise _unreadable(path, fault) from fault


def read_picture(path: Path, *, as_label: bool = False) -> Num[np.ndarray, "channel row col"]:
    """Read a picture as one grey channel, or red, green and blue; transparency is dropped.

    Args:
        path: A PNG or JPEG file.
        as_label: Take a palette picture's indices, which are its labels, and not its colours.

    Returns:
        Values as stored: 0 to 1, 0 to 255 or 0 to 65535.

    Raises:
        CohortError: The picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            pixels = np.asarray(_plain(picture, as_label=as_label))
    except _DAMAGE as fault:
        raise _unreadable(path, fault) from fault
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _plain(picture: Image.Image, *, as_label: bool) -> Image.Image:
    if picture.mode in _GREY_MODES or (as_label and picture.mode == "P"):
        return picture
    return picture.convert("L" if picture.mode in ("LA", "La") else "RGB")


def _unreadable(path: Path, fault: BaseException) -> CohortError:
    return CohortError(f"cannot read {path.name}: {type(fault).__name__}: {fault}; export it again")
