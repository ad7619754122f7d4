"""The atlas' geometry: cosine bases, distance to the label's border, warps, and registration to a template.

A displacement is a short sum of cosines, so a warp is a few dozen numbers. Registration finds the warp u for
which ``patch(x)`` is about ``template(x + u(x))``, in image and distance alike, by damped Gauss-Newton with a
Gaussian prior on the coefficients; it is public code that a site runs on its own patches.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

FAR = 6.0  # pixels: a distance is cut here, and divided by it
WARP_PIXELS = 1.5  # standard deviation that the slowest cosine of a displacement has before anything is known
WARP_POWER = 1.5  # it falls as (1 + frequency) ** -WARP_POWER, frequency in half periods over the last axis
_IMAGE_NOISE, _DISTANCE_WEIGHT = 0.35, 1.8
_CORRELATED = 0.4  # share of a pixel that counts as an observation of its own, at half resolution
_STEPS, _FALLBACK_STEP = 8, 0.8

Planes = Float[Tensor, "patch 2 row col"]  # image, then distance to the label's border over FAR
Plane = Float[Tensor, "patch row col"]
Coefficients = Float[Tensor, "patch coefficient"]


@dataclass(frozen=True)
class Basis:
    """Cosines over a plane, slowest first.

    Attributes:
        waves: One cosine a row, of mean square 1.
        frequency: Cycles a pixel of each, at most one half along an axis.
        size: Rows and columns.
    """

    waves: Float[Tensor, "wave row col"]
    frequency: Float[Tensor, " wave"]
    size: tuple[int, int]

    @property
    def relative(self) -> Float[Tensor, " wave"]:
        """Frequency in half periods over the last axis."""
        return self.frequency * 2 * self.size[1]

    def analyse(self, planes: Float[Tensor, "*batch row col"]) -> Float[Tensor, "*batch wave"]:
        """Return coefficients whose sum of squares is the mean square of what the basis holds of a plane."""
        return planes.flatten(-2) @ self.waves.flatten(1).T / (self.size[0] * self.size[1])

    def draw(self, coefficients: Float[Tensor, "*batch wave"]) -> Float[Tensor, "*batch row col"]:
        """Return the planes of coefficients."""
        return (coefficients @ self.waves.flatten(1)).unflatten(-1, self.size)


def cosines(size: tuple[int, int], *, highest: float) -> Basis:
    """Return all separable cosines (DCT-II) up to a frequency.

    Args:
        size: Rows and columns.
        highest: In cycles a pixel, in (0, 0.5].
    """
    if not 0 < highest <= 0.5:
        raise ValueError(f"highest frequency must lie in (0, 0.5] cycles a pixel, got {highest}")
    rows, cols = (_one_axis(side) for side in size)
    up, along = torch.meshgrid(
        torch.arange(size[0]) / (2 * size[0]), torch.arange(size[1]) / (2 * size[1]), indexing="ij"
    )
    frequency = torch.hypot(up, along).flatten()
    kept = torch.argsort(frequency, stable=True)
    kept = kept[frequency[kept] <= highest]
    waves = torch.einsum("iy,jx->ijyx", rows, cols).flatten(0, 1)[kept]
    return Basis(waves, frequency[kept], (size[0], size[1]))


def _one_axis(side: int) -> Float[Tensor, "wave pixel"]:
    angle = math.pi * (torch.arange(side) + 0.5) / side
    waves = torch.cos(torch.arange(side)[:, None] * angle)
    return waves * torch.where(torch.arange(side) > 0, math.sqrt(2), 1.0)[:, None]


def border_distance(label: Plane) -> Plane:
    """Return the distance in pixels to the label's border over ``FAR``, in [-1, 1]: positive inside.

    An empty label is -1 everywhere, a full one 1.
    """
    return torch.from_numpy(np.stack([_distance(plane) for plane in (label > 0).cpu().numpy()]))


def _distance(inside: np.ndarray) -> np.ndarray:
    if inside.all() or not inside.any():
        return np.full(inside.shape, 1.0 if inside.all() else -1.0, np.float32)
    # Half a pixel lies between the centre of a border pixel and the border itself.
    depth = np.asarray(distance_transform_edt(inside)) - 0.5
    away = np.asarray(distance_transform_edt(~inside)) - 0.5
    return (np.where(inside, depth, -away) / FAR).clip(-1, 1).astype(np.float32)


def warped(
    planes: Float[Tensor, "patch channel row col"], u: Float[Tensor, "patch 2 row col"]
) -> Float[Tensor, "patch channel row col"]:
    """Return ``planes(x + u(x))`` by linear interpolation; u in pixels, rows first; edges are repeated."""
    rows, cols = planes.shape[-2:]
    down, right = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    grid = torch.stack(
        [(right + u[:, 1]) * (2 / (cols - 1)) - 1, (down + u[:, 0]) * (2 / (rows - 1)) - 1], dim=-1
    )
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=True)


def displacement(coefficients: Coefficients, basis: Basis) -> Float[Tensor, "patch 2 row col"]:
    """Return pixels to move, rows first; the coefficients of rows come before those of columns."""
    return basis.draw(coefficients.unflatten(1, (2, -1)))


def inverse(u: Float[Tensor, "patch 2 row col"], *, steps: int = 6) -> Float[Tensor, "patch 2 row col"]:
    """Return v with ``v(z) = -u(z + v(z))``, by fixed-point iteration; exact for a translation inside."""
    v = torch.zeros_like(u)
    for _ in range(steps):
        v = -warped(u, v)
    return v


def warp_std(basis: Basis) -> Float[Tensor, " coefficient"]:
    """Return the public standard deviation of every coefficient of a displacement, in pixels."""
    one = WARP_PIXELS * (1 + basis.relative) ** -WARP_POWER
    return torch.cat([one, one])


def register(templates: Planes, patches: Planes, basis: Basis) -> Coefficients:
    """Return each patch's warp of its template, in pixels of the full grid.

    Worked at half resolution: 1. Warp the template. 2. Fit the patch's gain and offset. 3. Linearise image
    and distance in the coefficients. 4. Step towards the mode of likelihood and prior.

    Args:
        templates: One a patch.
        patches: What is to be explained.
        basis: Of the displacement.
    """
    small = Basis(
        functional.avg_pool2d(basis.waves, 2), basis.frequency, (basis.size[0] // 2, basis.size[1] // 2)
    )
    templates, patches = functional.avg_pool2d(templates, 2), functional.avg_pool2d(patches, 2)
    certain = warp_std(basis) ** -2
    found = torch.zeros(len(patches), 2 * len(basis.waves))
    for _ in range(_STEPS):
        curvature, slope = _normal_equations(templates, patches, displacement(found, small) / 2, small)
        step = torch.linalg.solve(curvature + torch.diag(certain), slope - certain * found)
        found = found + _FALLBACK_STEP * step.clamp(-2, 2)
    return found


def _normal_equations(
    templates: Planes, patches: Planes, u: Float[Tensor, "patch 2 row col"], basis: Basis
) -> tuple[Float[Tensor, "patch c c"], Float[Tensor, "patch c"]]:
    """Return Gauss-Newton's matrix and right side, for coefficients in pixels of the full grid."""
    now = warped(templates, u)
    shifts = torch.eye(2)[:, :, None, None] / 2
    slopes = [(warped(templates, u + shift) - warped(templates, u - shift)) / 2 for shift in shifts]
    waves = basis.waves.flatten(1)
    curvature, slope = torch.zeros(()), torch.zeros(())
    errors = (_image_error(patches[:, 0], now[:, 0]), patches[:, 1] - now[:, 1])
    for channel, (error, weight) in enumerate(zip(errors, (1.0, _DISTANCE_WEIGHT), strict=True)):
        jacobian = torch.cat([along[:, channel].flatten(1)[:, None] * waves for along in slopes], dim=1)
        scale = _CORRELATED * weight**2 / _IMAGE_NOISE**2
        curvature = curvature + scale * jacobian @ jacobian.transpose(1, 2)
        slope = slope + scale * (jacobian @ error.flatten(1)[..., None])[..., 0]
    return curvature, slope


def _image_error(image: Plane, template: Plane) -> Plane:
    """Return image minus template after the image's gain (half to double) and offset were taken out."""
    centred, wanted = (plane - plane.mean((1, 2), keepdim=True) for plane in (image, template))
    gain = (centred * wanted).sum((1, 2)) / ((wanted**2).sum((1, 2)) + 1e-3)
    return centred / gain.clamp(0.5, 2)[:, None, None] - wanted
