"""The site's ledger: what a cohort ever paid, append only, and a refusal where the next step is too dear.

One SQLite file a cohort. A row is reserved, and on disk, before anything is drawn, and counts from then on.
It owns the key of its randomness, so work redone after a crash repeats the same draws, is the same release
and costs nothing twice; settling wipes the key. Every row's hash covers its content and the hash before it;
triggers forbid to change or delete what was written. Who may write the file may still replace it whole:
against that the last hash leaves with every answer, and ``verify`` takes it back.
"""

import hashlib
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from willis.client.ledger_file import CONTENT, REMEDY, chained, check_owner, connect, explained, make_file
from willis.shared import accounting
from willis.shared.accounting import MechanismRun
from willis.shared.errors import BudgetExhausted, StateError
from willis.shared.privacy import PrivacySpent, PrivacyUnit, all_assumed

_ROUNDING = 1e-6  # of the cap, relative: two computations of the same epsilon


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
    assumes: str
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
        with explained(path):
            if not path.exists():
                make_file(path, **owner)
            os.chmod(path, 0o600)
            with closing(connect(path)) as database:
                genesis = check_owner(path, database, **owner)
            return cls(path, connect(path), epsilon_cap, (delta, unit, patches_per_patient), genesis)

    def reserve(
        self, *, study: str, purpose: str, inputs: str, run: MechanismRun, assumes: str = ""
    ) -> Reservation:
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
            assumes: What its noise relies on beyond this site, see ``PrivacySpent``; empty where on nothing.

        Raises:
            BudgetExhausted: The cap would be passed; nothing was written.
            StateError: This very work was settled, or the ledger is damaged.
        """
        with self._transaction():
            rows = self.rows()
            for row in rows:
                if (row.study, row.purpose, row.inputs, row.run, row.assumes) == (
                    study,
                    purpose,
                    inputs,
                    run,
                    assumes,
                ):
                    return self._again(row)
            self._afford([row.run for row in rows], run)
            return self._write(rows, [study, purpose, inputs], run, assumes)

    def settle(self, reservation: int) -> None:
        """Mark a row's work as ended, its answer kept, and wipe its key; twice changes nothing."""
        wipe = "UPDATE payment SET state = 'settled', key = NULL WHERE id = ? AND state = 'reserved'"
        with self._transaction():
            if not 1 <= reservation <= len(self.rows()):
                raise StateError(f"the ledger {self._path} has no row {reservation} to settle")
            self._database.execute(wipe, (reservation,))
        with explained(self._path):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the key stays in the log

    def spent(self) -> PrivacySpent:
        """Return what the cohort paid so far, from all rows, reserved and settled alike."""
        delta, unit, patches = self._budget
        rows = self.rows()
        runs = [row.run for row in rows]
        figure = accounting.spent(runs, delta=delta, unit=unit, patches_per_patient=patches)
        return figure.model_copy(update={"assumes": all_assumed(row.assumes for row in rows)})

    def rows(self) -> list[LedgerRow]:
        """Return all payments in their order; ``StateError`` where one does not fit its hash."""
        query = f"SELECT {CONTENT}, hash, state FROM payment ORDER BY id"
        with explained(self._path):
            found = self._database.execute(query).fetchall()
        rows, previous = [], self._genesis
        for number, (*content, written, state) in enumerate(found, start=1):
            if content[0] != number or chained(previous, content) != written:
                raise StateError(f"the ledger {self._path} was altered at row {number}. {REMEDY}")
            identity, at, study, purpose, inputs, *mechanism, assumes, _ = content
            run = MechanismRun(*mechanism)
            settled = state == "settled"
            rows.append(LedgerRow(identity, at, study, purpose, inputs, run, assumes, settled, written))
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
        with explained(self._path):
            verdict = self._database.execute("PRAGMA integrity_check").fetchone()[0]
        chain = self._chain()
        lost = [head for head in known_heads if head not in chain]
        if verdict != "ok" or lost:
            raise StateError(f"the ledger {self._path} is damaged ({verdict}) or lost rows {lost}. {REMEDY}")
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

    def _write(
        self, rows: Sequence[LedgerRow], what: list[str], run: MechanismRun, assumes: str
    ) -> Reservation:
        key, now = os.urandom(32), datetime.now(UTC).isoformat(timespec="milliseconds")
        mechanism = (float(run.sampling_rate), float(run.noise_multiplier), run.steps)
        content = [len(rows) + 1, now, *what, *mechanism, assumes, hashlib.sha256(key).hexdigest()]
        insert = f"INSERT INTO payment ({CONTENT}, hash, state, key) VALUES ({', '.join('?' * 13)})"
        self._database.execute(insert, (*content, chained(self.head(), content), "reserved", key))
        return Reservation(len(rows) + 1, False, key)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.rollback()
                raise
            self._database.execute("COMMIT")
