"""Two sites, twenty rounds, three random kills a minute of any process: it ends, and is paid once."""

import random
import threading

import pytest
from living_federation import Federation

from willis.server.checkpoint import load
from willis.shared.release import read_release

pytestmark = [pytest.mark.federation, pytest.mark.slow, pytest.mark.timeout(7200)]

ROUNDS = 20
SEED = 20
EVERY_S = 20.0
ANY = (
    "superlink",
    "superexec",
    "nginx",
    "serverapp",
    *(f"{what}@{site}" for site in ("site-a", "site-b") for what in ("supernode", "superexec", "clientapp")),
)


def kill_at_random(federation: Federation, over: threading.Event, *, told: list[str]) -> None:
    """Kill whatever of the processes is there, at random times, until all is over."""
    dice = random.Random(SEED)
    while not over.wait(dice.expovariate(1 / EVERY_S)):
        there = [what for what in ANY if federation.pid(what) is not None]
        if there:
            told.append(dice.choice(there))
            federation.kill(told[-1])
            print(f"killed {told[-1]}", flush=True)


def test_it_ends_and_every_round_is_paid_once(tmp_path, tiny_study_file, phantom_cohort):
    study = tiny_study_file(training={"rounds": ROUNDS}, federation={"deadline_s": 90})
    federation = Federation(tmp_path, study, phantom_cohort())
    told: list[str] = []
    over = threading.Event()
    print(f"seed {SEED}")
    with federation.alive():
        run = federation.start()
        hand = threading.Thread(target=kill_at_random, args=(federation, over), kwargs={"told": told})
        hand.start()
        try:
            ended = federation.finish(run, patience_s=5400.0)
        finally:
            over.set()
            hand.join(300)
    assert ended.path == run.path
    assert load(run.path / "server", study_digest=federation.study.digest()).round == ROUNDS
    assert read_release(run.release).spent.epsilon <= 8.0
    assert len(told) >= 3, f"only {told} were killed"
    for site in federation.sites:
        rows = federation.payments(site)
        assert [row.purpose.partition("/")[2] for row in rows] == [f"round-{n + 1}" for n in range(ROUNDS)]
        assert all(row.settled for row in rows)
