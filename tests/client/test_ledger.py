"""The site's ledger: it counts before it draws, replays for nothing, refuses, is not rewritten unseen."""

import math
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.client.ledger import Ledger
from willis.shared.accounting import MechanismRun, epsilon
from willis.shared.errors import BudgetExhausted, StateError
from willis.shared.privacy import PrivacyUnit

DELTA = 1e-5
RUN = MechanismRun(sampling_rate=0.25, noise_multiplier=4.0, steps=20)
COST = epsilon([RUN], delta=DELTA)
processes = multiprocessing.get_context("fork")  # quick: everything is imported already


def opened(path: Path, *, cap: float = 100.0, **other) -> Ledger:
    terms = {"cohort": "cohort-a", "delta": DELTA, "unit": PrivacyUnit.SUBJECT} | other
    return Ledger.open(path, epsilon_cap=cap, **terms)


def reserved(ledger: Ledger, purpose: str = "run/round-1", *, inputs: str = "i", run: MechanismRun = RUN):
    return ledger.reserve(study="s", purpose=purpose, inputs=inputs, run=run)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def ledger(path) -> Iterator[Ledger]:
    with opened(path) as ledger:
        yield ledger


def test_a_reservation_counts_at_once_and_after_reopening(path):
    with opened(path) as ledger:
        assert ledger.spent().epsilon == 0
        first = reserved(ledger)
        assert (first.id, first.replayed, len(first.key)) == (1, False, 32)
        assert ledger.spent().epsilon == pytest.approx(COST)
    with opened(path) as again:
        assert again.spent().epsilon == pytest.approx(COST)
        (row,) = again.rows()
        assert (row.study, row.purpose, row.inputs, row.run) == ("s", "run/round-1", "i", RUN)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", row.at)


def test_equal_runs_compose_as_one_longer_run(ledger):
    for number in range(4):
        ledger.settle(reserved(ledger, f"run/round-{number}").id)
    reserved(ledger, "run/round-4")
    together = epsilon([MechanismRun(0.25, 4.0, 5 * RUN.steps)], delta=DELTA)
    assert ledger.spent().epsilon == together < 5 * COST


def test_work_redone_has_the_same_key_and_costs_nothing(path):
    with opened(path) as ledger:
        first = reserved(ledger)
    with opened(path) as ledger:
        again = reserved(ledger)
        assert (again.id, again.replayed, again.key) == (first.id, True, first.key)
        assert len(ledger.rows()) == 1
        assert ledger.spent().epsilon == pytest.approx(COST)


OTHER = [
    {"purpose": "run/round-2"},
    {"inputs": "j"},
    *({"run": MechanismRun(0.25, s, 21)} for s in (4.0, 4.1)),
]


@pytest.mark.parametrize("other", OTHER)
def test_other_work_is_charged_and_has_a_key_of_its_own(ledger, other):
    first, second = reserved(ledger), reserved(ledger, **other)
    assert (second.id, second.replayed) == (2, False)
    assert second.key != first.key
    assert ledger.spent().epsilon > COST


def test_settled_work_is_not_replayed_and_its_key_is_gone(path):
    with opened(path) as ledger:
        first = reserved(ledger)
        files = list(path.parent.glob("*"))
        assert any(first.key in file.read_bytes() for file in files)
        assert repr(first) == "Reservation(id=1, replayed=False)"
        head = ledger.head()
        ledger.settle(first.id)
        ledger.settle(first.id)
        assert ledger.verify() == head
        assert ledger.rows()[0].settled
        assert ledger.spent().epsilon == pytest.approx(COST)
        assert not any(first.key in file.read_bytes() for file in path.parent.glob("*"))
        with pytest.raises(StateError, match="settled and its key wiped: send the stored answer"):
            reserved(ledger)


def test_a_row_that_is_not_there_is_not_settled(ledger):
    reserved(ledger)
    for row in (0, 2, -1):
        with pytest.raises(StateError, match=f"has no row {row}"):
            ledger.settle(row)


def test_the_cap_is_kept_and_the_refusal_has_the_figures(path):
    two, three = (epsilon([MechanismRun(0.25, 4.0, n * 20)], delta=DELTA) for n in (2, 3))
    with opened(path, cap=two) as ledger:
        reserved(ledger, "run/round-1")
        reserved(ledger, "run/round-2")  # lands on the cap: affordable
        head = ledger.head()
        with pytest.raises(BudgetExhausted) as refusal:
            reserved(ledger, "run/round-3")
        costs = f"epsilon {two:.4g} is spent, this run costs {three - two:.4g} more, so {three:.4g}; "
        assert costs + f"the cap is {two:g} (delta 1e-05, unit subject)" in str(refusal.value)
        assert (len(ledger.rows()), ledger.head()) == (2, head)
        assert reserved(ledger, "run/round-2").replayed  # still free


def test_a_hair_above_the_cap_and_tiny_noise_are_refused(path, ledger):
    with opened(path, cap=COST * (1 - 1e-4)) as tight, pytest.raises(BudgetExhausted):
        reserved(tight)
    with pytest.raises(BudgetExhausted, match="stop, or agree on a new cap"):
        reserved(ledger, run=MechanismRun(1.0, 0.01, 10**9))


def test_two_cohorts_have_two_ledgers(path):
    opened(path).close()
    with pytest.raises(StateError, match='is of cohort "cohort-a", not "cohort-b"'):
        opened(path, cohort="cohort-b")
    with pytest.raises(StateError, match='is of unit "subject", not "patch"'):
        opened(path, unit=PrivacyUnit.PATCH)
    with opened(path.with_name("b"), cohort="cohort-b") as other, opened(path) as first:
        reserved(first)
        assert other.spent().epsilon == 0
        assert other.head() != first.head()


def test_patch_unit_tells_the_patient_s_figure(path):
    with opened(path, unit=PrivacyUnit.PATCH, patches_per_patient=4) as ledger:
        reserved(ledger)
        spent = ledger.spent()
    assert spent.patient_epsilon is not None
    assert spent.patient_epsilon > spent.epsilon


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_cap_is_refused_and_makes_no_file(path, cap):
    with pytest.raises(ValueError, match=f"got {cap}"):
        opened(path, cap=cap)
    with pytest.raises(ValueError, match=r"delta must lie in .* got 0"):
        opened(path, delta=0.0)
    assert not path.exists()


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


def test_a_reservation_is_quick(ledger):
    reserved(ledger)
    slowest = 0.0
    for number in range(2, 12):
        started = time.perf_counter()
        reserved(ledger, f"run/round-{number}")
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 1


mechanisms = st.sampled_from([RUN, MechanismRun(0.5, 6.0, 3), MechanismRun(1.0, 9.0, 1)])


@settings(max_examples=5, deadline=None)
@given(st.lists(mechanisms, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(runs, dice):
    shuffled = dice.sample(runs, len(runs))
    figures = []
    for order in (runs, shuffled):
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "ledger") as ledger:
            for number, run in enumerate(order):
                reserved(ledger, str(number), run=run)
            figures.append(ledger.spent().epsilon)
    assert figures[0] == figures[1] == epsilon(runs, delta=DELTA)


def _work(path: Path, first: int, tell: int, long: int) -> None:
    """Reserve, announce, settle, for ever; the announcement comes when the draw would begin. One is long."""
    with opened(path, cap=1e6) as ledger:
        for number in range(first, 10**9):
            reservation = reserved(ledger, f"run/round-{number}", run=MechanismRun(1.0, 30.0, 7))
            os.write(tell, f"{number} {reservation.id} {reservation.key.hex()}\n".encode())
            if number == long:
                signal.pause()
            ledger.settle(reservation.id)


def test_killed_at_any_instant_everything_begun_is_counted(path):
    """Killed after a few announcements, anywhere in the time that one takes, however slow the machine is."""
    dice, announced, begun = random.Random(5), 0, (0, 1, 0, 6, 2, 3, 0, 5, 2, 4, 1, 3)
    redone = 0
    started = time.perf_counter()
    opened(path.with_name("another"), cap=1e6).close()
    takes = time.perf_counter() - started  # to make a ledger; below, to begin something
    for least in begun:
        hear, tell = os.pipe()
        first = 1000 * announced
        long = first + least - 1 if least % 2 else -1  # these are killed in a draw for certain
        child = processes.Process(target=_work, args=(path, first, tell, long))
        child.start()
        os.close(tell)
        with os.fdopen(hear) as told:
            started = time.perf_counter()
            lines = [told.readline() for _ in range(least)]
            if lines:
                takes = (time.perf_counter() - started) / least
            time.sleep(dice.random() * takes)
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            lines = [line.split() for line in [*lines, *told] if line.endswith("\n")]
        announced += len(lines)
        with opened(path, cap=1e6) as ledger:
            rows = ledger.rows()
            ledger.verify()
            assert sum(row.run.steps for row in rows) >= 7 * announced
            if lines and not rows[int(lines[-1][1]) - 1].settled:  # killed in its draw: the same draw again
                again = reserved(ledger, f"run/round-{lines[-1][0]}", run=MechanismRun(1.0, 30.0, 7))
                assert again.replayed
                assert again.key.hex() == lines[-1][2]
                redone += 1
    assert announced >= sum(begun) > 20
    assert redone >= sum(least % 2 for least in begun)


def _race(path: Path, number: int, cap: float, gate) -> None:
    gate.wait()
    try:
        with opened(path, cap=cap) as ledger:
            reserved(ledger, f"process-{number}")
    except BudgetExhausted:
        os._exit(3)
    os._exit(0)


def test_eight_processes_race_for_three_places(path):
    cap = epsilon([MechanismRun(0.25, 4.0, 3 * 20)], delta=DELTA)
    gate = processes.Barrier(8)
    racers = [processes.Process(target=_race, args=(path, number, cap, gate)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(str(racer.exitcode) for racer in racers) == [*"00033333"]
    with opened(path, cap=cap) as ledger:
        assert len(ledger.rows()) == 3
        ledger.verify()
        assert ledger.spent().epsilon <= cap * (1 + 1e-6)
    assert not list(path.parent.glob(".*"))  # no half-made file is left


def test_what_a_payment_assumes_is_told_with_every_figure(ledger):
    reserved(ledger, "run/round-1")
    assert "ASSUMING" not in ledger.spent().sentence()
    ledger.reserve(study="s", purpose="p", inputs="i", run=RUN, assumes="two honest sites")
    assert ledger.spent().sentence().endswith("(ASSUMING two honest sites)")
    assert [row.assumes for row in ledger.rows()] == ["", "two honest sites"]


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
