"""Which pixels lie in a bundle of tubes: exact distances to short straight pieces of the axes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_CHUNK = 400_000  # pixel candidates looked at together; bounds the memory


@dataclass(frozen=True)
class Tubes:
    """Pieces of tubes. Coordinates are (depth, row, column) in pixels; depth is 0 in a 2-D image.

    Attributes:
        centres: Middle of every piece.
        tangents: Its unit direction.
        radii: Its radius in pixels.
        half_length: Half the length of every piece in pixels.
        strengths: Share of the contrast that each shows; None: all of it.
    """

    centres: Float[ndarray, "piece 3"]
    tangents: Float[ndarray, "piece 3"]
    radii: Float[ndarray, " piece"]
    half_length: float = 0.5
    strengths: Float[ndarray, " piece"] | None = None


@dataclass(frozen=True)
class Raster:
    """Tubes on a pixel grid.

    Attributes:
        radius: Radius of the widest tube over each pixel, 0 where there is none.
        depth: 1 on the axis of a tube, 0 on its wall and outside: ``1 - (distance / radius) ** 2``.
        strength: Largest strength of the tubes over each pixel, 0 where there is none.
    """

    radius: Float[ndarray, "*space"]
    depth: Float[ndarray, "*space"]
    strength: Float[ndarray, "*space"]


def rasterise(tubes: Tubes, size: tuple[int, ...]) -> Raster:
    """Mark every pixel whose centre is at most a radius away from a piece of axis."""
    radius = np.zeros(int(np.prod(size)), np.float32)
    depth, strength = np.zeros_like(radius), np.zeros_like(radius)
    strengths = np.ones_like(tubes.radii) if tubes.strengths is None else tubes.strengths
    reach = np.ceil(tubes.radii + tubes.half_length + 0.5).astype(int)
    for box in np.unique(reach):
        of_box = np.flatnonzero(reach == box)
        offsets = _offsets(int(box), len(size))
        for part in np.array_split(of_box, max(1, len(of_box) * len(offsets) // _CHUNK + 1)):
            pixels, pieces, depths = _covered(tubes, part, offsets=offsets, size=size)
            np.maximum.at(radius, pixels, tubes.radii[pieces])
            np.maximum.at(depth, pixels, depths)
            np.maximum.at(strength, pixels, strengths[pieces])
    return Raster(radius.reshape(size), depth.reshape(size), strength.reshape(size))


def _offsets(box: int, dimensions: int) -> ndarray:
    """All whole-pixel steps within a box, as (offset, 3); none in depth where the image is 2-D."""
    sides = [range(-box, box + 1)] * dimensions
    steps = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, dimensions)
    return np.pad(steps, ((0, 0), (3 - dimensions, 0)))


def _covered(
    tubes: Tubes, part: ndarray, *, offsets: ndarray, size: tuple[int, ...]
) -> tuple[ndarray, ndarray, ndarray]:
    """Flat index, piece and depth for every pixel that a piece covers; a pixel may come many times."""
    full = (1,) * (3 - len(size)) + tuple(size)
    centres, tangents, radii = tubes.centres[part], tubes.tangents[part], tubes.radii[part]
    base = np.rint(centres).astype(int)
    if len(size) == 2:
        base[:, 0] = 0
    start = (base - centres).astype(np.float32)
    away = [start[:, axis, None] + offsets[None, :, axis].astype(np.float32) for axis in range(3)]
    along = sum(away[axis] * tangents[:, axis, None] for axis in range(3))
    along = np.clip(along, -tubes.half_length, tubes.half_length)
    square = np.zeros_like(away[0])
    for axis in range(3):
        square += (away[axis] - along * tangents[:, axis, None]) ** 2
    piece, offset = np.nonzero(square <= (radii**2)[:, None])
    pixels = base[piece] + offsets[offset]
    within = ((pixels >= 0) & (pixels < full)).all(1)
    piece, offset, pixels = piece[within], offset[within], pixels[within]
    flat = (pixels[:, 0] * full[1] + pixels[:, 1]) * full[2] + pixels[:, 2]
    return flat, part[piece], 1 - square[piece, offset] / radii[piece] ** 2
