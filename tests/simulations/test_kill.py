"""Kill -9 at any instant: nothing is drawn that was not paid for, nothing is paid twice, nothing is lost."""

import hashlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from willis.client import critic_step
from willis.client.ledger import Ledger
from willis.server.checkpoint import latest_round
from willis.shared.privacy import PrivacyUnit
from willis.shared.release import read_release
from willis.shared.study import read_study
from willis.shared.update import digest
from willis.simulations import run
from willis.simulations.run import simulate

KILLS = 10
LINES = 16  # two for each step: an instant is a place in the run, however busy the machine, and some more
SITES = ("site-a", "site-b")
processes = multiprocessing.get_context("fork")  # quick: everything is imported already


@pytest.fixture
def diary(tmp_path, keys_by_round, monkeypatch) -> Path:
    """Of every private sum: "folder site round step begun", and what it gave; on disk before it is used."""
    path, work = tmp_path / "diary", threading.local()
    pay, draw = Ledger.reserve, critic_step.private_sum

    def reserve(self, *, purpose, **rest):
        reservation = pay(self, purpose=purpose, **rest)
        folder = self._path.parents[2].name
        work.step, work.name = 0, f"{folder} {self._path.parent.name} {purpose.rpartition('/')[2]}"
        return reservation

    def private_sum(vectors, **rest):
        work.step += 1
        write(path, f"{work.name} {work.step} begun")
        total = draw(vectors, **rest)
        content = b"".join(part.numpy().tobytes() for part in total)
        write(path, f"{work.name} {work.step} {hashlib.sha256(content).hexdigest()}")
        return total

    monkeypatch.setattr(Ledger, "reserve", reserve)
    monkeypatch.setattr(critic_step, "private_sum", private_sum)
    monkeypatch.setattr(run, "_EXPORTED", 1)
    path.touch()
    return path


def write(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(handle, line.encode() + b"\n")
    os.fsync(handle)
    os.close(handle)


def begun(diary: Path, folder: str) -> Counter[str]:
    """Count the distinct steps of every site of a run that were begun, however often."""
    steps = {tuple(line.split()[:4]) for line in diary.read_text().splitlines()}
    return Counter(site for run_, site, _, _ in steps if run_ == folder)


def paid(folder: Path, site: str) -> tuple[int, float]:
    """Return the steps in a site's ledger, reserved and settled alike, and its epsilon; after checking it."""
    path, study = folder / "sites" / site / "ledger.sqlite", read_study(folder / "study.toml")
    if not path.exists():
        return 0, 0.0
    cap, delta = study.privacy.epsilon, study.privacy.delta
    with Ledger.open(path, cohort=site, unit=PrivacyUnit.SUBJECT, epsilon_cap=cap, delta=delta) as ledger:
        ledger.verify()
        return sum(row.run.steps for row in ledger.rows()), ledger.spent().epsilon


def go_on(study: Path, folder: Path, cohort: Path) -> None:
    simulate(study, out=folder, cohort=cohort, resume=True, evaluate=False)


def killed(lines: int, seconds: float, study: Path, folder: Path, cohort: Path, diary: Path) -> bool:
    """Run in a process of its own, kill it some seconds after so many lines; whether it was alive then."""
    child = processes.Process(target=go_on, args=(study, folder, cohort))
    until = len(diary.read_text().splitlines()) + lines
    child.start()
    while child.is_alive() and len(diary.read_text().splitlines()) < until:
        time.sleep(0.002)
    child.join(seconds)
    alive = child.exitcode is None
    if alive and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return alive


def test_ten_kills_at_random_instants_cost_nothing_and_change_nothing(
    tmp_path, tiny_study_file, phantom_cohort, diary
):
    study = tiny_study_file(training={"rounds": 6})
    cohort = phantom_cohort(subjects=8)
    undisturbed = simulate(study, out=tmp_path / "straight", cohort=cohort, evaluate=False)
    started = time.monotonic()
    go_on(study, tmp_path / "timed", cohort)
    whole = time.monotonic() - started
    dice, kills, number, stages = random.Random(7), 0, 0, set()
    while kills < KILLS:
        folder = tmp_path / f"run-{number}"
        while kills < KILLS and killed(
            dice.randrange(LINES), dice.uniform(0, whole / 20), study, folder, cohort, diary
        ):
            kills += 1
            stages.add(latest_round(folder / "server"))
            check_paid(folder, diary)
        go_on(study, folder, cohort)
        check_ended(folder, diary, undisturbed=digest(undisturbed.release.arrays))
        number += 1
    assert len(stages) > 2, f"kills hit different stages of the run, not only {stages}"
    check_repeats(diary)


def check_paid(folder: Path, diary: Path) -> None:
    for site, steps in begun(diary, folder.name).items():
        assert paid(folder, site)[0] >= steps, f"{site} drew more than it paid for"


def check_ended(folder: Path, diary: Path, *, undisturbed: str) -> None:
    plan = read_study(folder / "study.toml")
    for site in SITES:
        steps, epsilon = paid(folder, site)
        assert steps == plan.training.draws == begun(diary, folder.name)[site], "paid once"
        assert epsilon <= plan.privacy.epsilon * (1 + 1e-6)
    assert digest(read_release(folder / "release").arrays) == undisturbed
    assert (folder / "report.html").stat().st_size > 0
    assert [path.name for path in (folder / "server").glob("*.part")] == []


def check_repeats(diary: Path) -> None:
    """Whatever was drawn again under one payment was the same to the last bit."""
    given: dict[tuple[str, ...], set[str]] = {}
    for line in diary.read_text().splitlines():
        *step, content = line.split()
        if content != "begun":
            given.setdefault(tuple(step), set()).add(content)
    assert max(len(contents) for contents in given.values()) == 1
