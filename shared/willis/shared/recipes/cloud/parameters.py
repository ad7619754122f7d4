"""The prior as a function of its parameters: draw them, draw patches at them, judge which are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family, Range, ranges_of
from willis.shared.recipes.demands import check_one_image_channel
from willis.shared.study import Study

_ERRORS = 2.5


@dataclass(frozen=True)
class ParameterSpace:
    """A study's prior and the box in which its parameters lie.

    Attributes:
        family: Which prior.
        size: Pixels along each axis of a patch.
        ranges: Low and high of every parameter, by name, in the order in which vectors hold them.
    """

    family: Family
    size: tuple[int, ...]
    ranges: tuple[tuple[str, Range], ...]
    low: Float[ndarray, " parameter"] = field(init=False, repr=False, compare=False)
    high: Float[ndarray, " parameter"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, end in (("low", 0), ("high", 1)):
            object.__setattr__(self, name, np.array([limits[end] for _, limits in self.ranges], np.float64))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of a vector."""
        return tuple(name for name, _ in self.ranges)

    def draw(self, n: int, generator: np.random.Generator) -> Float[ndarray, "n parameter"]:
        """Draw vectors uniformly from the box."""
        return self.low + (self.high - self.low) * generator.uniform(size=(n, len(self.names)))

    def patches(
        self, vectors: Float[ndarray, "patch parameter"], generator: np.random.Generator
    ) -> LabelledPatches:
        """Draw one patch at every vector."""
        everything = np.ones(len(self.names), bool)
        children = generator.spawn(len(vectors))
        drawn = [
            self.patch(vector, everything, child) for vector, child in zip(vectors, children, strict=True)
        ]
        return torch.cat(drawn) if drawn else torch.empty((0, 2, *self.size))

    def patch(
        self,
        vector: Float[ndarray, " parameter"],
        fixed: Bool[ndarray, " parameter"],
        generator: np.random.Generator,
    ) -> LabelledPatches:
        """Draw one patch: fixed parameters at a vector, cut to the box, the others in their ranges."""
        values = np.clip(vector.astype(np.float64), self.low, self.high)
        at: Mapping[str, Range] = {
            name: (float(value), float(value)) if known else limits
            for (name, limits), value, known in zip(self.ranges, values, fixed, strict=True)
        }
        return draw_patches(self.family, n=1, size=self.size, generator=generator, ranges=at)

    def narrowing(
        self, vectors: Float[ndarray, "n parameter"], weights: Float[ndarray, " n"]
    ) -> tuple[Float[ndarray, " parameter"], Float[ndarray, " parameter"]]:
        """Return what weights left of each parameter's spread in the box, and how far they moved its mean.

        Both in standard deviations of the whole box. A parameter that has one value only in the box counts
        as 1 and 0: there is nothing to learn.
        """
        share = weights / weights.sum()
        mean, width = share @ vectors, self.high - self.low
        deviation = np.where(width > 0, width, 1) / np.sqrt(12)
        left = np.sqrt(share @ (vectors - mean) ** 2) / deviation
        moved = np.abs(mean - (self.low + self.high) / 2) / deviation
        return np.where(width > 0, left, 1.0), np.where(width > 0, moved, 0.0)

    def told_apart(
        self,
        vectors: Float[ndarray, "n parameter"],
        weights: Float[ndarray, " n"],
        *,
        identified: float,
        draws: float,
    ) -> Bool[ndarray, " parameter"]:
        """Return which parameters weights tell apart from the whole box.

        Those whose spread fell below a share ``identified`` of that in the box, or whose mean moved by more
        than 2.5 (1 - ``identified``) of the box's deviations; in both cases further than 2.5 standard errors
        of a uniform sample of that many independent ``draws`` (of its mean 1 / sqrt(draws), of its standard
        deviation 1 / sqrt(5 draws)), so that a parameter that nobody asked for is seldom told apart.
        """
        left, moved = self.narrowing(vectors, weights)
        chance = _ERRORS / np.sqrt(draws)
        narrow = left < min(identified, 1 - chance / np.sqrt(5))
        return narrow | (moved > max(_ERRORS * (1 - identified), chance))

    def unit(self, vectors: Float[ndarray, "n parameter"]) -> Float[ndarray, "n parameter"]:
        """Return vectors with every parameter from -1 to 1 over the box; 0 where it has one value only."""
        width = self.high - self.low
        return np.where(width > 0, 2 * (vectors - self.low) / np.where(width > 0, width, 1) - 1, 0)


def space_of(study: Study) -> ParameterSpace:
    """Return the study's parameters.

    Raises:
        StudyError: The study has more image channels than the prior can draw.
    """
    check_one_image_channel(study)
    family = Family(study.prior.family)
    ranges = ranges_of(family, study.prior.ranges)
    return ParameterSpace(family, tuple(study.patch.size), tuple(ranges.items()))


def public_dice(seed: int, *purpose: object) -> np.random.Generator:
    """Return NumPy's dice for a public purpose; anyone with the study can throw them again."""
    return np.random.default_rng(public_generator(seed, *purpose).initial_seed())


def systematic(
    weights: Float[ndarray, " n"], n: int, generator: np.random.Generator
) -> Int[ndarray, " chosen"]:
    """Return n indices, each drawn in proportion to its weight and as evenly as can be (Kitagawa 1996)."""
    edges = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(edges, (np.arange(n) + generator.uniform()) / n), len(weights) - 1)
