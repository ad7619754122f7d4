"""From an export to a cohort: scan, group, choose, convert, label; again it does only what is new.

The export is opened read-only. What is written holds pseudonyms alone; every series that is not taken is told
of, with the reason.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from willis.client.ingest.dicom.apart import Apart
from willis.client.ingest.dicom.choice import Verdict
from willis.client.ingest.dicom.cohort_folder import CohortFolder, KeptScan
from willis.client.ingest.dicom.conversion import Conversion
from willis.client.ingest.dicom.identity import Pseudonyms, make_key, read_mapping
from willis.client.ingest.dicom.index import Index
from willis.client.ingest.dicom.label_search import LabelSearch
from willis.client.ingest.dicom.mask_fault import MaskRefused
from willis.client.ingest.dicom.places import Places
from willis.client.ingest.dicom.plan import plan
from willis.client.ingest.dicom.report import IntakeResult, write_report
from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.ingest.dicom.scan import scan
from willis.client.ingest.dicom.voxels import VolumeRefused
from willis.shared.errors import CohortError, WillisError
from willis.shared.lock import held_alone
from willis.shared.whole_file import make_folder, write_whole

KEY_FILE = "pseudonym.key"
INDEX_FILE = "index.sqlite"
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Intake:
    """What a site takes in, and where.

    Attributes:
        export: The folder that the PACS wrote; never written to.
        out: The cohort's folder.
        site: The site's name, for the table.
        rule: Which series and labels.
        key: The site's key for pseudonyms; made where missing.
        memory: Folder where the site remembers what it has read, of every cohort by itself.
        replace: Whether ``out`` may hold the cohort of another export, whose place this one takes.
    """

    export: Path
    out: Path
    site: str
    rule: IntakeRule
    key: Path
    memory: Path
    replace: bool = False


def ingest(intake: Intake, *, progress: Progress = lambda phase, done, total: None) -> IntakeResult:
    """Take an export in.

    Args:
        progress: Called with ``files`` or ``scans``, how many are done, and of how many, where that is known.

    Raises:
        CohortError: The export, the mapping or the rule cannot be used.
        StateError: The cohort or the site's memory cannot be written, or another intake is at work.
    """
    _refuse_overlap(intake)
    make_folder(intake.memory, mode=0o700)
    with held_alone(intake.memory / "intake.lock", "another intake of this site is at work; wait for it"):
        if not intake.key.exists():
            _refuse_second_key(intake)
            make_key(intake.key)
        pseudonyms = Pseudonyms.open(intake.key)
        room = _room(intake, pseudonyms)
        rule = intake.rule
        mapping = {} if rule.mapping is None else read_mapping(rule.mapping)
        with Apart() as apart, ExitStack() as stack:
            search = LabelSearch(rule.label, intake.export, pseudonyms, apart)  # a bad pattern ends it here
            index = stack.enter_context(
                scan(
                    intake.export,
                    room / INDEX_FILE,
                    pseudonyms=pseudonyms,
                    mapping=mapping,
                    deid=rule.deid,
                    patterns=rule.image.patterns,
                    progress=lambda done, total: progress("files", done, total),
                )
            )
            places = Places(intake.export, index, pseudonyms)
            cohort = CohortFolder(intake.out, room / "scans")
            conversion = Conversion(rule, cohort, search=search, apart=apart)
            return _take_in(intake, index, places, conversion=conversion, progress=progress)


def _room(intake: Intake, pseudonyms: Pseudonyms) -> Path:
    """Return where the site remembers this cohort; another export is refused unless it is asked for."""
    room = intake.memory / pseudonyms.of("cohort", str(intake.out.resolve()))
    make_folder(room, mode=0o700)
    note, export = room / "export", pseudonyms.of("export", str(intake.export.resolve()))
    if note.exists() and note.read_text(encoding="ascii") != export and not intake.replace:
        raise CohortError(
            f"{intake.out} is the cohort of another export, whose patients would go: name another --out, "
            "or a folder that holds both exports; --replace lets this one take its place"
        )
    write_whole(note, export.encode("ascii"), private=True)
    return room


def _take_in(
    intake: Intake, index: Index, places: Places, *, conversion: Conversion, progress: Progress
) -> IntakeResult:
    wanted, verdicts, duplicates = plan(intake.rule, index, places)
    paths = places.of({file for one in wanted for file in one.files()})
    conversion.expect(wanted, paths)
    scans: list[KeptScan] = []
    anew = 0
    for done, one in enumerate(wanted):
        progress("scans", done, len(wanted))
        try:
            scan_made, is_new = conversion.scan(one)
        except CohortError as refusal:
            verdicts.append(_refused(one.name, refusal))
        except WillisError:
            raise
        except Exception as fault:  # of a library; its text may quote a path or a header, so it ends here
            told = f"it cannot be converted ({type(fault).__name__}); leave it out, and report this"
            verdicts.append(Verdict(one.name, False, "not-converted", told, refused=True))
        else:
            scans.append(scan_made)
            anew += is_new
            verdicts.append(Verdict(one.name, True, "taken", _told(scan_made)))
    progress("scans", len(wanted), len(wanted))
    conversion.cohort.close(scans, site=intake.site)
    left = index.left()
    result = IntakeResult(
        files=len(index) + sum(left.values()),
        left=left,
        duplicates=duplicates,
        verdicts=tuple(sorted(verdicts, key=lambda verdict: verdict.name)),
        scans=tuple(sorted(scans, key=lambda one: one.name)),
        anew=anew,
    )
    write_report(result, conversion.cohort)
    return result


def _refuse_second_key(intake: Intake) -> None:
    """Refuse to make a key where there was one: all pseudonyms, those of opt-outs too, would be others."""
    if any(intake.memory.glob(f"*/{INDEX_FILE}")):
        raise CohortError(
            f"the key {intake.key} is gone, and this site has taken in exports under it: restore it from its"
            f" copy; if it is lost for good, remove {intake.memory} and begin anew, opt-outs too"
        )


def _refused(name: str, refusal: CohortError) -> Verdict:
    if isinstance(refusal, MaskRefused):
        return Verdict(name, False, refusal.fault.value, str(refusal), refused=True)
    if isinstance(refusal, VolumeRefused):
        return Verdict(name, False, refusal.flaw.code, refusal.flaw.sentence, refused=True)
    return Verdict(name, False, "unreadable", str(refusal), refused=True)


def _told(scan: KeptScan) -> str:
    size = " x ".join(f"{mm:.2f}" for mm in scan.spacing_mm)
    return f"{' x '.join(map(str, scan.shape))} voxels of {size} mm, {100 * scan.foreground:.2g} % marked"


def _refuse_overlap(intake: Intake) -> None:
    export, out = intake.export.resolve(), intake.out.resolve()
    if any(path.resolve().is_relative_to(export) for path in (intake.memory, intake.key)):
        raise CohortError("the site's state and key must not lie in the export, where nothing is written")
    if out == export or export in out.parents or out in export.parents:
        raise CohortError(
            "the cohort's folder and the export must not be one within the other: name another --out"
        )
