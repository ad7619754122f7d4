"""The site's ledger: what a cohort ever paid, append only, and a refusal where the next step is too dear.

One SQLite file a cohort. A row is reserved, and on disk, before anything is drawn, and counts from then on.
It owns the key of its randomness, so work redone after a crash repeats the same draws, is the same release
and costs nothing twice; settling wipes the key. Every row's hash covers its content and the hash before it;
triggers forbid to change or delete what was written. Who may write the file may still replace it whole:
against that the last hash leaves with every answer, and ``verify`` takes it back.
"""

import hashlib
import json
import math
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from willis.shared import accounting
from willis.shared.accounting import MechanismRun
from willis.shared.errors import BudgetExhausted, StateError
from willis.shared.privacy import PrivacySpent, PrivacyUnit

_PATIENCE_S = 120  # wait for another process's reservation
_ROUNDING = 1e-6  # of the cap, relative: two computations of the same epsilon
_REMEDY = "Stop training and restore it from its backup; never delete it: a new one forgets what was spent"
_CONTENT = "id, at, study, purpose, inputs, sampling_rate, noise_multiplier, steps, key_digest"
_UNCHANGED = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in (*_CONTENT.split(", "), "hash"))
_SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE payment (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, study TEXT NOT NULL, purpose TEXT NOT NULL,
    inputs TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    key_digest TEXT NOT NULL, hash TEXT NOT NULL, state TEXT CHECK (state IN ('reserved', 'settled')),
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


@dataclass(frozen=True)
class Reservation:
    """The right to draw, paid for.

    Attributes:
        id: The ledger's row.
        replayed: The same work was paid for before and did not end; nothing was charged.
        key: Of all randomness of this work, for ``SecretRandom``; the same when replayed.
    """

    id: int
    replayed: bool
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class LedgerRow:
    """One payment: when (UTC), for what, which mechanism, settled or still reserved, and its hash."""

    id: int
    at: str
    study: str
    purpose: str
    inputs: str
    run: MechanismRun
    settled: bool
    hash: str


@dataclass(frozen=True, eq=False, repr=False)
class Ledger:
    """An open ledger; see :meth:`open`. Several processes may hold the same one."""

    _path: Path
    _database: sqlite3.Connection
    _cap: float
    _budget: tuple[float, PrivacyUnit, int | None]  # delta, unit, patches per patient
    _genesis: str  # hash before the first row

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        cohort: str,
        epsilon_cap: float,
        delta: float,
        unit: PrivacyUnit,
        patches_per_patient: int | None = None,
    ) -> "Ledger":
        """Open a cohort's ledger; it is made, readable by its owner alone, where there is none.

        Args:
            path: The file; write-ahead logging needs a local disk.
            cohort: The cohort's key. A ledger serves one cohort for ever.
            epsilon_cap: The most the site ever spends on this cohort, over all studies, at ``delta``.
            delta: Chance that it fails.
            unit: Of every payment in this ledger.
            patches_per_patient: For unit ``patch``: the most that one patient has.

        Raises:
            ValueError: A number is impossible.
            StateError: The ledger is another cohort's or unit's, is damaged, or cannot be written.
        """
        if not (epsilon_cap > 0 and math.isfinite(epsilon_cap)):
            raise ValueError(f"epsilon_cap must be positive and finite, got {epsilon_cap}")
        accounting.spent([], delta=delta, unit=unit, patches_per_patient=patches_per_patient)
        owner = {"cohort": cohort, "unit": unit.value, "patches per patient": str(patches_per_patient)}
        with _explained(path):
            if not path.exists():
                _make(path, **owner)
            os.chmod(path, 0o600)
            with closing(_connect(path)) as database:
                genesis = _check_owner(path, database, **owner)
            return cls(path, _connect(path), epsilon_cap, (delta, unit, patches_per_patient), genesis)

    def reserve(self, *, study: str, purpose: str, inputs: str, run: MechanismRun) -> Reservation:
        """Pay for a run before anything is drawn; on return the payment is on disk.

        Guarantees:
            The epsilon of all rows, this one included, stays within the cap. The same study, purpose, inputs
            and mechanism reserved before, and not settled, comes back with the same key and costs nothing.

        Args:
            study: The study's digest.
            purpose: What the run is for, such as ``run-1/round-3``.
            inputs: Digest of all that the draws act on: the order, the site's state and its patches. Two
                answers under one key from different inputs would cancel the noise.
            run: The mechanism.

        Raises:
            BudgetExhausted: The cap would be passed; nothing was written.
            StateError: This very work was settled, or the ledger is damaged.
        """
        with self._transaction():
            rows = self.rows()
            for row in rows:
                if (row.study, row.purpose, row.inputs, row.run) == (study, purpose, inputs, run):
                    return self._again(row)
            self._afford([row.run for row in rows], run)
            return self._write(rows, [study, purpose, inputs], run)

    def settle(self, reservation: int) -> None:
        """Mark a row's work as ended, its answer kept, and wipe its key; twice changes nothing."""
        wipe = "UPDATE payment SET state = 'settled', key = NULL WHERE id = ? AND state = 'reserved'"
        with self._transaction():
            if not 1 <= reservation <= len(self.rows()):
                raise StateError(f"the ledger {self._path} has no row {reservation} to settle")
            self._database.execute(wipe, (reservation,))
        with _explained(self._path):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the key stays in the log

    def spent(self) -> PrivacySpent:
        """Return what the cohort paid so far, from all rows, reserved and settled alike."""
        delta, unit, patches = self._budget
        runs = [row.run for row in self.rows()]
        return accounting.spent(runs, delta=delta, unit=unit, patches_per_patient=patches)

    def rows(self) -> list[LedgerRow]:
        """Return all payments in their order; ``StateError`` where one does not fit its hash."""
        query = f"SELECT {_CONTENT}, hash, state FROM payment ORDER BY id"
        with _explained(self._path):
            found = self._database.execute(query).fetchall()
        rows, previous = [], self._genesis
        for number, (*content, written, state) in enumerate(found, start=1):
            if content[0] != number or _hash(previous, content) != written:
                raise StateError(f"the ledger {self._path} was altered at row {number}. {_REMEDY}")
            identity, at, study, purpose, inputs, *mechanism, _ = content
            run = MechanismRun(*mechanism)
            rows.append(LedgerRow(identity, at, study, purpose, inputs, run, state == "settled", written))
            previous = written
        return rows

    def head(self) -> str:
        """Return the last hash, 64 hex digits; it stands for all rows."""
        return self._chain()[-1]

    def verify(self, known_heads: Sequence[str] = ()) -> str:
        """Check the file and the chain; return the head.

        Args:
            known_heads: Heads that somebody else kept, such as the coordinator; each must be in the chain.

        Raises:
            StateError: The file is damaged, a row was altered, or a known head is missing.
        """
        with _explained(self._path):
            verdict = self._database.execute("PRAGMA integrity_check").fetchone()[0]
        chain = self._chain()
        lost = [head for head in known_heads if head not in chain]
        if verdict != "ok" or lost:
            raise StateError(f"the ledger {self._path} is damaged ({verdict}) or lost rows {lost}. {_REMEDY}")
        return chain[-1]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chain(self) -> list[str]:
        return [self._genesis, *(row.hash for row in self.rows())]

    def _again(self, row: LedgerRow) -> Reservation:
        if row.settled:
            what = f"row {row.id} of the ledger {self._path} ({row.purpose}) is settled and its key wiped"
            raise StateError(f"{what}: send the stored answer again; where it is lost, begin a new run")
        key = self._database.execute("SELECT key FROM payment WHERE id = ?", (row.id,)).fetchone()[0]
        return Reservation(row.id, True, key)

    def _afford(self, paid: Sequence[MechanismRun], run: MechanismRun) -> None:
        delta, unit, _ = self._budget
        before, after = (accounting.epsilon(runs, delta=delta) for runs in (paid, [*paid, run]))
        if not after <= self._cap * (1 + _ROUNDING):
            raise BudgetExhausted(
                f"epsilon {before:.4g} is spent, this run costs {after - before:.4g} more, so {after:.4g}; "
                f"the cap is {self._cap:g} (delta {delta:g}, unit {unit.value}): stop, or agree on a new cap"
            )

    def _write(self, rows: Sequence[LedgerRow], what: list[str], run: MechanismRun) -> Reservation:
        key, now = os.urandom(32), datetime.now(UTC).isoformat(timespec="milliseconds")
        mechanism = (float(run.sampling_rate), float(run.noise_multiplier), run.steps)
        content = [len(rows) + 1, now, *what, *mechanism, hashlib.sha256(key).hexdigest()]
        insert = f"INSERT INTO payment ({_CONTENT}, hash, state, key) VALUES ({', '.join('?' * 12)})"
        self._database.execute(insert, (*content, _hash(self.head(), content), "reserved", key))
        return Reservation(len(rows) + 1, False, key)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _explained(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.rollback()
                raise
            self._database.execute("COMMIT")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise StateError(f"the ledger {path} cannot be used: {fault!r}. {_REMEDY}") from fault


def _hash(previous: str, content: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()


def _check_owner(path: Path, database: sqlite3.Connection, **wanted: str) -> str:
    """Return the hash before the first row: whose ledger it is, and a secret number."""
    about = dict(database.execute("SELECT name, value FROM about ORDER BY name").fetchall())
    for name, value in wanted.items():
        if about.get(name) != value:
            found = f'the ledger {path} is of {name} "{about.get(name)}", not "{value}"'
            raise StateError(f"{found}: give every {name} a ledger of its own")
    return _hash("", list(about.items()))


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    for setting in ("synchronous = FULL", "secure_delete = ON", "recursive_triggers = ON"):
        database.execute(f"PRAGMA {setting}")
    return database


def _make(path: Path, **owner: str) -> None:
    """Build the file aside and put it in place in one step, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with closing(_connect(aside)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            about = {"version": "1", **owner, "secret": secrets.token_hex(32)}
            database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
