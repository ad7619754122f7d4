"""Fetch studies from a PACS into the spool; what is there is not asked for again."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from willis.client.pacs.accepted import CLASSES, is_uid
from willis.client.pacs.dimse_source import DimseSource
from willis.client.pacs.receive import LOCK_FILE, Receiver
from willis.client.pacs.settings import PacsSettings
from willis.client.pacs.source import Broken, Listed, StudySource
from willis.client.pacs.spool import Arrived, Spool, Verdict
from willis.client.pacs.web_source import WebSource
from willis.shared.errors import StateError, Unreachable
from willis.shared.lock import is_held

Way = Literal["get", "move", "web"]
Progress = Callable[[int, int], None]
_PAUSES_S = (0.0, 1.0, 5.0)  # before each try of a study


@dataclass(frozen=True)
class Fetched:
    """What a fetch came to; counts, no identity.

    Attributes:
        studies: How many were asked for.
        complete: Of them all that we take is in the spool.
        unknown: The PACS does not know them; their lines in the list.
        incomplete: Something lacks; their lines in the list.
        instances: That the PACS has of these studies.
        fetched: Came now.
        there: Were there before.
        left: Of classes that are not taken.
        refused: Came, and were not kept, by reason.
    """

    studies: int
    complete: int
    unknown: tuple[int, ...]
    incomplete: tuple[int, ...]
    instances: int
    fetched: int
    there: int
    left: int
    refused: dict[str, int]


def read_list(path: Path) -> dict[str, int]:
    """Return the StudyInstanceUIDs of a list, one a line, with the number of each one's line.

    Empty lines and what follows a ``#`` are passed over; a study that is named twice counts once.

    Raises:
        StateError: It cannot be read, or lines of it are no UID; they are named by number, never quoted.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise StateError(f"cannot read the list of studies: {type(fault).__name__}") from None
    found: dict[str, int] = {}
    wrong = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text and not is_uid(text):
            wrong.append(f"line {number}: is no StudyInstanceUID (digits and dots, at most 64)")
        elif text:
            found.setdefault(text, number)
    if wrong or not found:
        raise StateError("the list of studies does not fit", wrong or ["it names no study"])
    return found


def fetch(
    settings: PacsSettings, studies: dict[str, int], *, by: Way, progress: Progress | None = None
) -> Fetched:
    """Fetch studies.

    Args:
        settings: The site's.
        studies: See :func:`read_list`.
        by: C-GET, C-MOVE to our own listener, or DICOMweb.
        progress: Called with how many studies are done, of how many.

    Raises:
        StateError: The way is not set up, or the spool is full.
        SiteRefused: The PACS does not let us in.
        Unreachable: It did not answer; what came before is kept, and a second run goes on from there.
    """
    spool = Spool(settings.spool, watermark_bytes=settings.watermark_bytes)
    counts: Counter[str] = Counter()
    unknown, incomplete = [], []
    with _source(settings, by, counts) as source:
        for done, (study, line) in enumerate(studies.items()):
            if progress:
                progress(done, len(studies))
            listed, lacking = _fetch_one(source, spool, study, counts=counts)
            if not listed:
                unknown.append(line)
            elif lacking:
                incomplete.append(line)
    if progress:
        progress(len(studies), len(studies))
    return Fetched(
        studies=len(studies),
        complete=len(studies) - len(unknown) - len(incomplete),
        unknown=tuple(unknown),
        incomplete=tuple(incomplete),
        instances=counts["instances"],
        fetched=counts["fetched"],
        there=counts["there"],
        left=counts["left"],
        refused={str(one): counts[one] for one in Verdict if not one.is_kept and counts[one]},
    )


@contextmanager
def _source(settings: PacsSettings, by: Way, counts: Counter[str]) -> Iterator[StudySource]:
    """Open one way of asking; with C-MOVE our own listener too, where none runs already."""
    if by == "web":
        if settings.web is None:
            raise StateError("[pacs] has no [pacs.web]: set its url to fetch by DICOMweb")
        with WebSource(settings.web, most_instance_bytes=settings.most_instance_bytes) as source:
            yield source
        return
    if settings.source is None:
        raise StateError("[pacs] has no [pacs.source]: set the PACS' ae_title, host and port")
    source = DimseSource(settings.source, settings.ae_title, moves=by == "move")
    if by == "get" or is_held(settings.spool / LOCK_FILE):
        yield source
        return
    if settings.source.ae_title not in {caller.ae_title for caller in settings.callers}:
        raise StateError("[pacs] callers lack the PACS itself: by C-MOVE it calls us, name its ae_title")
    with Receiver(settings, counts=counts):
        yield source


def _fetch_one(
    source: StudySource, spool: Spool, study: str, *, counts: Counter[str]
) -> tuple[list[Listed], list[Listed]]:
    """Return what the PACS has of a study, and what lacks after all tries."""

    def deliver(arrived: Arrived) -> Verdict:
        verdict, _ = spool.keep(arrived, study=study)
        counts[verdict] += 1
        return verdict

    listed: list[Listed] | None = None
    missing: list[Listed] = []
    ours: list[Listed] = []
    there = 0
    for number, pause in enumerate(_PAUSES_S, start=1):
        time.sleep(pause)
        try:
            if listed is None:
                listed = source.listing(study)
                ours = [one for one in listed if not one.sop_class or one.sop_class in CLASSES]
                missing = _lacking(spool, ours)
                there = len(ours) - len(missing)
            if not missing:
                break
            before = len(missing)
            source.bring(study, missing, deliver)
            missing = _lacking(spool, ours)
            if len(missing) == before:  # the PACS answers, and does not send: no try changes that
                break
        except Broken as fault:
            missing = _lacking(spool, ours)
            if number == len(_PAUSES_S) and (listed is None or not fault.answered):
                raise Unreachable(f"the PACS {fault}; what came is kept, run it again to go on") from None
        finally:
            _check_room(spool, counts)
    counts.update(
        instances=len(listed or ()),
        left=len(listed or ()) - len(ours),
        there=there,
        fetched=len(ours) - there - len(missing),
    )
    return listed or [], missing


def _check_room(spool: Spool, counts: Counter[str]) -> None:
    if counts[Verdict.NO_ROOM]:
        raise StateError(
            f"the disk of the spool {spool.folder} is full, or below [pacs] watermark_bytes: free some; "
            "what came is kept"
        )


def _lacking(spool: Spool, listed: Sequence[Listed]) -> list[Listed]:
    return [one for one in listed if not spool.holds(one.instance)]
