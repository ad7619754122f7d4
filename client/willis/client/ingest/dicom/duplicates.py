"""Drop equal copies of an instance; where copies differ, say so instead of choosing one."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import SAME_PLACE_MM, Flaw

Digest = Callable[[Instance], str]
Settled = tuple[tuple[Instance, ...], "Counter[str]", Flaw | None]


def settle_uids(members: Sequence[Instance], digest: Digest) -> Settled:
    """Keep one of the instances that share a UID, where header facts and pixels are equal.

    Returns:
        Kept instances, how many copies of each kept file were dropped, and what is wrong, if copies differ.
    """
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    for one in members:
        by_uid[one.uid].append(one)
    kept, dropped = [], Counter()
    for copies in by_uid.values():
        if len(copies) > 1:
            facts = {replace(one, file="", pixels="") for one in copies}
            if len(facts) > 1 or not _equal_pixels(copies, digest):
                text = f"{len(copies)} files share one SOPInstanceUID and differ; export the series again"
                return tuple(members), Counter(), Flaw("copies-differ", text)
        kept.append(copies[0])
        dropped[copies[0].file] += len(copies) - 1
    return tuple(kept), dropped, None


def settle_places(part: tuple[Instance, ...], digest: Digest, *, before: Counter[str]) -> Iterator[Settled]:
    """Keep one of the instances at each place, where their pixels are equal.

    Where they differ but were acquired apart (AcquisitionNumber), each acquisition is settled by itself.

    Args:
        before: How many copies of each file were dropped already; they are counted again in what is returned.
    """
    kept, dropped = [], Counter()
    for copies in _places(part):
        if len(copies) > 1 and not _equal_pixels(copies, digest):
            yield from _by_acquisition(part, digest, before=before, n_copies=len(copies))
            return
        kept.append(copies[0])
        dropped[copies[0].file] = len(copies) - 1 + sum(before[one.file] for one in copies)
    yield tuple(kept), dropped, None


def _by_acquisition(
    part: tuple[Instance, ...], digest: Digest, *, before: Counter[str], n_copies: int
) -> Iterator[Settled]:
    acquired: dict[int, list[Instance]] = defaultdict(list)
    for one in part:
        acquired[one.acquisition_number].append(one)
    if len(acquired) > 1:
        for number in sorted(acquired):
            yield from settle_places(tuple(acquired[number]), digest, before=before)
        return
    text = f"{n_copies} images of other content lie at one place, and no header fact tells them apart"
    yield part, before, Flaw("two-images-a-place", f"{text}; export each volume as its own series")


def _places(part: Sequence[Instance]) -> list[list[Instance]]:
    """Return instances by place, nearest neighbours on each axis joined within :data:`SAME_PLACE_MM`."""
    groups = [list(part)]
    for axis in range(3):
        groups = [nearer for group in groups for nearer in _joined(group, axis)]
    return groups


def _joined(group: list[Instance], axis: int) -> Iterator[list[Instance]]:
    ordered = sorted(group, key=lambda one: (_coordinate(one, axis), one.file))
    chain = ordered[:1]
    for one in ordered[1:]:
        if _coordinate(one, axis) - _coordinate(chain[-1], axis) > SAME_PLACE_MM:
            yield chain
            chain = []
        chain.append(one)
    yield chain


def _coordinate(one: Instance, axis: int) -> float:
    """Return a coordinate that can be sorted; NaN, which ``lattice`` refuses, comes last."""
    value = one.position[axis] if one.position is not None else float("inf")
    return value if value == value else float("inf")


def _equal_pixels(copies: Sequence[Instance], digest: Digest) -> bool:
    found = {one.pixels or digest(one) for one in copies}
    return len(found) == 1 and "" not in found
