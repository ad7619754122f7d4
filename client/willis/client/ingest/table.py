"""Read ``cohort.csv``: which subject, at which site, with which image and label.

Columns ``subject, site, image, label``, in any order; UTF-8; paths are absolute or relative to the file. One
row an image; several rows may name one subject. ``image`` may be empty: a cohort of masks only. A header that
does not fit is one fault of the table, and not one of each row.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from willis.shared.errors import CohortError

COLUMNS = ("subject", "site", "image", "label")
_HEADER = ",".join(COLUMNS)
_OTHER_MARKS = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class Row:
    """One row as written; cells are stripped of blanks.

    Attributes:
        line: Where the row ends in the file; the header is line 1.
        subject: Pseudonym, or "" where the cell is empty.
        site: Name of the site, or "".
        image: Path of the image; None where the cell is empty.
        label: Path of the label; None where the cell is empty.
        n_cells: Cells in the row; it should be the number of columns.
    """

    line: int
    subject: str = field(repr=False)
    site: str
    image: Path | None = field(repr=False)
    label: Path | None = field(repr=False)
    n_cells: int = len(COLUMNS)


@dataclass(frozen=True)
class Table:
    """All rows of a table whose header fits.

    Attributes:
        path: The file.
        columns: The header as written.
        rows: In the order of the file; blank lines are no rows.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """Read a table without opening the files that it names.

    Raises:
        CohortError: The file is missing, is not UTF-8 text, is not CSV, its header does not fit, or it holds
            no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = tuple(cell.strip() for cell in next(reader, []))
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise CohortError(f"cannot read {path} as CSV in UTF-8: {type(fault).__name__}: {fault}") from fault
    problems = tuple(_header_problems(columns)) if columns or lines else ()
    if problems:
        raise CohortError(f"the header of {path} must be {_HEADER}", problems)
    if not lines:
        raise CohortError(f"{path} holds no row; it needs the header {_HEADER} and one row an image")
    return Table(path, columns, tuple(_row(path.parent, columns, line, cells=cells) for line, cells in lines))


def _header_problems(columns: tuple[str, ...]) -> Iterator[str]:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        yield f"the header lacks {', '.join(missing)}; the first line must name the columns"
    for mark, name in _OTHER_MARKS.items():
        if missing and any(mark in column for column in columns):
            yield f"it is separated by {name}; separate columns by commas"
            return
    for name in dict.fromkeys(columns):
        if name not in COLUMNS:
            yield f"column {name!r} is unknown; remove it"
        elif columns.count(name) > 1:
            yield f'column "{name}" is named twice; keep one'


def _row(folder: Path, columns: tuple[str, ...], line: int, *, cells: list[str]) -> Row:
    by_name = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
    image, label = by_name.get("image", ""), by_name.get("label", "")
    return Row(
        line=line,
        subject=by_name.get("subject", ""),
        site=by_name.get("site", ""),
        image=folder / image if image else None,
        label=folder / label if label else None,
        n_cells=len(cells),
    )
