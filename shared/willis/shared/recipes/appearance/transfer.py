"""Give a patch another look: shift its level, its texture's bands and its profile; its label stays.

A change of nothing changes nothing, so that a look that nobody told anything about is the prior's own.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.recipes.appearance.statistics import BANDS, CELLS, LEVEL, Field, Look, octaves

_LARGEST_GAIN = 4.0  # of a band's amplitude, up or down
_SEAM = 0.6  # pixels: blur of the steps between cells of the profile


def transfer(image: Field, look: Look, change: Float[ndarray, " statistic"]) -> Field:
    """Return the image with its statistics moved by about ``change``; saturated pixels stay.

    Args:
        image: In [-1, 1].
        look: The same image, measured.
        change: To be added to ``look.values``; where those are NaN it has no effect. The calibres'
            part has none either: a label is chosen, not changed.
    """
    change = np.where(np.isfinite(look.values), change, 0)
    if not (np.any(change[: CELLS.stop]) and look.seen.any()):
        return image
    own = _painted(np.nan_to_num(look.values[CELLS]), look)
    bands, coarse = octaves(image - own, look.seen)
    gains = np.exp(np.clip(change[BANDS], -np.log(_LARGEST_GAIN), np.log(_LARGEST_GAIN)))
    level = float(coarse[look.seen].mean())
    moved = level + float(change[LEVEL][0]) + float(gains[-1]) * (coarse - level)
    for gain, band in zip(gains, bands, strict=False):
        moved = moved + float(gain) * band
    added = _painted(change[CELLS], look)
    added = ndimage.gaussian_filter(added, _SEAM, mode="nearest", truncate=3)
    moved = np.clip(moved + own + added, -1, 1).astype(np.float32)
    return np.where(look.seen, moved, image)


def _painted(profile: Float[ndarray, " cell"], look: Look) -> Field:
    """The value of its cell at every pixel; 0 far from the target."""
    return np.append(profile, 0.0)[look.cells].astype(np.float32)  # cell -1 is the last
