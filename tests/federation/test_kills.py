"""Every process of a federation killed in a round, twice: it ends, with the same model, paid once.

Two federations at a time, for most of it is waiting. Noise is fixed, so the model of an undisturbed run in
one process is what every disturbed one must come to, bit for bit.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flwr.app import UserConfig
from living_federation import PATIENCE_S, Federation, make_site

from willis.client.app import app as client_app
from willis.client.ledger import LedgerRow
from willis.server.checkpoint import Checkpoint, load
from willis.server.hub.folder import make_hub
from willis.server.hub.runs import HubRun
from willis.server.hub.settings import HubSettings
from willis.server.rounds import run_rounds
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import read_release
from willis.shared.study import read_study
from willis.simulations.local_grid import LocalGrid

pytestmark = [pytest.mark.federation, pytest.mark.timeout(2400)]

ROUNDS = 2  # a program is killed in the first, its successor in the second
FIRST = ("clientapp@site-a", "superlink", "nginx", "superexec@site-a")
SECOND = ("supernode@site-a", "serverapp", "superexec")


@dataclass(frozen=True)
class Survived:
    """A study whose federation was disturbed.

    Attributes:
        killed: Process ids, in order.
        state: After the last round.
        payments: Of this run, by site.
        run: The hub's.
    """

    killed: tuple[int, int]
    state: Checkpoint
    payments: dict[str, list[LedgerRow]]
    run: HubRun


def disturbed(federation: Federation, what: str, held: Path) -> Survived:
    """Run the study; kill a program while a site is in the first round, its successor in the second.

    Args:
        federation: Up; its first site waits in a round while ``held`` says so.
        what: The program.
        held: Folder of ``tampered/held``.
    """
    killed: list[int] = []
    holds = [held / f"hold-{number + 1}" for number in range(ROUNDS)]
    for before in held.iterdir():
        before.unlink()
    for hold in holds:
        hold.touch()
    run = federation.start()

    def disturb() -> None:
        try:
            for number, hold in enumerate(holds, start=1):
                wait_until((held / f"at-{number}").exists, f"a site at work in round {number}")
                killed.append(federation.kill(what, not_this=killed[-1] if killed else None))
                hold.unlink()
        finally:
            for hold in holds:
                hold.unlink(missing_ok=True)

    with ThreadPoolExecutor(1) as pool:
        hand = pool.submit(disturb)
        ended = federation.finish(run)
        hand.result(PATIENCE_S)
    assert ended.path == run.path
    state = load(run.path / "server", study_digest=federation.study.digest())
    payments = {
        site: [row for row in federation.payments(site) if row.purpose.startswith(f"{state.run}/")]
        for site in federation.sites
    }
    return Survived((killed[0], killed[1]), state, payments, run)


def wait_until(true, what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def trial(tmp_path_factory, tiny_study_file_in, phantom_cohort_in):
    """Study and cohort for the whole module."""
    folder = tmp_path_factory.mktemp("kills")
    return folder, tiny_study_file_in(folder, training={"rounds": ROUNDS}), phantom_cohort_in(folder)


@pytest.fixture(scope="module")
def undisturbed(trial, keys_by_round_for_module) -> Checkpoint:
    """The same study in one process, nothing killed."""
    folder, study_path, table = trial
    study = read_study(study_path)
    hub = make_hub(folder / "nobody", HubSettings(host="localhost", port=18444))
    places = [folder / "quiet" / site.name for site in study.federation.sites]
    for place in places:
        make_site(place, place.name, study, table, hub=hub)
    nodes: list[UserConfig] = [{"site-settings": str(place / "site.toml")} for place in places]
    return run_rounds(
        LocalGrid(client_app, nodes, workers=1),
        study,
        folder=folder / "quiet" / "run",
        initial=recipe_of(study).start(),
    )


@pytest.fixture(scope="module")
def survivors(trial) -> dict[str, Future[Survived]]:
    """Every kind of kill, in two federations at the same time."""
    folder, study_path, table = trial
    found: dict[str, Future[Survived]] = {what: Future() for what in (*FIRST, *SECOND)}

    def one(name: str, kinds: tuple[str, ...]) -> None:
        held = folder / f"{name}-held"
        held.mkdir()
        environments = {"site-a": {"WILLIS_TEST_HELD": str(held), "WILLIS_TEST_TAMPER": "fixed_noise held"}}
        federation = Federation(
            folder / name, study_path, table, tamper="fixed_noise", environments=environments
        )
        with federation.alive():
            for what in kinds:
                try:
                    found[what].set_result(disturbed(federation, what, held))
                except BaseException as fault:
                    found[what].set_exception(fault)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(one, "first", FIRST), pool.submit(one, "second", SECOND)]:
            done.result()
    return found


@pytest.mark.parametrize("what", [*FIRST, *SECOND])
def test_killed_twice_a_study_still_ends_the_same_and_pays_once(what, survivors, undisturbed):
    survived = survivors[what].result(timeout=0)
    assert survived.killed[0] != survived.killed[1]
    assert survived.state.round == undisturbed.round == ROUNDS
    assert survived.state.model.keys() == undisturbed.model.keys()
    for name, array in undisturbed.model.items():
        np.testing.assert_array_equal(survived.state.model[name], array, err_msg=name)
    for site, rows in survived.payments.items():
        purposes = [row.purpose.partition("/")[2] for row in rows]
        assert purposes == [f"round-{n + 1}" for n in range(ROUNDS)], f"{site} paid {purposes}"
        assert all(row.settled for row in rows)
    told = survived.run.facts(None)["spent"]
    assert isinstance(told, dict)
    assert set(told) == {"site-a", "site-b"}
    # A ledger adds up over all runs of its cohort, and the release tells what the sites told.
    assert read_release(survived.run.release).spent.epsilon == pytest.approx(max(told.values()))
