"""What an atlas holds and what a subject is asked: names, shapes and weights of every number."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.recipe_plans import AtlasPlan
from willis.shared.recipes.atlas.frame import Basis, cosines
from willis.shared.recipes.atlas.profile import N_PROFILE, profile_field
from willis.shared.recipes.demands import plan_of
from willis.shared.study import Study
from willis.shared.update import Arrays

N_EMPTY = 2  # bins without any label: image darker or brighter above than below
AREAS = (0.06, 0.12)  # share of the patch that separates small, middle and large labels
N_LABELLED = 2 * (len(AREAS) + 1)  # each of these darker or brighter above than below
N_BINS = N_EMPTY + N_LABELLED
RADIAL_EDGES = (0.035, 0.07, 0.12, 0.2, 0.3)  # cycles a pixel, between bands of the residual's power
N_RADIAL = len(RADIAL_EDGES) + 1
WARP_EDGES = (0.5, 1.5, 2.5)  # half periods over the last side, between bands of displacements
WARP_BANDS = len(WARP_EDGES) + 1
USUAL_POWER = 0.015  # of a band: 0.3 of the range [-1, 1] as standard deviation, shared by the octaves
MOST = 4.0  # a ratio to what is usual is cut here

# How much each part of a subject's vector weighs, in the first round and later, when templates are near. A
# part's noise is the release's over its weight; together the parts keep the norm of most subjects below 1,
# where ``privacy.clip_norm`` cuts.
FIRST: Mapping[str, float] = {
    "share": 0.5,
    "image": 3.2,
    "border": 5.5,
    "profile": 0.2,
    "warp_spread": 0.04,
    "power": 0.03,
}
LATER: Mapping[str, float] = {
    "share": 0.4,
    "image": 5.5,
    "border": 11.0,
    "profile": 0.2,
    "warp_spread": 0.06,
    "power": 0.06,
}


@dataclass(frozen=True)
class Layout:
    """Bases and the places of a vector's parts.

    Attributes:
        image: Basis of the templates' images.
        border: Basis of their distances to the label's border.
        warp: Basis of displacements.
    """

    image: Basis
    border: Basis
    warp: Basis

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every part, in the vector's order."""
        return {
            "share": (N_BINS,),
            "image": (N_BINS, len(self.image.waves)),
            "border": (N_LABELLED, len(self.border.waves)),
            "profile": (N_PROFILE,),
            "warp_spread": (2 * WARP_BANDS,),
            "power": (N_RADIAL,),
        }

    @property
    def length(self) -> int:
        """Coordinates of a vector."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def pack(self, parts: Mapping[str, Tensor], *, number: int) -> Float[Tensor, " coordinate"]:
        """Return the parts in a row, each times its weight in a round."""
        return torch.cat([weights(number)[name] * parts[name].flatten() for name in self.shapes])

    def unpack(self, vector: np.ndarray, *, number: int) -> dict[str, np.ndarray]:
        """Return the parts of a vector, each divided by its weight in a round."""
        parts, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + int(np.prod(shape))
            parts[name] = vector[start:end].reshape(shape) / weights(number)[name]
            start = end
        return parts

    def warp_bands(self) -> Int[Tensor, " coefficient"]:
        """Return the band of every coefficient of a displacement; columns' bands follow the rows'."""
        one = torch.bucketize(self.warp.relative, torch.tensor(WARP_EDGES))
        return torch.cat([one, one + WARP_BANDS])


def weights(number: int) -> Mapping[str, float]:
    """Return the parts' weights in a round, from 1."""
    return FIRST if number == 1 else LATER


def layout_of(study: Study) -> Layout:
    """Return the layout of a study's patches.

    Raises:
        StudyError: The recipe is another, or the patches are not planes with one image channel.
    """
    patch, plan = study.patch, plan_of(study, AtlasPlan)
    if not (patch.dimensions == 2 and len(patch.channels) == 1):
        raise StudyError(
            "the recipe atlas draws planes with one image channel; "
            f"got patch.size {patch.size} and {len(patch.channels)} channels: choose another recipe"
        )
    size = (patch.size[0], patch.size[1])
    return Layout(
        cosines(size, highest=plan.detail),
        cosines(size, highest=plan.border_detail),
        cosines(size, highest=plan.warp_periods / size[1]),
    )


def check_state(arrays: Arrays, layout: Layout) -> None:
    """Raise ``ValueError`` unless arrays are those of an atlas of this layout, and finite.

    They are: ``share`` of each bin; ``image`` and ``border`` of its template; ``profile``, the mean grey
    across the border that was answered so far, and ``added``, what of it the templates lack; ``broad``, the
    share of draws that are the prior's own; ``warp_spread``, the displacements' variance in each band over
    the public one; ``power``, the residual's mean square in each radial band over ``USUAL_POWER``.
    """
    wanted = {**layout.shapes, "added": (N_PROFILE,), "broad": (1,)}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    if found != wanted:
        raise ValueError(f"an atlas' arrays must have the shapes {wanted}, got {found}")
    wrong = [name for name, array in arrays.items() if not bool(np.isfinite(array).all())]
    if wrong:
        raise ValueError(f"an atlas' arrays must be finite, got NaN or infinity in {', '.join(wrong)}")


def templates_of(arrays: Arrays, layout: Layout) -> Float[Tensor, "bin 2 row col"]:
    """Return image and border distance of every bin; the distance is -1 where there is no label."""
    image = layout.image.draw(torch.from_numpy(np.array(arrays["image"], np.float32)))
    border = layout.border.draw(torch.from_numpy(np.array(arrays["border"], np.float32)))
    border = torch.cat([torch.full_like(image[:N_EMPTY], -1), border])
    return torch.stack([image, border], dim=1)


def sharpened(planes: Float[Tensor, "patch 2 row col"], arrays: Arrays) -> Float[Tensor, "patch 2 row col"]:
    """Return templates, or warps of them, with the grey that the profile adds across their border."""
    added = profile_field(torch.from_numpy(np.array(arrays["added"], np.float32)), planes[:, 1])
    return torch.stack([planes[:, 0] + added, planes[:, 1]], dim=1)


def radial_bands(size: tuple[int, int]) -> np.ndarray:
    """Return the band, 0 to ``N_RADIAL`` - 1, of every frequency of a plane's ``fft2``."""
    up, along = np.meshgrid(np.fft.fftfreq(size[0]), np.fft.fftfreq(size[1]), indexing="ij")
    return np.digitize(np.hypot(up, along), RADIAL_EDGES)
