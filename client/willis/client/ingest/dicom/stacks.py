"""Group instances into stacks that are one volume each, or refuse them: no instance is lost, none guessed.

Series are named by pseudonym, the study's place and the series number, since nothing else may be shown.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from willis.client.ingest.dicom.duplicates import settle_places, settle_uids
from willis.client.ingest.dicom.header_flaws import (
    MULTI_FRAME,
    apart,
    few,
    header_flaw,
    multi_frame_flaw,
    told,
    whole_flaw,
)
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw, Lattice, Plane, arrange
from willis.client.ingest.dicom.parts import parts_of

NO_SUBJECT = "unknown-patient"

Digest = Callable[[Instance], str]


@dataclass(frozen=True)
class Stack:
    """Instances that make one volume, as far as their headers say.

    Attributes:
        name: ``SUBJECT/study-K/series-N``.
        subject: Pseudonym.
        study: Keyed digest; so ``series`` and ``frame_of_reference``.
        kind: As of :class:`Instance`.
        instances: Along their normal; one, where it is multi-frame.
        shape: Columns, rows, slices.
        spacing_mm: Along columns, rows and slices. Of a multi-frame instance the last is its slice thickness
            (0.0 where absent): only its frames, which ``voxels`` reads, tell the spacing.
        matches: Bits of the site's patterns that fit every instance.
        duplicates: How many equal copies were dropped.
    """

    name: str
    subject: str
    study: str
    series: str
    frame_of_reference: str
    kind: str
    modality: str
    instances: tuple[Instance, ...] = field(repr=False)
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    matches: int
    sequence: tuple[str, ...]
    duplicates: int


@dataclass(frozen=True)
class Refusal:
    """Instances that cannot be trusted to be one volume, and why.

    Attributes:
        name: ``SUBJECT/study-K/series-N``.
        code: Short and fixed.
        sentence: Which value, and what to do.
        instances: Those refused.
        duplicates: How many equal copies of them were dropped.
    """

    name: str
    code: str
    sentence: str
    instances: tuple[Instance, ...] = field(repr=False)
    duplicates: int = 0


@dataclass(frozen=True)
class _Draft:
    """A stack or refusal that has no name yet."""

    instances: tuple[Instance, ...]
    found: Lattice | Flaw | None
    duplicates: int = 0


def stacks(
    instances: Iterable[Instance],
    *,
    least_slices: int,
    digest: Digest | None = None,
    shared: Collection[str] = frozenset(),
) -> list[Stack | Refusal]:
    """Group instances, drop equal copies, and check each group by its headers.

    All studies of a patient must be given at once: their order makes the names.

    Guarantees:
        Every instance is in exactly one stack or refusal, or is an equal copy counted in ``duplicates``. The
        result is the same in whatever order the instances come.

    Args:
        least_slices: Fewer are refused; a stack has at least two.
        digest: SHA-256 of an instance's pixel data, ``""`` where it cannot be read. Asked only where two
            instances share a UID or a place and do not carry one.
        shared: Series (keyed digests) that the whole export holds under several patients.
    """
    ordered = sorted(instances, key=_rank)
    owners: dict[str, set[str]] = defaultdict(set)
    births: dict[str, set[str]] = defaultdict(set)
    for one in ordered:
        owners[one.series].add(one.subject)
        if one.subject and one.born:
            births[one.subject].add(one.born)
    twice = {series for series, subjects in owners.items() if len(subjects) > 1} | set(shared)
    conflicting = {subject for subject, born in births.items() if len(born) > 1}
    out: list[Stack | Refusal] = []
    for subject, group in groupby(ordered, key=lambda one: one.subject):
        members = list(group)
        whole = "conflicting-births" if subject in conflicting else "" if subject else "no-patient"
        drafts = _drafts(
            members, whole=whole, twice=twice, least=max(2, least_slices), digest=digest or _carried
        )
        out.extend(_named(subject, members, drafts))
    return out


def _rank(one: Instance) -> tuple:
    return (
        one.subject, one.study, one.series_number, one.series, one.kind, one.temporal, one.acquisition_number,
        one.instance_number, one.uid, one.file,
    )  # fmt: skip


def _carried(one: Instance) -> str:
    return one.pixels


def _drafts(
    members: Sequence[Instance], *, whole: str, twice: Collection[str], least: int, digest: Digest
) -> Iterator[_Draft]:
    for (_study, series), group in groupby(members, key=lambda one: (one.study, one.series)):
        together = tuple(group)
        code = whole or ("two-patients" if series in twice else "")
        if code:
            yield _Draft(together, whole_flaw(code))
        else:
            yield from _of_series(together, least=least, digest=digest)


def _of_series(members: Sequence[Instance], *, least: int, digest: Digest) -> Iterator[_Draft]:
    """Split one series of one patient into parts, and check each."""
    kept, dropped, flaw = settle_uids(members, digest)
    if flaw is not None:
        yield _Draft(tuple(members), flaw)
        return
    aside, rest = parts_of(kept)
    faults = _faults([one for part in rest for one in part])
    for part in aside:
        yield _Draft(part, apart(part[0]), _copies(part, dropped))
    for part in rest:
        if faults:
            yield _Draft(part, told(faults[0]), _copies(part, dropped))
        else:
            yield from _of_part(part, dropped, least=least, digest=digest)


def _faults(members: Sequence[Instance]) -> list[str]:
    """Return the faults of instances, the most frequent first."""
    found = Counter(code for one in members for code in one.faults)
    return sorted(found, key=lambda code: (-found[code], code))


def _copies(part: Iterable[Instance], dropped: Counter[str]) -> int:
    return sum(dropped[one.file] for one in part)


def _of_part(
    part: tuple[Instance, ...], dropped: Counter[str], *, least: int, digest: Digest
) -> Iterator[_Draft]:
    if part[0].kind in MULTI_FRAME and any(one.frames > 1 for one in part):
        yield _Draft(part, multi_frame_flaw(part, least=least), _copies(part, dropped))
        return
    flaw = header_flaw(part)
    if flaw is not None:
        yield _Draft(part, flaw, _copies(part, dropped))
        return
    for kept, copied, conflict in settle_places(part, digest, before=dropped):
        copies = _copies(kept, copied)
        if conflict is None and len(kept) < least:
            conflict = few(len(kept), least)
        yield _Draft(kept, conflict or arrange([_plane(one) for one in kept]), copies)


def _plane(one: Instance) -> Plane:
    assert one.position is not None
    assert one.orientation is not None
    assert one.spacing is not None
    return Plane(one.position, one.orientation, one.spacing)


def _named(subject: str, members: Sequence[Instance], drafts: Iterable[_Draft]) -> Iterator[Stack | Refusal]:
    """Give names by study and series number, in an order that does not depend on the export's."""
    days: dict[str, int] = {}
    for one in members:
        days[one.study] = min(days.get(one.study, one.study_day), one.study_day)
    place = {study: k for k, study in enumerate(sorted(days, key=lambda study: (days[study], study)), 1)}
    taken: Counter[tuple[int, int]] = Counter()
    ordered = sorted(drafts, key=lambda draft: place[draft.instances[0].study])
    for draft in ordered:
        first = draft.instances[0]
        key = (place[first.study], first.series_number)
        taken[key] += 1
        again = f"-{taken[key]}" if taken[key] > 1 else ""
        yield _finished(f"{subject or NO_SUBJECT}/study-{key[0]}/series-{key[1]}{again}", draft)


def _finished(name: str, draft: _Draft) -> Stack | Refusal:
    found, first = draft.found, draft.instances[0]
    if isinstance(found, Flaw):
        return Refusal(name, found.code, found.sentence, draft.instances, draft.duplicates)
    between, along = first.spacing or (0.0, 0.0)
    step = found.step_mm if found is not None else first.thickness or 0.0
    ordered = draft.instances if found is None else tuple(draft.instances[k] for k in found.order)
    matches = first.matches
    for one in ordered:
        matches &= one.matches
    return Stack(
        name=name, subject=first.subject, study=first.study, series=first.series,
        frame_of_reference=first.frame_of_reference, kind=first.kind, modality=first.modality,
        instances=ordered, shape=(first.columns, first.rows, first.frames if found is None else len(ordered)),
        spacing_mm=(along, between, step), matches=matches, sequence=first.sequence,
        duplicates=draft.duplicates,
    )  # fmt: skip
