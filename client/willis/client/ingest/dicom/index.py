"""What a scan has found, in SQLite: numbers, codes and keyed digests, no path, no name, no UID."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from willis.client.ingest.dicom.instance import Instance, Left
from willis.shared.errors import CohortError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scan (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (
    file TEXT PRIMARY KEY, stamp TEXT NOT NULL, seen INTEGER NOT NULL,
    code TEXT NOT NULL, subject TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_series ON file (subject, study, series, file);
"""
_TUPLES = frozenset({"position", "orientation", "spacing", "sequence", "faults", "references"})
FORMAT = "1 " + " ".join(field.name for field in fields(Instance))


class Index:
    """The rows of one export; made and kept up by :func:`willis.client.ingest.dicom.scan.scan`.

    Attributes:
        path: The file.
        n_read: Files that the last scan read; the others were unchanged.
    """

    def __init__(self, path: Path, *, basis: str) -> None:
        """Open or make an index.

        Args:
            path: In a folder that is there.
            basis: Digest of all that rows depend on; rows of another are dropped.

        Raises:
            CohortError: The file is no index, or cannot be written.
        """
        self.path, self.n_read = path, 0
        with self._told():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._base = sqlite3.connect(path, timeout=5, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.executescript(_SCHEMA)
            if self._value("basis") != basis:
                self._base.execute("BEGIN IMMEDIATE")
                self._base.execute("DELETE FROM file")
                self._set("basis", basis)
                self._base.execute("COMMIT")

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def instances(self, *, subject: str | None = None) -> Iterator[Instance]:
        """Yield instances, of one subject or all, ordered by subject, study and series; memory stays flat."""
        where, told = ("", ()) if subject is None else (" AND subject = ?", (subject,))
        query = f"SELECT body FROM file WHERE code = ''{where} ORDER BY subject, study, series, file"
        with self._told():
            for (body,) in self._base.execute(query, told):
                yield _instance(body)

    def subjects(self) -> list[str]:
        """Return all subjects; "" among them where the patient of some file is not known."""
        with self._told():
            rows = self._base.execute("SELECT DISTINCT subject FROM file WHERE code = '' ORDER BY subject")
            return [subject for (subject,) in rows]

    def series_of_several(self) -> frozenset[str]:
        """Return the series that are under more than one subject."""
        with self._told():
            rows = self._base.execute(
                "SELECT series FROM file WHERE code = '' GROUP BY series HAVING COUNT(DISTINCT subject) > 1"
            )
            return frozenset(series for (series,) in rows)

    def left(self) -> dict[str, int]:
        """Return how many files are no instance, by code."""
        with self._told():
            rows = self._base.execute(
                "SELECT code, COUNT(*) FROM file WHERE code != '' GROUP BY code ORDER BY code"
            )
            return dict(rows.fetchall())

    def __len__(self) -> int:
        with self._told():
            return int(self._base.execute("SELECT COUNT(*) FROM file WHERE code = ''").fetchone()[0])

    def begin(self) -> int:
        """Begin a scan: return its number, which is above that of every scan before."""
        with self._told():
            number = int(self._value("seen") or 0) + 1
            self._set("seen", str(number))
            self._base.execute("BEGIN IMMEDIATE")
            return number

    def unchanged(self, file: str, *, stamp: str, seen: int) -> bool:
        """Whether a file was read as it is now; if so, it is marked as seen.

        One that could not be read may be well again without a change: it never counts.
        """
        with self._told():
            change = "UPDATE file SET seen = ? WHERE file = ? AND stamp = ? AND code != 'unreadable'"
            return self._base.execute(change, (seen, file, stamp)).rowcount == 1

    def put(self, found: Instance | Left, *, stamp: str, seen: int) -> None:
        """Put what was read of one file in the place of what was there.

        Args:
            stamp: Of the file as it was read: its size and times.
        """
        row = (
            (found.code, "", "", "", "")
            if isinstance(found, Left)
            else ("", found.subject, found.study, found.series, json.dumps(vars(found), allow_nan=False))
        )
        with self._told():
            self._base.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (found.file, stamp, seen, *row),
            )

    def keep(self) -> None:
        """Put on the disk what was put until now; a killed scan goes on from here."""
        with self._told():
            self._base.execute("COMMIT")
            self._base.execute("BEGIN IMMEDIATE")

    def end(self, seen: int) -> None:
        """End a scan that saw everything: rows of files that are gone go."""
        with self._told():
            self._base.execute("DELETE FROM file WHERE seen != ?", (seen,))
            self._base.execute("COMMIT")

    def _value(self, name: str) -> str | None:
        row = self._base.execute("SELECT value FROM scan WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, name: str, value: str) -> None:
        self._base.execute("INSERT OR REPLACE INTO scan VALUES (?, ?)", (name, value))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as fault:
            raise CohortError(
                f"cannot use the index {self.path} ({type(fault).__name__}); end another scan of"
                " it, let it be written, or remove it: a scan makes it anew"
            ) from None


def _instance(body: str) -> Instance:
    values: dict[str, Any] = json.loads(body)
    for name in _TUPLES:
        if values[name] is not None:
            values[name] = tuple(values[name])
    return Instance(**values)
