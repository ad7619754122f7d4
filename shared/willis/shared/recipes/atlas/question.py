"""What the atlas asks of one subject: how its patches differ from the atlas, bin by bin.

In the first round a patch's bin follows from public rules. Later it goes to the template nearest to it, which
is warped onto it; the difference is taken back into the template's own frame, so that templates become sharp
where plain means are blurred.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.atlas.frame import (
    Planes,
    border_distance,
    displacement,
    inverse,
    register,
    warp_std,
    warped,
)
from willis.shared.recipes.atlas.layout import (
    AREAS,
    MOST,
    N_BINS,
    N_EMPTY,
    N_RADIAL,
    USUAL_POWER,
    WARP_BANDS,
    Layout,
    radial_bands,
    sharpened,
    templates_of,
)
from willis.shared.recipes.atlas.profile import profile_means
from willis.shared.update import Arrays

_COARSE = 4  # pixels averaged before patches and templates are compared
_BORDER_SHARE = 1.5  # weight of border distance against image in that comparison


@dataclass(frozen=True)
class AtlasQuestion:
    """One round's question.

    Attributes:
        layout: Of the vector.
        atlas: What patches are compared with.
        number: Of the round, from 1; templates are warped onto patches from the second on.
    """

    layout: Layout
    atlas: Arrays
    number: int

    @property
    def length(self) -> int:
        """Coordinates of a vector."""
        return self.layout.length

    @torch.no_grad()
    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return a subject's difference from the atlas: for each bin in share, image and border distance,
        averaged over the patches; over all bins in how far warps go, and in the power that they leave;
        and the mean grey across its labels' borders.
        """
        planes = as_planes(patches)
        templates = sharpened(templates_of(self.atlas, self.layout), self.atlas)
        bins = public_bins(planes) if self.number == 1 else nearest(planes, templates)
        chosen = templates[bins]
        moves = torch.zeros(len(planes), 2 * len(self.layout.warp.waves))
        if self.number > 1:
            moves = register(chosen, planes, self.layout.warp)
        u = displacement(moves, self.layout.warp)
        differences = warped(planes, inverse(u)) - chosen
        member = functional.one_hot(bins, N_BINS).float().T / len(planes)
        parts = {
            "share": member.sum(1) - self._known("share"),
            "image": member @ self.layout.image.analyse(differences[:, 0]),
            "border": member[N_EMPTY:] @ self.layout.border.analyse(differences[:, 1]),
            "profile": profile_means(planes[:, 0], planes[:, 1])[0].mean(0),
            **{name: torch.zeros(self.layout.shapes[name]) for name in ("warp_spread", "power")},
        }
        if self.number > 1:
            left = planes[:, 0] - warped(chosen, u)[:, 0]
            parts["power"] = residual_power(left).mean(0) - self._known("power")
            parts["warp_spread"] = self._warp_spread(moves[bins >= N_EMPTY])
        return self.layout.pack(parts, number=self.number)

    def _known(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.atlas[name], np.float32))

    def _warp_spread(self, moves: Float[Tensor, "patch c"]) -> Tensor:
        """Return by how much the mean square of standardised displacements differs in each band."""
        if len(moves) == 0:
            return torch.zeros(2 * WARP_BANDS)
        squares = ((moves / warp_std(self.layout.warp)) ** 2).mean(0)
        bands = functional.one_hot(self.layout.warp_bands(), 2 * WARP_BANDS).float()
        return (squares @ bands / bands.sum(0).clamp(min=1)).clamp(max=MOST) - self._known("warp_spread")


def as_planes(patches: LabelledPatches) -> Planes:
    """Return image and border distance of patches (patch, 2, row, col)."""
    return torch.stack([patches[:, 0], border_distance(patches[:, 1])], dim=1)


def public_bins(planes: Planes) -> Int[Tensor, " patch"]:
    """Return each patch's bin by public rules: its label's area, and whether it is brighter below."""
    image, area = planes[:, 0], (planes[:, 1] > 0).float().mean((1, 2))
    half = image.shape[1] // 2
    below = (image[:, half:].mean((1, 2)) > image[:, :half].mean((1, 2))).long()
    grown = torch.bucketize(area, torch.tensor(AREAS))
    return torch.where(area > 0, N_EMPTY + 2 * grown + below, below)


def nearest(planes: Planes, templates: Float[Tensor, "bin 2 row col"]) -> Int[Tensor, " patch"]:
    """Return each patch's nearest template among those with, or without, a label as it has."""
    distance = torch.cdist(_coarse(planes), _coarse(templates))
    empty = ~(planes[:, 1] > 0).flatten(1).any(1)
    wrong = empty[:, None] != (torch.arange(N_BINS) < N_EMPTY)[None]
    return distance.masked_fill(wrong, torch.inf).argmin(1)


def _coarse(planes: Float[Tensor, "n 2 row col"]) -> Float[Tensor, "n feature"]:
    small = functional.avg_pool2d(planes, _COARSE)
    return torch.cat([small[:, 0].flatten(1), _BORDER_SHARE * small[:, 1].flatten(1)], dim=1)


def residual_power(left: Float[Tensor, "patch row col"]) -> Float[Tensor, "patch band"]:
    """Return the mean square of each radial band over ``USUAL_POWER``, cut at ``MOST``."""
    size = (left.shape[1], left.shape[2])
    power = (torch.fft.fft2(left).abs() / float(np.prod(size))).square().flatten(1)
    bands = functional.one_hot(torch.from_numpy(radial_bands(size)).flatten(), N_RADIAL).float()
    return (power @ bands / USUAL_POWER).clamp(max=MOST)
