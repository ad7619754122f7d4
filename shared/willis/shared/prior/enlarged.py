"""The prior in an image that is larger than a patch: structures keep their size and density."""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, prod

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.prior.families import Family, Range, parameters_of, ranges_of
from willis.shared.prior.tissue import count_in
from willis.shared.prior.vessels import count_across, count_trees

Count = Callable[[float], int]  # from a density to how many things an image holds

_STEPS = 2000  # values of a range for which things are counted


def enlarged_ranges(
    family: Family, ranges: Mapping[str, Range], *, patch: tuple[int, ...], size: tuple[int, ...]
) -> dict[str, Range]:
    """Return the ranges that draw in an image of one size what ``ranges`` draw in a patch of another.

    Guarantees:
        Of the patch's own size they are the ranges themselves. No value is beyond its parameter's bounds:
        where a bound is met there are fewer things than told here.

    Lengths are pixels and need no change. These do:

    * Lesions, spots, decoys, trees, loops and lines are counted in a square or cube of side 48, and rounded:
      a patch of 16 x 16 x 16 has one lesion wherever it has any, which is 27 in 48 x 48 x 48. So their
      density is the one that patches really have: the uniform range that is nearest (least squares) to it,
      with the same mean.
    * ``discs``, counted in an image, grow as the room for their centres does.
    * ``radius`` of lesions is that of the largest. A patch has few others, which are smaller; a larger
      image many. It grows until a lesion's volume is the same in the mean.
    * ``clustering``, the share of the way that lesions are pulled to one place, and ``extent`` of an organ,
      a share of the longest side, become the share that is as many pixels. There is still one organ, and
      there are as many neighbours about it.
    * ``regions``, the borders that one smooth field makes, grows as the sides do (their geometric mean), so
      that a line of the same length crosses as many.

    The rest stays a share of what is seen: the air beyond an edge, pools of fluid, the one wave of a bias
    field; there is one pair of ventricles. Textures are power laws, which have no size of their own: their
    deviation is that of the whole image, and of it a patch shows less, the steeper the slope. So outlines,
    which such a field makes rough, are rough in a larger image over longer stretches.

    Args:
        ranges: Low and high of parameters that differ from the family's own.
        patch: Pixels along each axis of what ``ranges`` are meant for.
        size: Of the larger image.

    Raises:
        ValueError: The ranges do not fit, or the organ is too small a share of the image.
    """
    used = ranges_of(family, ranges)
    if len(patch) != len(size):
        raise ValueError(f"size must have {len(patch)} numbers, as the patch has, got {size}")
    if tuple(size) == tuple(patch):
        return used
    known, longer = parameters_of(family), (prod(size) / prod(patch)) ** (1 / len(size))
    for name, found in _counted(family, used, patch=patch, size=size).items():
        used[name] = _within(found, (known[name].least, known[name].most))
    used["regions"] = _times(used["regions"], longer, most=known["regions"].most)
    if family == Family.LESIONS:
        larger = _larger(ranges_of(family, ranges)["lesions"], patch=patch, size=size)
        used["radius"] = _times(used["radius"], larger, most=known["radius"].most)
        used["clustering"] = _times(used["clustering"], 1 / longer)
    if family == Family.ORGAN:
        used["extent"] = _extent(family, used["extent"], longest=max(patch), longer=max(size) / max(patch))
    return used


def _counted(
    family: Family, used: Mapping[str, Range], *, patch: tuple[int, ...], size: tuple[int, ...]
) -> dict[str, Range]:
    """Return densities as patches really have them."""
    room, across = prod(patch) / 48 ** len(patch), (prod(patch) ** (1 / len(patch)) / 48) ** (len(patch) - 1)
    counts: dict[str, tuple[Count, float]] = {"spots": (partial(count_in, patch), room)}
    if family == Family.LESIONS:
        counts |= dict.fromkeys(("lesions", "decoys"), counts["spots"])
    if family == Family.VESSELS:
        counts |= dict.fromkeys(("loops", "lines"), (partial(count_across, patch), across))
        counts["trees"] = (partial(count_trees, patch), across)
    changed = {name: _as_dense(used[name], count, one) for name, (count, one) in counts.items()}
    wide = (
        1.4 * sum(used["disc_radius"]) / 2
    )  # how far their centres may lie apart beyond an image, in the mean
    more = prod(side + wide for side in size) / prod(side + wide for side in patch)
    return changed | {"discs": _as_dense(used["discs"], lambda density: max(0, round(density)), 1 / more)}


def _as_dense(given: Range, count: Count, one: float) -> Range:
    """Return the uniform range nearest to the density of what is counted; 0 and twice the mean if below 0.

    Args:
        given: Low and high of the density that is told.
        count: How many things a patch has by it.
        one: How many are in a patch of which the density is 1.
    """
    found = np.array([count(float(density)) for density in _spread(given)]) / one
    mean = float(found.mean())
    half = 6 * float((_spread((-0.5, 0.5)) * found).mean())  # of what the line nearest to them rises
    return mean - min(half, mean), mean + min(half, mean)


def _spread(given: Range) -> Float[ndarray, " value"]:
    """Return values of a range, evenly apart."""
    return given[0] + (given[1] - given[0]) * (np.arange(_STEPS) + 0.5) / _STEPS


def _larger(lesions: Range, *, patch: tuple[int, ...], size: tuple[int, ...]) -> float:
    """Return by what the largest radius grows, so that lesions have the same volume in the mean."""
    axes = len(size)
    smaller = (1 - 0.25 ** (axes + 1)) / (0.75 * (axes + 1))  # mean of u ** axes, u from 0.25 to 1
    counts = np.array([count_in(patch, float(density)) for density in _spread(lesions)])
    if not counts.any():
        return 1.0
    here = (counts > 0) + np.maximum(counts - 1, 0) * smaller  # in volumes of the largest
    many = counts.mean() * prod(size) / prod(patch)
    there = (1 + max(many - 1, 0) * smaller) / many
    return max(1.0, float((here.mean() / counts.mean() / there) ** (1 / axes)))


def _extent(family: Family, extent: Range, *, longest: int, longer: float) -> Range:
    """Return an organ's share of the longest side.

    Raises:
        ValueError: It is below the parameter's bound.
    """
    least, (low, _) = parameters_of(family)["extent"].least, extent
    if low / longer < least:
        raise ValueError(
            f"an organ of {low:g} of {longest} pixels is too small a share of {round(longest * longer)} "
            f"pixels; the longest side must be at most {int(longest * low / least)}"
        )
    return _times(extent, 1 / longer)


def _times(given: Range, factor: float, *, most: float = inf) -> Range:
    return min(given[0] * factor, most), min(given[1] * factor, most)


def _within(given: Range, bounds: Range) -> Range:
    """Return a range within bounds, its mean kept where they allow it."""
    least, most = bounds
    low, high = max(given[0], least), min(given[1], most)
    return min(max(low, sum(given) - high), high), high
