"""What a hub refuses before anything is sent, and what it tells of its runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from willis.server import app as coordinator
from willis.server.hub import command, control, sites, start
from willis.server.hub.folder import HubFolder
from willis.server.hub.programs import how_it_is
from willis.server.hub.runs import HubRun, find_run, new_run, runs_of
from willis.server.hub.sites import RegisteredSite, register_site, registered_sites, unregister_site
from willis.server.hub.start import start_study, wait_for
from willis.server.hub.status import shown, status_now
from willis.server.ledger import SpendingBook
from willis.shared.errors import BudgetExhausted, QuorumMissed, StateError, StudyError, Unreachable
from willis.shared.lock import held_alone
from willis.shared.privacy import PrivacySpent
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.study import Study, read_study
from willis.simulations.local_grid import LocalGrid


@pytest.fixture
def known(hub: HubFolder) -> dict[str, RegisteredSite]:
    """Register two sites as the hub's folder tells it."""
    found = {}
    for node, name in enumerate(("site-a", "site-b")):
        line = NodeKey.fresh_p384().identity.line()
        (hub.sites / f"{name}.pub").write_text(f"{line}\n")
        (hub.sites / f"{name}.json").write_text(json.dumps({"node": str(node)}))
        found[name] = RegisteredSite(name, str(node), line)
    return found


@pytest.fixture
def run(hub: HubFolder, known: dict[str, RegisteredSite], tiny_study_file: Callable[..., Path]) -> HubRun:
    """Make a run that has not begun."""
    path = tiny_study_file()
    return new_run(hub, read_study(path), path.read_bytes(), sites=known)


def test_a_study_of_an_unknown_site_is_refused(hub: HubFolder, tiny_study_file: Callable[..., Path]) -> None:
    with pytest.raises(StateError, match=r"not registered: site-a, site-b \(registered: none\)"):
        start_study(hub, tiny_study_file())
    assert list(hub.runs.iterdir()) == []


def test_a_study_without_a_noise_is_refused(
    hub: HubFolder, known: dict[str, RegisteredSite], tiny_study_file: Callable[..., Path]
) -> None:
    with pytest.raises(StudyError, match="no noise fits"):
        start_study(hub, tiny_study_file(privacy={"epsilon": 1e-12, "delta": 1e-9}))
    assert list(hub.runs.iterdir()) == []


def test_nothing_to_resume_is_said(hub: HubFolder, run: HubRun, tiny_study_file: Callable[..., Path]) -> None:
    with pytest.raises(StateError, match="no run of study tiny"):
        start_study(hub, tiny_study_file(seed=2), resume=True)


def test_without_a_hub_that_is_up_nothing_starts(
    hub: HubFolder, known: dict[str, RegisteredSite], tiny_study_file: Callable[..., Path]
) -> None:
    with pytest.raises(Unreachable, match="is it up"):
        start_study(hub, tiny_study_file())
    assert list(hub.runs.iterdir()) == []


def test_runs_are_numbered_and_found(hub: HubFolder, run: HubRun, known: dict[str, RegisteredSite]) -> None:
    again = new_run(hub, run.study, (run.path / "study.toml").read_bytes(), sites=known)
    assert (run.name, again.name) == ("tiny-1", "tiny-2")
    os.utime(run.path / "study.toml", (1, 1))
    assert [one.name for one in runs_of(hub)] == ["tiny-1", "tiny-2"]
    assert find_run(hub, "tiny-2") == again
    with pytest.raises(StateError, match="it has tiny-1, tiny-2"):
        find_run(hub, "tiny-3")


def test_secure_sums_take_the_registered_keys(
    hub: HubFolder, known: dict[str, RegisteredSite], tiny_study: Callable[..., Study]
) -> None:
    study = tiny_study(
        training={"protocol": "pooled", "critic_steps": 1},
        federation={"quorum": 2, "secure": {"colluders": 0}},
    )
    made = new_run(hub, study, b"", sites=known)
    peers = json.loads((made.path / "server" / "peers.json").read_bytes())
    assert peers == {name: site.public_key for name, site in known.items()}


@pytest.mark.parametrize(
    ("flower", "state"),
    [
        (None, "down"),
        ({}, "lost"),
        ({"7": "pending"}, "pending"),
        ({"7": "running"}, "running"),
        ({"7": "finished:stopped"}, "stopped"),
        ({"7": "finished:failed"}, "failed"),
        ({"6": "running", "7": "finished:failed"}, "failed"),
    ],
)
def test_a_runs_state_in_one_word(run: HubRun, flower: dict[str, str] | None, state: str) -> None:
    run.add_flower_run("6")
    run.add_flower_run("7")
    assert run.state(flower) == state


def test_what_status_tells_of_a_run(hub: HubFolder, run: HubRun) -> None:
    fields = {"epsilon": 1.25, "delta": 1e-3, "unit": "subject", "accountant": "PLD"}
    spent = PrivacySpent.model_validate(fields | {"relation": "add-or-remove-one"})
    SpendingBook(run.path / "server" / "spending.jsonl").record(1, "site-b", spent=spent, ledger_head="a")
    failure = {"code": "quorum", "message": "too few"}
    (run.path / "server" / "failure.json").write_text(json.dumps(failure))
    told = status_now(hub)
    facts = {"name": "tiny-1", "study": run.study.digest(), "round": 0, "rounds": 3, "state": "failed"}
    assert told["runs"] == [facts | {"spent": {"site-b": 1.25}, "failure": failure}]
    assert told["sites"] == [
        {"name": "site-a", "online": False, "registered": True},
        {"name": "site-b", "online": False, "registered": True},
    ]
    assert told["up"] is None
    headline, sites, runs = shown(told)
    assert (headline, sites.row_count, runs.row_count) == ("The hub is down.", 2, 1)


@pytest.mark.parametrize(("code", "kind"), [("quorum", QuorumMissed), ("budget", BudgetExhausted)])
def test_waiting_ends_with_what_ended_the_run(hub: HubFolder, run: HubRun, code: str, kind: type) -> None:
    told = json.dumps({"code": code, "message": "as the coordinator said"})
    (run.path / "server" / "failure.json").write_text(told)
    with pytest.raises(kind, match="as the coordinator said"):
        wait_for(hub, run, on_round=lambda record: None)


def test_waiting_ends_when_the_run_died_without_a_word(
    hub: HubFolder, run: HubRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add_flower_run("7")
    monkeypatch.setattr(start, "_ASK_S", 0.0)
    monkeypatch.setattr(start, "list_runs", lambda hub: {"7": "finished:failed"})
    monkeypatch.setattr(start, "log_of", lambda hub, number: f"the log of {number}")
    with pytest.raises(Unreachable, match="--resume"):
        wait_for(hub, run, on_round=lambda record: None)
    assert (run.path / "flower.log").read_text() == "the log of 7"


def test_a_key_is_one_sites_and_a_site_has_one_key(
    hub: HubFolder, known: dict[str, RegisteredSite], tmp_path: Path
) -> None:
    own = hub.sites / "site-a.pub"
    assert register_site(hub, "site-a", own) == known["site-a"]
    with pytest.raises(StateError, match="is site-a's"):
        register_site(hub, "site-c", own)
    other = tmp_path / "other.pub"
    other.write_text(NodeKey.fresh_p384().identity.line())
    with pytest.raises(StateError, match="another key"):
        register_site(hub, "site-a", other)


@pytest.mark.parametrize("there", [True, False])
def test_who_is_unregistered_leaves_superlink_and_the_hubs_list(
    hub: HubFolder, known: dict[str, RegisteredSite], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    asked = []
    monkeypatch.setattr(sites, "list_nodes", lambda hub: {"0": "online"} if there else {"1": "online"})
    monkeypatch.setattr(sites, "unregister_node", lambda hub, number: asked.append(number))
    assert unregister_site(hub, "site-a") == known["site-a"]
    assert asked == (["0"] if there else [])
    assert registered_sites(hub) == {"site-b": known["site-b"]}
    assert sorted(path.name for path in hub.sites.iterdir()) == ["site-b.json", "site-b.pub"]
    with pytest.raises(StateError, match='"site-a" is not registered; registered are site-b'):
        unregister_site(hub, "site-a")


def test_a_site_that_superlink_keeps_stays_registered(
    hub: HubFolder, known: dict[str, RegisteredSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(hub: HubFolder, number: str) -> None:
        raise StateError("SuperLink refused it")

    monkeypatch.setattr(sites, "list_nodes", lambda hub: {"0": "online"})
    monkeypatch.setattr(sites, "unregister_node", refuse)
    with pytest.raises(StateError, match="SuperLink refused"):
        unregister_site(hub, "site-a")
    assert registered_sites(hub) == known


@pytest.mark.parametrize(
    ("status", "coordinated", "site", "busy"),
    [
        ("running", False, "site-a", ["tiny-1"]),
        ("pending", False, "site-a", ["tiny-1"]),
        ("finished:failed", True, "site-a", ["tiny-1"]),
        ("finished:failed", False, "site-a", []),
        ("running", True, "site-c", []),
    ],
)
def test_a_site_is_busy_while_a_run_that_names_it_may_do_something(
    hub: HubFolder,
    run: HubRun,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    coordinated: bool,
    site: str,
    busy: list,
) -> None:
    run.add_flower_run("7")
    monkeypatch.setattr(control, "list_runs", lambda hub: {"7": status})
    monkeypatch.setattr(HubRun, "has_coordinator", lambda run: coordinated)
    assert command._runs_at_work(hub, site=site) == busy


def test_a_private_key_is_sent_back(hub: HubFolder, tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_bytes(NodeKey.fresh_p384().openssh())
    with pytest.raises(StudyError, match="private key"):
        register_site(hub, "site-a", key)
    ed25519 = tmp_path / "ed25519.pub"
    ed25519.write_text(NodeKey.fresh().identity.line())
    with pytest.raises(StudyError, match="P-384"):
        register_site(hub, "site-a", ed25519)
    assert list(hub.sites.iterdir()) == []


def test_a_hub_whose_keeper_was_killed_is_down(hub: HubFolder) -> None:
    told = {"pid": os.getpid(), "programs": {}}  # its number is another process's by now
    (hub.path / "up.json").write_text(json.dumps(told))
    assert how_it_is(hub) is None


def test_two_coordinators_of_one_run_are_one_too_many(run: HubRun) -> None:
    with held_alone(run.path / "server" / "lock", "held"):
        context = Context(
            1, 1, {}, RecordDict(), {"study": str(run.path / "study.toml"), "run": str(run.path)}
        )
        with pytest.raises(StateError, match="another ServerApp is at work"):
            coordinator.app(LocalGrid(ClientApp(), []), context)
    assert run.failure() is None


def test_waiting_ends_soon_when_nobody_coordinates_a_run_that_flower_thinks_is_running(
    hub: HubFolder, run: HubRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add_flower_run("7")
    monkeypatch.setattr(start, "_ALONE_S", 0.0)
    monkeypatch.setattr(start, "list_runs", lambda hub: {"7": "running"})
    with pytest.raises(Unreachable, match="lost its coordinator"):
        wait_for(hub, run, on_round=lambda record: None)


@pytest.mark.parametrize("ended_meanwhile", [False, True])
def test_a_run_whose_coordinator_was_killed_is_stopped_before_it_goes_on(
    hub: HubFolder,
    run: HubRun,
    tiny_study_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    ended_meanwhile: bool,
) -> None:
    run.add_flower_run("7")
    status, stopped = {"7": "running"}, []

    def stop(hub: HubFolder, number: str) -> None:
        stopped.append(number)
        status[number] = "finished:stopped"
        if ended_meanwhile:
            raise StateError("it has ended")

    monkeypatch.setattr(start, "list_runs", lambda hub: status)
    monkeypatch.setattr(start, "stop_run", stop)
    monkeypatch.setattr(start, "start_run", lambda hub, config: "8")
    again = start_study(hub, run.path / "study.toml", resume=True)
    assert (again.path, again.flower_runs(), stopped) == (run.path, ["7", "8"], ["7"])


def test_a_run_that_is_coordinated_is_not_stopped_to_go_on(
    hub: HubFolder, run: HubRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add_flower_run("7")
    monkeypatch.setattr(start, "_END_S", 0.0)
    monkeypatch.setattr(start, "list_runs", lambda hub: {"7": "running"})
    with (
        held_alone(run.path / "server" / "lock", "held"),
        pytest.raises(StateError, match="still at work"),
    ):
        start_study(hub, run.path / "study.toml", resume=True)
