"""Split one series into parts of like instances: same grid, direction, echo, time, b-value and phase."""

from collections import defaultdict
from collections.abc import Sequence

from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import SAME_COSINE, SAME_SPACING_MM

SAME_ECHO_MS = 0.01
SAME_B_VALUE = 1.0

Part = tuple[Instance, ...]

# Pages that devices put into a series beside its images; the images are none the worse for them.
APART = frozenset({"localizer", "projection", "secondary-capture", "photometric"})
_IMAGES = frozenset({"mr", "ct", "enhanced-mr", "enhanced-ct"})


def parts_of(members: Sequence[Instance]) -> tuple[list[Part], list[Part]]:
    """Return pages that are set apart, and the parts that may be volumes.

    Numbers are alike where a chain of values joins them, each within a tolerance of the next; the result does
    not depend on the order of ``members``, but for the order inside each part.
    """
    apart: dict[tuple, list[Instance]] = defaultdict(list)
    images: list[Instance] = []
    for one in members:
        odd = tuple(sorted(APART & set(one.faults)))
        if odd or one.kind not in _IMAGES:
            apart[one.kind, odd].append(one)
        else:
            images.append(one)
    return [tuple(apart[key]) for key in sorted(apart)], _alike(images)


def _alike(images: Sequence[Instance]) -> list[Part]:
    columns = [
        _joined([_numbers(one.echo_time, 1) for one in images], SAME_ECHO_MS),
        _joined([_numbers(one.b_value, 1) for one in images], SAME_B_VALUE),
        _joined([_numbers(one.spacing, 2) for one in images], SAME_SPACING_MM),
        _joined([_numbers(one.orientation, 6) for one in images], SAME_COSINE),
    ]
    parts: dict[tuple, list[Instance]] = defaultdict(list)
    for index, one in enumerate(images):
        numbers = tuple(column[index] for column in columns)
        key = (one.kind, one.modality, one.rows, one.columns, one.temporal, one.phase, *numbers)
        parts[key].append(one)
    return [tuple(parts[key]) for key in sorted(parts)]


def _numbers(value: float | tuple[float, ...] | None, n: int) -> tuple[float | None, ...]:
    if value is None:
        return (None,) * n
    return value if isinstance(value, tuple) else (value,)


def _joined(rows: Sequence[tuple[float | None, ...]], tolerance: float) -> list[tuple[int, ...]]:
    """Return for each row the numbers of the chains that its values belong to."""
    by_axis = [_chains(values, tolerance) for values in zip(*rows, strict=True)]
    return list(zip(*by_axis, strict=True))


def _chains(values: Sequence[float | None], tolerance: float) -> list[int]:
    """Number the chains of near values; -1 is absent, -2 is NaN."""
    finite = sorted({value for value in values if value is not None and value == value})
    chain: dict[float, int] = {}
    number = 0
    for before, value in zip([None, *finite], finite, strict=False):
        number += before is not None and value - before > tolerance
        chain[value] = number
    return [-1 if value is None else chain[value] if value == value else -2 for value in values]
