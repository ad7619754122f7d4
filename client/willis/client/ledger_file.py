"""The file of a ledger: its tables, which only grow, the chain of hashes, and how it comes into being."""

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from willis.shared.errors import StateError

_VERSION = "2"
_PATIENCE_S = 120  # wait for another process's reservation
REMEDY = "Stop training and restore it from its backup; never delete it: a new one forgets what was spent"
CONTENT = "id, at, study, purpose, inputs, sampling_rate, noise_multiplier, steps, assumes, key_digest"
_UNCHANGED = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in (*CONTENT.split(", "), "hash"))
_SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE payment (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, study TEXT NOT NULL, purpose TEXT NOT NULL,
    inputs TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    assumes TEXT NOT NULL, key_digest TEXT NOT NULL, hash TEXT NOT NULL,
    state TEXT CHECK (state IN ('reserved', 'settled')),
    key BLOB CHECK ((state = 'reserved') = (key IS NOT NULL)));
CREATE TRIGGER payment_stays BEFORE DELETE ON payment BEGIN SELECT RAISE(ABORT, 'never deleted'); END;
CREATE TRIGGER payment_stands BEFORE UPDATE ON payment
    WHEN NOT (OLD.state = 'reserved' AND NEW.state = 'settled' AND NEW.key IS NULL AND {_UNCHANGED})
    BEGIN SELECT RAISE(ABORT, 'a payment may only be settled'); END;
CREATE TRIGGER payment_follows BEFORE INSERT ON payment
    WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM payment)
    BEGIN SELECT RAISE(ABORT, 'a payment follows the last one'); END;
CREATE TRIGGER about_stays BEFORE DELETE ON about BEGIN SELECT RAISE(ABORT, 'never deleted'); END;
CREATE TRIGGER about_stands BEFORE UPDATE ON about BEGIN SELECT RAISE(ABORT, 'never changed'); END;
"""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into a ``StateError`` that tells what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise StateError(f"the ledger {path} cannot be used: {fault!r}. {REMEDY}") from fault


def chained(previous: str, content: Sequence[object]) -> str:
    """Return the hash of a row: of its content and of the hash before it."""
    return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()


def check_owner(path: Path, database: sqlite3.Connection, **wanted: str) -> str:
    """Return the hash before the first row: whose ledger it is, and a secret number."""
    about = dict(database.execute("SELECT name, value FROM about ORDER BY name").fetchall())
    if about.get("version") != _VERSION:
        raise StateError(
            f"the ledger {path} is of format {about.get('version')}, this Willis writes {_VERSION}; keep it, "
            "and go on with the Willis that wrote it: what it holds is spent"
        )
    for name, value in wanted.items():
        if about.get(name) != value:
            found = f'the ledger {path} is of {name} "{about.get(name)}", not "{value}"'
            raise StateError(f"{found}: give every {name} a ledger of its own")
    return chained("", list(about.items()))


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; what is committed is on the disk."""
    database = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    for setting in ("synchronous = FULL", "secure_delete = ON", "recursive_triggers = ON"):
        database.execute(f"PRAGMA {setting}")
    return database


def make_file(path: Path, **owner: str) -> None:
    """Build the file aside and put it in place in one step, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with closing(connect(aside)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            about = {"version": _VERSION, **owner, "secret": secrets.token_hex(32)}
            database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
