"""The families of the prior, and what a study may change in them."""

import math
from collections.abc import Mapping
from enum import StrEnum

from willis.shared.prior.parameters import LESIONS, ORGAN, VESSELS, Parameter

Range = tuple[float, float]


class Family(StrEnum):
    """What the label marks."""

    VESSELS = "vessels"  # branching trees in tissue: angiography, fundus photographs
    LESIONS = "lesions"  # blobs inside tissue: stroke, multiple sclerosis
    ORGAN = "organ"  # one compact structure among similar ones: hippocampus


_TABLES: Mapping[Family, Mapping[str, Parameter]] = {
    Family.VESSELS: VESSELS,
    Family.LESIONS: LESIONS,
    Family.ORGAN: ORGAN,
}


def parameters_of(family: Family) -> Mapping[str, Parameter]:
    """Return the family's parameters by name, in the order in which they are drawn."""
    return _TABLES[Family(family)]


def check_ranges(family: Family, ranges: Mapping[str, Range]) -> None:
    """Raise ``ValueError`` unless every range names a parameter of the family and lies within its bounds.

    Raises:
        ValueError: With every fault: unknown names (and the known ones), ranges that are inverted, not
            finite or out of bounds.
    """
    known = parameters_of(family)
    faults = [_fault(name, known[name], ranges[name]) for name in ranges if name in known]
    faults = [fault for fault in faults if fault]
    unknown = sorted(set(ranges) - set(known))
    if unknown:
        faults.append(f"unknown: {', '.join(unknown)}; {Family(family)} knows {', '.join(sorted(known))}")
    if faults:
        raise ValueError(f"ranges of the {Family(family)} prior do not fit: " + "; ".join(faults))


def _fault(name: str, parameter: Parameter, given: Range) -> str:
    if len(given) != 2:
        return f"{name} needs a low and a high, got {given}"
    low, high = given
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{name} must be finite, got {low} to {high}"
    if not low <= high:
        return f"{name} must not fall, got {low} to {high}"
    if not (parameter.least <= low and high <= parameter.most):
        return f"{name} must lie within {parameter.least:g} to {parameter.most:g}, got {low} to {high}"
    return ""


def ranges_of(family: Family, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return low and high of every parameter: the family's own, with the given ones in their place.

    Raises:
        ValueError: See :func:`check_ranges`.
    """
    check_ranges(family, ranges)
    own = {name: (parameter.low, parameter.high) for name, parameter in parameters_of(family).items()}
    return own | {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
