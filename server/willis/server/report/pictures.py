"""Pictures of the report: what the release draws, and what the public prior does, as PNGs on the page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.image import imsave
from numpy import ndarray
from PIL import Image

from willis.shared.patch import LabelledPatches
from willis.shared.shown_slice import shown_slice

_SHORTER_SIDE = 96  # screen pixels of an image: a smaller one is enlarged first, a larger one made smaller
_MARK = np.array([1.0, 0.45, 0.2])  # colour of a label


@dataclass(frozen=True)
class Samples:
    """One grid of pictures.

    Attributes:
        title: What they are.
        note: Where they come from.
        pictures: Each a pair, as a ``data:`` address.
    """

    title: str
    note: str
    pictures: tuple[str, ...]


def pictures_of(patches: LabelledPatches) -> tuple[str, ...]:
    """Return one picture a pair: the image, and the image again with its label in colour.

    Of a volume it is the slice along the first axis that holds most of the label.
    """
    return tuple(_picture(shown_slice(patch).numpy()) for patch in patches)


def uri(kind: str, data: bytes) -> str:
    """Return bytes as a ``data:`` address, which is loaded from nowhere."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _picture(patch: Float[ndarray, "channel row col"]) -> str:
    channels = patch[:3] if len(patch) == 4 else patch[[0, 0, 0]]
    image = (np.moveaxis(channels, 0, -1) + 1) / 2
    marked = np.where(patch[-1, ..., None] > 0, 0.35 * image + 0.65 * _MARK, image)
    gap = np.ones((len(image), 1, 3)) / 2
    factor = -(-_SHORTER_SIDE // min(image.shape[:2]))
    pair = np.hstack([image, gap, marked]).repeat(factor, axis=0).repeat(factor, axis=1)
    data = io.BytesIO()
    imsave(data, _no_larger(np.clip(pair, 0, 1), least=min(image.shape[:2]) * factor), format="png")
    return uri("image/png", data.getvalue())


def _no_larger(pair: Float[ndarray, "row col 3"], *, least: int) -> Float[ndarray, "row2 col2 3"]:
    """Return a picture whose shorter side is no longer than the page has room for; areas are averaged."""
    if least <= _SHORTER_SIDE:
        return pair
    rows, cols = (max(1, round(side * _SHORTER_SIDE / least)) for side in pair.shape[:2])
    small = Image.fromarray(np.round(pair * 255).astype(np.uint8)).resize((cols, rows), Image.Resampling.BOX)
    return np.asarray(small) / 255
