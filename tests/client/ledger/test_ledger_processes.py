"""The site's ledger under kills and races: what was begun is counted, and no place is given twice."""

import os
import random
import signal
import time
from pathlib import Path

from harness.made_ledger import DELTA, opened, processes, reserved

from willis.shared.accounting import MechanismRun, epsilon
from willis.shared.errors import BudgetExhausted


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
