"""The site's ledger is its owner's alone and is not rewritten unseen; a damaged one is refused."""

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.made_ledger import opened, reserved

from willis.shared.errors import StateError


def test_only_the_owner_reads(path):
    with opened(path) as ledger:
        reserved(ledger)
        files = sorted(path.parent.glob("*"))
        assert [file.name for file in files] == [path.name, f"{path.name}-shm", f"{path.name}-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    path.chmod(0o644)  # a backup put back
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_disk_settings_are_the_safe_ones(ledger):
    assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


COPY = "at, study, purpose, inputs, sampling_rate, noise_multiplier, 1, assumes, key_digest, hash, state, key"
ATTEMPTS = f"""DELETE FROM payment
DELETE FROM payment WHERE id = 2
UPDATE payment SET steps = 1 WHERE id = 2
UPDATE payment SET sampling_rate = 0.001
UPDATE payment SET hash = 'x' WHERE id = 1
UPDATE payment SET state = 'reserved', key = x'00' WHERE id = 1
UPDATE payment SET key = x'00' WHERE id = 2
UPDATE payment SET state = 'settled', key = NULL, steps = 1 WHERE id = 2
UPDATE payment SET state = 'settled' WHERE id = 2
INSERT OR REPLACE INTO payment SELECT 2, {COPY} FROM payment WHERE id = 2
INSERT INTO payment SELECT 9, {COPY} FROM payment WHERE id = 2
UPDATE about SET value = 'cohort-b' WHERE name = 'cohort'
DELETE FROM about"""


@pytest.mark.parametrize("attempt", ATTEMPTS.splitlines())
def test_what_was_written_stands(ledger, path, attempt):
    ledger.settle(reserved(ledger, "run/round-1").id)
    reserved(ledger, "run/round-2")
    before, head = ledger.rows(), ledger.head()
    outside = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        outside.execute(attempt)
    outside.close()
    assert ledger.rows() == before
    assert ledger.verify([head]) == head


CHANGES = """UPDATE payment SET steps = 1 WHERE id = 2
UPDATE payment SET noise_multiplier = 4.0000001 WHERE id = 2
UPDATE payment SET at = '2001' WHERE id = 2
UPDATE payment SET hash = printf('%064d', 0) WHERE id = 2
DELETE FROM payment WHERE id = 2
DELETE FROM payment WHERE id = 1
UPDATE payment SET id = 7 WHERE id = 3"""


@pytest.mark.parametrize("change", CHANGES.splitlines())
def test_a_row_altered_by_force_is_found_and_nothing_is_paid_from_it(path, change):
    with opened(path) as ledger:
        for number in range(3):
            reserved(ledger, f"run/round-{number}")
        force(path, change)
        for use in (ledger.verify, ledger.rows, ledger.spent, ledger.head, lambda: reserved(ledger, "more")):
            with pytest.raises(StateError, match="altered at row"):
                use()


def test_a_cohort_altered_by_force_is_found(path):
    with opened(path) as ledger:
        reserved(ledger)
    force(path, "UPDATE about SET value = 'cohort-b' WHERE name = 'cohort'")
    with opened(path, cohort="cohort-b") as ledger, pytest.raises(StateError, match="altered at row 1"):
        ledger.verify()


def test_rows_cut_off_the_end_are_found_by_a_head_kept_elsewhere(path):
    with opened(path) as ledger:
        heads = [ledger.head()]
        for number in range(3):
            reserved(ledger, f"run/round-{number}")
            heads.append(ledger.head())
        assert len(set(heads)) == 4
        assert ledger.verify(heads) == heads[-1]
        force(path, "DELETE FROM payment WHERE id = 3")
        assert ledger.verify(heads[:-1]) == heads[-2]  # alone, the chain cannot know
        with pytest.raises(StateError, match=f"lost rows.*{heads[-1]}"):
            ledger.verify(heads)


def force(path: Path, change: str) -> None:
    outside = sqlite3.connect(path, isolation_level=None)
    names = outside.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        outside.execute(f"DROP TRIGGER {name}")
    outside.execute(change)
    outside.close()


@pytest.mark.parametrize(
    "damaged", [lambda _: b"no ledger" * 900, lambda _: b"", lambda old: old[:100] + bytes(4000)]
)
def test_a_damaged_ledger_is_refused_with_what_to_do(path, damaged: Callable[[bytes], bytes]):
    with opened(path) as ledger:
        reserved(ledger)
    path.write_bytes(damaged(path.read_bytes()))
    with (
        pytest.raises(StateError, match=r"the ledger .*ledger.sqlite.*never delete it"),
        opened(path) as ledger,
    ):
        ledger.verify()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        opened(tmp_path / "file" / "ledger.sqlite")


def test_a_ledger_of_another_format_is_kept_and_not_written(path):
    with opened(path) as ledger:
        reserved(ledger)
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER about_stands")
        database.execute("UPDATE about SET value = '1' WHERE name = 'version'")
    database.close()
    with pytest.raises(StateError, match="of format 1, this Willis writes 2"):
        opened(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM payment").fetchone() == (1,)
