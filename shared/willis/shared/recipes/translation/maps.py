"""Semantic maps: what a translator is told of a patch, its tissue in a few levels and its label."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from willis.shared.game_plans import CycleganPlan, Pix2PixPlan, SpadePlan
from willis.shared.patch import LabelledPatches

Plan = Pix2PixPlan | SpadePlan | CycleganPlan  # the keys of any translation

Maps = Float[Tensor, "patch 2 *space"]  # level, then label; both in [-1, 1]

_NEAR, _FAR = 2.0, 8.0  # what is around a label: standard deviations in pixels
_UNSEEN = 0.05  # pixels: the next one weighs exp(-200), which is 0 in float32
_FAINT = 1e-2  # weight of what is farther off against what is near


def semantic_map(patches: LabelledPatches, *, levels: int, blur: float) -> Maps:
    """Return each patch's map: channel 0 the tissue level, channel 1 the label.

    The level is the first image channel, blurred and rounded to equal steps of [-1, 1]. Under the label it
    is what the tissue around the label continues to: the level does not tell the target a second time, so a
    label may be moved to where the level knows of none, and leaves nothing behind.

    Args:
        patches: Image channels, then the label.
        levels: Steps; with 1 the level is -1 everywhere, and the map is the label alone.
        blur: Standard deviation in pixels, of the Gaussian that smooths the image before it is rounded.

    Raises:
        ValueError: ``levels`` is below 1 or ``blur`` is negative.
    """
    if not levels >= 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    if not 0 <= blur < math.inf:
        raise ValueError(f"blur must be at least 0 pixels and finite, got {blur}")
    image, label = patches[:, :1].float(), patches[:, -1:].float()
    if levels == 1:
        return torch.cat([torch.full_like(label, -1.0), label], dim=1)
    with torch.autocast(patches.device.type, enabled=False):
        smooth = blurred(_filled(image, label <= 0), blur)
    return torch.cat([rounded(smooth, levels), label], dim=1)


def rounded(level: Float[Tensor, "*shape"], levels: int) -> Float[Tensor, "*shape"]:
    """Return values of [-1, 1] rounded to ``levels`` equal steps of it; -1 everywhere where there is one."""
    if levels == 1:
        return torch.full_like(level, -1.0)
    return ((level.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1


def blurred(image: Float[Tensor, "patch 1 *space"], std: float) -> Float[Tensor, "patch 1 *space"]:
    """Return images blurred by a Gaussian along every axis, mirrored at the border.

    Args:
        image: One channel.
        std: In pixels; 0 returns the image. The Gaussian ends at three of them, or at the patch's side.
    """
    for axis in range(2, image.ndim) if std > _UNSEEN else ():
        rows = image.movedim(axis, -1)
        reach = min(math.ceil(3 * std), rows.shape[-1] - 1)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / std) ** 2)
        padded = functional.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="reflect")
        smooth = functional.conv1d(padded, (kernel / kernel.sum())[None, None])
        image = smooth.reshape(rows.shape).movedim(-1, axis)
    return image


def _filled(image: Float[Tensor, "patch 1 *space"], outside: Tensor) -> Float[Tensor, "patch 1 *space"]:
    """Replace the image under the label by what is around: near it, else farther off, else all of it.

    Normalised convolution (Knutsson 1993) of what lies outside; where nothing does, the fill is 0.
    """
    seen = outside.to(image.dtype)
    told = torch.cat([image * seen, seen])
    everywhere = told.mean(dim=tuple(range(2, told.ndim)), keepdim=True)
    around = blurred(told, _NEAR) + _FAINT * blurred(told, _FAR) + _FAINT**2 * everywhere
    total, weight = around.chunk(2)
    return torch.where(outside, image, total / weight.clamp(min=torch.finfo(weight.dtype).tiny))
