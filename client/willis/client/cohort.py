"""A site's subjects: who they are, which scans they have, and who is held out.

Nothing here leaves the hospital; the printed form of a subject or cohort holds counts, never a pseudonym.
"""

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from willis.client.ingest.check import CheckedRow, check_cohort
from willis.shared.errors import CohortError


@dataclass(frozen=True, repr=False)
class Scan:
    """One image and its label on the same grid.

    Attributes:
        image: Path of the image; None where only a mask exists.
        label: Path of the label.
    """

    image: Path | None
    label: Path

    def __repr__(self) -> str:
        return f"Scan({'image and label' if self.image else 'label only'})"


@dataclass(frozen=True, repr=False)
class Subject:
    """One patient: the unit of privacy.

    Attributes:
        name: Pseudonym.
        site: Where the patient is.
        scans: At least one.
    """

    name: str
    site: str
    scans: tuple[Scan, ...]

    def __post_init__(self) -> None:
        if not (self.name and self.site and self.scans):
            raise ValueError(f"a subject needs a name, a site and a scan, got {len(self.scans)} scans")

    def __repr__(self) -> str:
        return f"Subject({len(self.scans)} scans)"


@dataclass(frozen=True, repr=False)
class Cohort:
    """Subjects, each once. Its length is the number of subjects, not of images."""

    subjects: tuple[Subject, ...]

    def __post_init__(self) -> None:
        n_twice = sum(times > 1 for times in Counter(subject.name for subject in self.subjects).values())
        if n_twice:
            raise ValueError(f"every subject may be in a cohort once, got {n_twice} pseudonyms twice")

    def __len__(self) -> int:
        return len(self.subjects)

    def __repr__(self) -> str:
        return f"Cohort({len(self)} subjects at {len(self.sites())} sites)"

    def sites(self) -> tuple[str, ...]:
        """Return the sites' names in alphabetical order."""
        return tuple(sorted({subject.site for subject in self.subjects}))

    def at(self, site: str) -> "Cohort":
        """Return the subjects of one site.

        Raises:
            CohortError: Nobody is at this site.
        """
        if site not in self.sites():
            raise CohortError(f'no subject is at site "{site}"; the cohort has {", ".join(self.sites())}')
        return Cohort(tuple(subject for subject in self.subjects if subject.site == site))

    def content_digest(self) -> str:
        """Return the SHA-256 of every subject's name and files (path, size, time of last change).

        Raises:
            CohortError: A file is gone.
        """
        content = [
            [subject.name, subject.site, [[_stamp(scan.image), _stamp(scan.label)] for scan in subject.scans]]
            for subject in self.subjects
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_cohort(path: Path) -> Cohort:
    """Read the usable rows of a table; ``willis cohort check`` shows the others.

    Subjects come in the order of site and name, a subject's scans in the order of the table. A subject whose
    rows are refused in part keeps the others.

    Raises:
        CohortError: The table cannot be read, or no row of it can be used; ``problems`` tells each reason.
    """
    intake = check_cohort(path)
    if not intake.accepted:
        raise CohortError(
            f"none of {len(intake.rows)} rows of {path} can be used",
            [_problem(row) for row in intake.refused],
        )
    scans: dict[tuple[str, str], list[Scan]] = {}
    for row in intake.accepted:
        assert row.label is not None, "a row without a label is refused"
        scans.setdefault((row.site, row.subject), []).append(Scan(row.image, row.label))
    return Cohort(tuple(Subject(name, site, tuple(scans[site, name])) for site, name in sorted(scans)))


def split(cohort: Cohort, held_out: float, *, seed: int) -> tuple[Cohort, Cohort]:
    """Divide a cohort by subject, within every site, into those who train and those who are held out.

    Within a site subjects are ranked by a hash of (seed, name), and the first ``held_out`` share of them,
    rounded half up, is held out: at least one where a site has two subjects, and never all. Rows' order has
    no effect, nor have other sites; adding a subject changes at most one other's side.

    Args:
        cohort: Whom to divide.
        held_out: Share of every site's subjects, in (0, 1).
        seed: Public; another seed gives another division.

    Returns:
        The training cohort, then the held out one, both in the cohort's order.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie in (0, 1), got {held_out}")
    chosen: set[str] = set()
    for site in cohort.sites():
        names = sorted(
            (subject.name for subject in cohort.at(site).subjects), key=lambda name: _rank(seed, name)
        )
        chosen.update(names[: _n_held_out(len(names), held_out)])
    return (
        Cohort(tuple(subject for subject in cohort.subjects if subject.name not in chosen)),
        Cohort(tuple(subject for subject in cohort.subjects if subject.name in chosen)),
    )


def _n_held_out(n_subjects: int, share: float) -> int:
    if n_subjects < 2:
        return 0
    return min(max(math.floor(n_subjects * share + 0.5), 1), n_subjects - 1)


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _stamp(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    try:
        state = path.stat()
    except OSError as fault:
        raise CohortError(f"{path} cannot be found any more: {type(fault).__name__}") from fault
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def _problem(checked: CheckedRow) -> str:
    return f"line {checked.row.line}: " + "; ".join(reason.text for reason in checked.reasons)
