"""Check a cohort: every row is accepted, or refused with every reason found; none vanishes."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from willis.client.ingest.picture import LOSSY_SUFFIXES
from willis.client.ingest.table import Row, Table, read_table
from willis.client.ingest.volume import Volume, open_volume
from willis.shared.errors import CohortError

AFFINE_TOLERANCE = 1e-3
INTEGER_TOLERANCE = 1e-3
THREADS = 2
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode's control, format, surrogate, line separators
_NUL = "\0"


class Fault(StrEnum):
    """Why a row is refused."""

    RAGGED_ROW = "ragged-row"
    EMPTY_SUBJECT = "empty-subject"
    EMPTY_SITE = "empty-site"
    NO_LABEL = "no-label"
    HIDDEN_CHARACTER = "hidden-character"
    DUPLICATE_ROW = "duplicate-row"
    TWO_SITES = "two-sites"
    SHARED_FILE = "shared-file"
    MISSING_IMAGE = "missing-image"
    MISSING_LABEL = "missing-label"
    UNREADABLE_IMAGE = "unreadable-image"
    UNREADABLE_LABEL = "unreadable-label"
    OTHER_GRID = "other-grid"
    NOT_FINITE_IMAGE = "not-finite-image"
    CONSTANT_IMAGE = "constant-image"
    NOT_FINITE_LABEL = "not-finite-label"
    NOT_INTEGER_LABEL = "not-integer-label"
    NEGATIVE_LABEL = "negative-label"
    LOSSY_LABEL = "lossy-label"
    EMPTY_LABEL = "empty-label"


@dataclass(frozen=True)
class Reason:
    """One fault of a row, with the value found and what to do. Site-local: it names files."""

    fault: Fault
    text: str


@dataclass(frozen=True)
class CheckedRow:
    """A row and every reason to refuse it; none means accepted."""

    row: Row
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Intake:
    """What a table gave; accepted and refused rows together are all rows read.

    Attributes:
        table: The file.
        rows: In the order of the file.
    """

    table: Path
    rows: tuple[CheckedRow, ...] = field(repr=False)

    @property
    def accepted(self) -> tuple[Row, ...]:
        """Rows without a fault."""
        return tuple(checked.row for checked in self.rows if not checked.reasons)

    @property
    def refused(self) -> tuple[CheckedRow, ...]:
        """Rows with at least one fault."""
        return tuple(checked for checked in self.rows if checked.reasons)

    @property
    def without_image(self) -> tuple[Row, ...]:
        """Accepted rows that name a mask and no image: patches, and so generators of images, need one."""
        return tuple(row for row in self.accepted if row.image is None)

    def counts(self) -> dict[Fault, int]:
        """Return refused rows by fault, in the order of :class:`Fault`; a row may count under several."""
        found = Counter(fault for row in self.refused for fault in {reason.fault for reason in row.reasons})
        return {fault: found[fault] for fault in Fault if found[fault]}

    def subjects_by_site(self) -> dict[str, int]:
        """Return how many subjects of each site can be used."""
        pairs = {(row.site, row.subject) for row in self.accepted}
        return dict(sorted(Counter(site for site, _ in pairs).items()))


def check_cohort(path: Path) -> Intake:
    """Read a cohort's table and every file that it names, and report all faults at once.

    A label's values must be integers of at least 0; everything above 0 counts as foreground, so a picture
    with values {0, 255} is a binary mask. A JPEG may be a label only with at most two values, since its
    compression rings around every edge.

    Raises:
        CohortError: The table itself cannot be read, its header does not fit, or it holds no row.
    """
    table = read_table(path)
    reasons: list[list[Reason]] = [list(_row_faults(row, table)) for row in table.rows]
    for index, reason in _faults_between(table.rows):
        reasons[index].append(reason)
    with ThreadPoolExecutor(THREADS) as pool:
        for index, found in enumerate(pool.map(_file_faults, table.rows)):
            reasons[index].extend(found)
    return Intake(
        path, tuple(CheckedRow(row, tuple(why)) for row, why in zip(table.rows, reasons, strict=True))
    )


def _row_faults(row: Row, table: Table) -> Iterator[Reason]:
    if row.n_cells != len(table.columns):
        yield Reason(
            Fault.RAGGED_ROW, f"{row.n_cells} cells under {len(table.columns)} columns; quote commas"
        )
    if not row.subject:
        yield Reason(Fault.EMPTY_SUBJECT, "no subject is named; the patient is the unit of privacy")
    if not row.site:
        yield Reason(Fault.EMPTY_SITE, "no site is named")
    if row.label is None:
        yield Reason(Fault.NO_LABEL, "no label is named")
    for name, cell in (("subject", row.subject), ("site", row.site)):
        hidden = sorted({f"U+{ord(one):04X}" for one in cell if unicodedata.category(one) in _HIDDEN})
        if hidden:
            text = f"the {name} holds {', '.join(hidden)}, which nobody sees; type it anew"
            yield Reason(Fault.HIDDEN_CHARACTER, text)
    for name, path in (("image", row.image), ("label", row.label)):
        if path is not None and _NUL in str(path):
            yield Reason(Fault.HIDDEN_CHARACTER, f"the {name} holds U+0000, which no path may; type it anew")


def _faults_between(rows: tuple[Row, ...]) -> Iterator[tuple[int, Reason]]:
    """Yield faults that only several rows together have, with the row's index."""
    sites: dict[str, set[str]] = defaultdict(set)
    owners: dict[Path, set[str]] = defaultdict(set)
    first: dict[tuple[str, Path | None, Path | None], int] = {}
    resolved = [(_resolved(row.image), _resolved(row.label)) for row in rows]
    for row, files in zip(rows, resolved, strict=True):
        if row.subject:
            sites[row.subject].add(row.site)
            for file in filter(None, files):
                owners[file].add(row.subject)
    for index, (row, files) in enumerate(zip(rows, resolved, strict=True)):
        line = first.setdefault((row.subject, *files), row.line)
        if line != row.line:
            yield index, Reason(Fault.DUPLICATE_ROW, f"the same subject, image and label as in line {line}")
        if len(sites[row.subject] - {""}) > 1:
            named = ", ".join(sorted(sites[row.subject] - {""}))
            yield (
                index,
                Reason(Fault.TWO_SITES, f"the subject is at {named}; one patient belongs to one site"),
            )
        for file in filter(None, files):
            if len(owners[file]) > 1:
                text = (
                    f"{file.name} is given to {len(owners[file])} subjects; one patient needs one pseudonym"
                )
                yield index, Reason(Fault.SHARED_FILE, text)


def _resolved(path: Path | None) -> Path | None:
    return None if path is None or _NUL in str(path) else path.resolve()


def _file_faults(row: Row) -> list[Reason]:
    """Open a row's files, one at a time in memory."""
    reasons: list[Reason] = []
    image = _opened(row.image, reasons, missing=Fault.MISSING_IMAGE, unreadable=Fault.UNREADABLE_IMAGE)
    label = _opened(row.label, reasons, missing=Fault.MISSING_LABEL, unreadable=Fault.UNREADABLE_LABEL)
    if image is not None and label is not None:
        reasons.extend(_grid_faults(image, label))
    if image is not None:
        reasons.extend(_read(image.pixels, _image_faults, Fault.UNREADABLE_IMAGE))
    if label is not None:
        lossy = label.path.name.lower().endswith(LOSSY_SUFFIXES)
        reasons.extend(
            _read(label.label, lambda values: _label_faults(values, lossy), Fault.UNREADABLE_LABEL)
        )
    return reasons


def _opened(path: Path | None, reasons: list[Reason], *, missing: Fault, unreadable: Fault) -> Volume | None:
    if path is None or _NUL in str(path):
        return None
    if not path.is_file():
        reasons.append(Reason(missing, f"{path} is no file"))
        return None
    try:
        return open_volume(path)
    except CohortError as fault:
        reasons.append(Reason(unreadable, str(fault)))
        return None


def _read(
    values: Callable[[], Float32[np.ndarray, "..."]],
    faults: Callable[[Float32[np.ndarray, "..."]], Iterable[Reason]],
    unreadable: Fault,
) -> list[Reason]:
    try:
        return list(faults(values()))
    except CohortError as fault:
        return [Reason(unreadable, str(fault))]


def _grid_faults(image: Volume, label: Volume) -> Iterator[Reason]:
    if image.shape != label.shape:
        text = f"the image has {image.shape} voxels, the label {label.shape}; resample the label"
        yield Reason(Fault.OTHER_GRID, text)
        return
    apart = float(np.abs(image.affine - label.affine).max())
    if not apart <= AFFINE_TOLERANCE:
        text = f"affines of image and label differ by {apart:.4g}, at most {AFFINE_TOLERANCE:g} is allowed"
        yield Reason(Fault.OTHER_GRID, text)


def _image_faults(pixels: Float32[np.ndarray, " channel *space"]) -> Iterator[Reason]:
    n_bad = int(np.count_nonzero(~np.isfinite(pixels)))
    if n_bad:
        yield Reason(Fault.NOT_FINITE_IMAGE, f"{n_bad} values are NaN or infinite")
    elif not any(channel.min() < channel.max() for channel in pixels):
        yield Reason(Fault.CONSTANT_IMAGE, f"every value is {pixels.flat[0]:g}")


def _label_faults(values: Float32[np.ndarray, "*space"], lossy: bool) -> Iterator[Reason]:
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        yield Reason(Fault.NOT_FINITE_LABEL, f"{n_bad} values are NaN or infinite")
        return
    off = np.abs(values - np.rint(values))
    if not off.max() <= INTEGER_TOLERANCE:
        worst = float(values.flat[int(off.argmax())])
        yield Reason(
            Fault.NOT_INTEGER_LABEL, f"a label needs integers, got {worst:g}; resample to the nearest"
        )
    if not values.min() > -0.5:
        yield Reason(Fault.NEGATIVE_LABEL, f"a label needs 0 for background and more, got {values.min():g}")
    if lossy and (n_values := len(np.unique(values))) > 2:
        yield Reason(Fault.LOSSY_LABEL, f"a JPEG label with {n_values} values; save the mask as PNG")
    if not values.max() > 0.5:
        yield Reason(Fault.EMPTY_LABEL, "no voxel is above 0; a subject without a finding cannot be used yet")
