"""The prior in an image that is larger than a patch: structures keep their size in pixels."""

from collections.abc import Mapping
from math import prod

from willis.shared.prior.families import Family, Range, parameters_of, ranges_of


def enlarged_ranges(
    family: Family, ranges: Mapping[str, Range], *, patch: tuple[int, ...], size: tuple[int, ...]
) -> dict[str, Range]:
    """Return the ranges that draw in an image of one size what ``ranges`` draw in a patch of another.

    Most parameters need no change: lengths are pixels, and vessels, lesions, spots and decoys are counted in
    a square or cube of side 48, so a larger image holds more of them. Those that are told in images change:

    * ``extent`` of an organ, a share of the longest side, becomes the share that is as many pixels. There is
      still one organ.
    * ``regions``, the borders that one smooth field makes, grows as the sides do (their geometric mean), so
      that a line of the same length crosses as many; up to the parameter's bound.

    The rest stays a share of what is seen: the air beyond an edge, pools of fluid, the one wave of a bias
    field. Textures are power laws, which have no size of their own: their deviation is that of the whole
    image, and of it a patch shows less, the steeper the slope. So outlines, which such a field makes rough,
    are rough in a larger image over longer stretches.

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
    known = parameters_of(family)
    longer = (prod(size) / prod(patch)) ** (1 / len(size))
    most = known["regions"].most
    low, high = used["regions"]
    used["regions"] = (min(most, low * longer), min(most, high * longer))
    if "extent" in used:
        longest = max(size) / max(patch)
        low, high = used["extent"]
        if low / longest < known["extent"].least:
            room = int(max(patch) * low / known["extent"].least)
            raise ValueError(
                f"an organ of {low:g} of {max(patch)} pixels is too small a share of {max(size)} pixels; "
                f"the longest side must be at most {room}"
            )
        used["extent"] = (low / longest, high / longest)
    return used
