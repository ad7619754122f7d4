"""How much the images of a set differ among themselves: MS-SSIM over random pairs."""

import torch
from jaxtyping import Float, Int
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor

from willis.shared.likeness.patches import check_patches

KERNEL = 7  # pixels of the Gaussian window
_WEIGHTS = (
    0.0448,
    0.2856,
    0.3001,
)  # of the three finest scales (Wang 2003, section 3.2), before they sum to 1
_AT_ONCE = 32


def ms_ssim_scales(space: tuple[int, ...]) -> int:
    """Return the scales that fit patches of a size: at most three, and at the coarsest a window still fits.

    Raises:
        ValueError: Not even one fits.
    """
    fitting = [scales for scales in (1, 2, 3) if min(space) // 2 ** (scales - 1) >= KERNEL]
    if not fitting:
        raise ValueError(f"MS-SSIM needs patches of at least {KERNEL} pixels a side, got {tuple(space)}")
    return fitting[-1]


@torch.no_grad()
def ms_ssim_diversity(
    patches: Float[Tensor, "patch channel *space"], *, dice: torch.Generator, pairs: int = 200
) -> float:
    """Return the mean MS-SSIM (Wang 2003) of random pairs of different patches; lower is more diverse.

    Window of 7 pixels (sigma 1.5); three scales where the shortest side has 28 pixels, two from 14, else one.
    Image channels only: labels are mostly background, alike in any two patches.

    Args:
        patches: Labelled patches with images in [-1, 1].
        dice: Draws the pairs, each uniformly over pairs of different patches.
        pairs: How many.

    Returns:
        In [0, 1]; 1 where all images are the same.

    Raises:
        ValueError: Patches are unfit, too small, or fewer than two; no pair is asked for.
    """
    check_patches(patches)
    if not (len(patches) >= 2 and pairs >= 1):
        raise ValueError(
            f"diversity needs two patches and a pair, got {len(patches)} patches and {pairs} pairs"
        )
    scales = ms_ssim_scales(tuple(patches.shape[2:]))
    weights = [weight / sum(_WEIGHTS[:scales]) for weight in _WEIGHTS[:scales]]
    images = (patches[:, :-1].float().cpu() + 1) / 2
    found = [
        compute_ms_ssim(
            images[block[:, 0]],
            images[block[:, 1]],
            spatial_dims=patches.ndim - 2,
            data_range=1.0,
            kernel_size=KERNEL,
            weights=weights,
        )
        for block in _pairs(len(patches), pairs, dice=dice).split(_AT_ONCE)
    ]
    return float(torch.cat(found).double().mean())


def _pairs(n: int, pairs: int, *, dice: torch.Generator) -> Int[Tensor, "pair 2"]:
    first = torch.randint(n, (pairs,), generator=dice)
    step = torch.randint(1, n, (pairs,), generator=dice)
    return torch.stack([first, (first + step) % n], dim=1)
