"""What an intake makes: every patient's images that the rule takes, and the masks that may be theirs."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from willis.client.ingest.dicom.choice import Verdict, choose
from willis.client.ingest.dicom.duplicates import settle_uids
from willis.client.ingest.dicom.header_flaws import whole_flaw
from willis.client.ingest.dicom.index import Index
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw
from willis.client.ingest.dicom.places import Places
from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.ingest.dicom.stacks import NO_SUBJECT, Refusal, Stack, stacks

_MASKS = ("seg", "label-map-seg", "rtstruct")


@dataclass(frozen=True)
class Wanted:
    """An image to convert, or a mask that stands alone.

    Attributes:
        name: ``SUBJECT/study-K/series-N``, or ``SUBJECT/mask-N``.
        subject: Pseudonym.
        image: None where a mask stands alone.
        masks: That may be the image's label; the one that stands alone.
    """

    name: str
    subject: str
    image: Stack | None
    masks: tuple[Instance, ...]

    def files(self) -> list[str]:
        """Return what the scan is made of, by ``Instance.file``."""
        return [one.file for one in self.instances()]

    def instances(self) -> tuple[Instance, ...]:
        """Return what the scan is made of."""
        return (() if self.image is None else self.image.instances) + self.masks


def plan(rule: IntakeRule, index: Index, places: Places) -> tuple[list[Wanted], list[Verdict], int]:
    """Return what to convert, a verdict for every other series, and how many equal copies were dropped."""
    wanted: list[Wanted] = []
    verdicts: list[Verdict] = []
    duplicates = 0
    shared = index.series_of_several()
    for subject in index.subjects():
        members = list(index.instances(subject=subject))
        found = stacks(
            [one for one in members if one.kind not in _MASKS],
            least_slices=rule.least_slices,
            digest=places.pixel_digest,
            shared=shared,
        )
        duplicates += sum(one.duplicates for one in found)
        told = [one for one in members if one.kind in _MASKS]
        masks = tuple(_once(told, places.pixel_digest))
        duplicates += len(told) - len(masks)
        if rule.label.source == "masks-alone":
            alone = _alone(subject, masks)
            refused = [_flaw(one.masks[0], masks, shared) for one in alone]
            wanted += [one for one, flaw in zip(alone, refused, strict=True) if flaw is None]
            verdicts += [
                Verdict(one.name, False, flaw.code, flaw.sentence, refused=True)
                for one, flaw in zip(alone, refused, strict=True)
                if flaw is not None
            ]
            verdicts += [
                Verdict(one.name, False, "masks-alone", "the rule takes segmentations without images")
                for one in found
            ]
            continue
        studies: dict[str, list[Stack | Refusal]] = {}
        for one in found:
            studies.setdefault(one.name.rpartition("/")[0], []).append(one)
        for study in studies.values():
            taken, others = choose(study, rule.image)
            verdicts += others
            wanted += [Wanted(one.name, subject, one, _masks_of(one, masks)) for one in taken]
    return wanted, verdicts, duplicates


def _once(masks: Iterable[Instance], digest: Callable[[Instance], str]) -> Iterator[Instance]:
    """Yield masks without their equal copies; where two of one UID differ, all of them."""
    of_uid: dict[str, list[Instance]] = {}
    for one in masks:
        of_uid.setdefault(one.uid, []).append(one)
    for copies in of_uid.values():
        yield from settle_uids(copies, digest)[0]


def _flaw(mask: Instance, masks: Iterable[Instance], shared: Collection[str]) -> Flaw | None:
    """Return why a mask must not stand alone: whose it is, or what it shows, is not known for sure."""
    if not mask.subject:
        return whole_flaw("no-patient")
    if len({one.born for one in masks if one.born}) > 1:
        return whole_flaw("conflicting-births")
    if mask.series in shared:
        return whole_flaw("two-patients")
    if sum(one.uid == mask.uid for one in masks) > 1:
        return Flaw("copies-differ", "several files share one SOPInstanceUID and differ; export it again")
    return None


def _masks_of(image: Stack, masks: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the masks that say they are of an image, and those that do not say of which."""
    return tuple(
        one
        for one in masks
        if image.series in one.references
        or (not one.references and one.frame_of_reference in ("", image.frame_of_reference))
    )


def _alone(subject: str, masks: Iterable[Instance]) -> list[Wanted]:
    order = sorted(masks, key=lambda one: (one.study_day, one.study, one.series_number, one.uid))
    return [
        Wanted(f"{subject or NO_SUBJECT}/mask-{number}", subject, None, (one,))
        for number, one in enumerate(order, start=1)
    ]
