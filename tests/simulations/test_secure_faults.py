"""Secure aggregation where something breaks: a ledger lost, a wrong box, a coordinator killed."""

import json
import stat

import pytest
import torch
from harness.secure_hospitals import MeanItself, order_of, put_in_place, run_study, secure_changes

from willis.client import secure_round
from willis.client.secure_round import answer_step
from willis.client.site import read_site
from willis.client.training import open_ledger
from willis.shared.errors import StateError, StudyError, UpdateRefused
from willis.shared.secure_sum.messages import CardList, Inbox, KeyCard, SealedShares
from willis.shared.secure_sum.request import CARD, MASKED, SHARES, StepRequest
from willis.simulations.hospitals import prepare, survey
from willis.simulations.progress import Show

NAMES = ("site-a", "site-b", "site-c")
SECURE = secure_changes(NAMES, rounds=2)


class Killed(BaseException):
    """As sudden as a power cut, for whoever catches Exception."""


class Ones(MeanItself):
    """Asks for 1."""

    length = 1

    def vector(self, patches):
        return torch.ones(1)


@pytest.fixture
def recipe(monkeypatch):
    known = Ones()
    put_in_place(known, monkeypatch)
    return known


@pytest.fixture
def hospitals(tiny_study, tmp_path, recipe):
    study, run = tiny_study(**SECURE), tmp_path / "run"
    prepare(study, run, survey(study, cohort=None, virtual=3), show=Show(quiet=True))
    return study, run


def settings_of(run, name):
    return read_site(run / "sites" / name / "site.toml")


def payments(study, run, name) -> int:
    with open_ledger(settings_of(run, name), study) as ledger:
        return len(ledger.rows())


class Wire:
    """The sites, and the orders to them, without a grid."""

    def __init__(self, study, run):
        self.run = run
        self.order = order_of(study)

    def ask(self, name, step, payload=b"", *, attempt=1):
        request = StepRequest(run="run-1", round=1, attempt=attempt, step=step)
        return answer_step(request, payload, self.order, settings_of(self.run, name))

    def inbox_of(self, name, *, attempt=1) -> Inbox:
        """Go as far as the boxes."""
        cards = [KeyCard.from_bytes(self.ask(each, CARD, attempt=attempt).payload) for each in NAMES]
        listed = CardList(context=cards[0].context, cards=tuple(cards)).to_bytes()
        sealed = {
            each: SealedShares.from_bytes(self.ask(each, SHARES, listed, attempt=attempt).payload)
            for each in NAMES
        }
        boxes = {sender: shares.boxes[name] for sender, shares in sealed.items() if sender != name}
        return Inbox(context=cards[0].context, site=name, boxes=boxes)


def test_a_coordinator_killed_while_it_learns_asks_nobody_to_pay_again(hospitals, recipe, monkeypatch):
    study, run = hospitals

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(recipe, "learn", killed)
        with pytest.raises(Killed):
            run_study(study, run, Ones)
    assert [payments(study, run, name) for name in NAMES] == [1, 1, 1]
    opened = json.loads((run / "server" / "sum.json").read_bytes())
    state = run_study(study, run, Ones, resume=True)
    assert state.round == 2
    assert [payments(study, run, name) for name in NAMES] == [2, 2, 2]
    assert state.history[0].answered == tuple(opened["survivors"]) == NAMES
    again = json.loads((run / "server" / "sum.json").read_bytes())
    assert again["order"] != opened["order"], "the second round was asked"


@pytest.mark.parametrize("name", ["sum.json", "attempts.json", "peers.json"])
def test_a_damaged_file_of_the_coordinator_is_told(hospitals, name):
    study, run = hospitals
    (run / "server" / name).write_text("[]")
    with pytest.raises(StateError, match=name):
        run_study(study, run, Ones)
    assert [payments(study, run, each) for each in NAMES] == [0, 0, 0]


def test_a_ledger_that_was_lost_does_not_pay_on(hospitals):
    study, run = hospitals
    wire = Wire(study, run)
    wire.ask("site-a", MASKED, wire.inbox_of("site-a").to_bytes())
    for path in (run / "sites" / "site-a").glob("ledger.sqlite*"):
        path.unlink()
    inbox = wire.inbox_of("site-a", attempt=2).to_bytes()
    with pytest.raises(StateError, match="lost rows"):
        wire.ask("site-a", MASKED, inbox, attempt=2)


def test_a_box_that_does_not_open_costs_nothing(hospitals):
    """Else one site could empty every ledger."""
    study, run = hospitals
    wire = Wire(study, run)
    inbox = wire.inbox_of("site-a")
    spoilt = inbox.model_copy(update={"boxes": inbox.boxes | {"site-b": bytes(len(inbox.boxes["site-b"]))}})
    with pytest.raises(UpdateRefused, match="does not open"):
        wire.ask("site-a", MASKED, spoilt.to_bytes())
    assert payments(study, run, "site-a") == 0


def test_a_site_with_more_subjects_than_agreed_answers_all_the_same(tiny_study, tmp_path, recipe):
    """Whether it refused, after it paid, would tell how many it has."""
    study = tiny_study(**SECURE)
    few = study.model_copy(
        update={
            "federation": study.federation.model_copy(
                update={
                    "sites": tuple(
                        site.model_copy(update={"subjects": 1}) for site in study.federation.sites
                    ),
                }
            )
        }
    )
    run = tmp_path / "run"
    prepare(study, run, survey(study, cohort=None, virtual=3), show=Show(quiet=True))
    settings = settings_of(run, "site-a").model_copy(update={"studies": None})
    assert secure_round.accept(Wire(few, run).order, settings)[1].n_subjects == 3
    for name in NAMES:
        law = run / "sites" / name / "site.toml"
        law.write_text(law.read_text().replace(study.digest(), few.digest()))
    wire = Wire(few, run)
    answer = wire.ask("site-a", MASKED, wire.inbox_of("site-a").to_bytes())
    assert answer.paid is not None
    assert payments(few, run, "site-a") == 1


def test_a_question_that_fails_on_everybody_is_refused_before_it_is_paid(hospitals, recipe, monkeypatch):
    study, run = hospitals
    monkeypatch.setattr(recipe, "vector", lambda patches: torch.ones(2))
    with pytest.raises(StudyError, match="cannot ask its question"):
        Wire(study, run).ask("site-a", CARD)
    assert payments(study, run, "site-a") == 0


def test_secrets_are_their_owners_alone(hospitals):
    study, run = hospitals
    Wire(study, run).ask("site-a", CARD)
    home = run / "sites" / "site-a"
    secrets = [home / "node.pem", *(home / "runs" / "run-1").glob("secure-*.json")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600, 0o600]
