"""Secure aggregation through both Flower apps: the sum, sites killed at every step, replays, what is told."""

import json
import shutil

import numpy as np
import pytest
import torch
from harness.secure_hospitals import MeanItself, order_of, put_in_place, run_study, secure_changes

from willis.client import app as client_door
from willis.client import secure_round
from willis.client.ledger import Ledger
from willis.client.secure_round import answer_step
from willis.client.site import read_site
from willis.client.training import open_ledger
from willis.server import protocols
from willis.shared.errors import QuorumMissed, SiteRefused, StateError, StudyError
from willis.shared.secure_sum.request import CARD, MASKED, StepRequest
from willis.simulations.hospitals import prepare, survey
from willis.simulations.progress import Show

NAMES = ("site-a", "site-b", "site-c", "site-d")
SECURE = secure_changes(NAMES, rounds=1)


class Means(MeanItself):
    """Asks for the mean of each channel and for 1."""

    length = 3

    def vector(self, patches):
        return torch.cat([patches.mean((0, 2, 3)), torch.ones(1)])


@pytest.fixture
def _means(monkeypatch):
    put_in_place(Means(), monkeypatch)


@pytest.fixture(scope="module")
def prepared(tiny_study, tmp_path_factory):
    study = tiny_study(**SECURE)
    run = tmp_path_factory.mktemp("secure") / "run"
    prepare(study, run, survey(study, cohort=None, virtual=4), show=Show(quiet=True))
    return study, run


@pytest.fixture
def hospitals(prepared, tmp_path, _means):
    study, run = prepared
    shutil.copytree(run, tmp_path / "run")
    return study, tmp_path / "run"


def dying(monkeypatch, *, at: int, who: tuple[str, ...]) -> None:
    """Let sites die in a step, before they answer."""

    def step(request, payload, order, settings):
        if settings.name in who and request.step >= at:
            raise RuntimeError("killed")
        return answer_step(request, payload, order, settings)

    monkeypatch.setattr(client_door.secure_round, "answer_step", step)


def ledger_of(study, run, name) -> Ledger:
    return open_ledger(read_site(run / "sites" / name / "site.toml"), study)


def record(run) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def naive(study, run, names) -> np.ndarray:
    """The mean over these sites' subjects, read from their patches."""
    total, count = np.zeros(3), 0
    for name in names:
        [path] = (run / "sites" / name / "patches").glob("patches-*.npy")
        patches = np.load(path).astype(np.float64)
        for subject in patches.reshape(-1, study.patch.per_subject, *patches.shape[1:]):
            total += [*subject.mean((0, 2, 3)), 1.0]
            count += 1
    return total / (3 * len(names))


def without_noise(monkeypatch) -> None:
    monkeypatch.setattr(secure_round, "discrete_gaussian", lambda n, scale: np.zeros(n, np.int64))


def test_the_sum_is_that_of_all_sites(hospitals, monkeypatch):
    without_noise(monkeypatch)
    study, run = hospitals
    model = run_study(study, run, Means).model
    assert model["mean"] == pytest.approx(naive(study, run, NAMES), rel=1e-4, abs=1e-5)
    assert record(run)["answered"] == list(NAMES)


@pytest.mark.parametrize(
    ("step", "counted"), [(0, NAMES[:3]), (1, NAMES[:3]), (2, NAMES[:3]), (3, NAMES), (4, NAMES)]
)
def test_a_site_killed_at_any_step(hospitals, monkeypatch, step, counted):
    without_noise(monkeypatch)
    dying(monkeypatch, at=step, who=("site-d",))
    study, run = hospitals
    model = run_study(study, run, Means).model
    assert model["mean"] == pytest.approx(naive(study, run, counted), rel=1e-4, abs=1e-5)
    assert record(run)["answered"] == list(counted)


def test_the_noise_is_that_of_the_sites_that_stayed(hospitals):
    study, run = hospitals
    state = run_study(study, run, Means)
    told, wanted = float(state.model["std"][0]), naive(study, run, NAMES)
    # three sites less one colluder make up the noise; four stayed, so it is sqrt(2) of the accountant's
    assert told == pytest.approx(np.sqrt(2) * protocols.sum_noise(study) / 12, rel=1e-4)
    away = (state.model["mean"] - wanted) / told
    assert np.abs(away).max() < 6  # 3 coordinates: once in 10 ** 8
    assert np.abs(away).max() > 1e-3  # and there is noise: once in 10 ** 9


def test_below_quorum_nothing_is_opened_and_it_can_be_tried_anew(hospitals, monkeypatch):
    study, run = hospitals
    with monkeypatch.context() as meanwhile:
        dying(meanwhile, at=1, who=("site-c", "site-d"))
        with pytest.raises(QuorumMissed, match="site-c"):
            run_study(study, run, Means)
    assert all(ledger_of(study, run, name).rows() == [] for name in NAMES), "nobody paid"
    assert run_study(study, run, Means, resume=True).round == 1
    assert all(len(ledger_of(study, run, name).rows()) == 1 for name in NAMES)


def test_what_was_masked_is_paid_even_where_it_is_not_opened(hospitals, monkeypatch):
    study, run = hospitals
    dying(monkeypatch, at=3, who=("site-c", "site-d"))
    with pytest.raises(QuorumMissed):
        run_study(study, run, Means)
    assert all(len(ledger_of(study, run, name).rows()) == 1 for name in NAMES)
    assert sorted(record(run)["spent"]) == list(NAMES)


def test_every_figure_says_what_it_assumes(hospitals):
    study, run = hospitals
    run_study(study, run, Means)
    spent = ledger_of(study, run, "site-a").spent()
    assert "ASSUMING secure aggregation: of the 3 or more sites" in spent.sentence()
    assert spent.epsilon == pytest.approx(study.privacy.epsilon, rel=2e-3)
    assert spent.epsilon <= study.privacy.epsilon
    assert record(run)["spent"]["site-a"]["assumes"] == spent.assumes


class Single:
    """One site and the orders to it, without a grid."""

    def __init__(self, study, run):
        self.settings = read_site(run / "sites" / "site-a" / "site.toml")
        self.order = order_of(study)

    def ask(self, step, payload=b"", *, attempt=1, order=None):
        request = StepRequest(run="run-1", round=1, attempt=attempt, step=step)
        return answer_step(request, payload, order or self.order, self.settings)


def test_a_card_is_given_once_an_attempt(hospitals):
    single = Single(*hospitals)
    assert single.ask(CARD).payload == single.ask(CARD).payload
    assert single.ask(CARD).payload != single.ask(CARD, attempt=2).payload


def test_steps_out_of_turn_are_refused(hospitals):
    single = Single(*hospitals)
    with pytest.raises(SiteRefused, match="has not begun"):
        single.ask(1)
    request = StepRequest(run="run-2", round=1, attempt=1, step=CARD)
    with pytest.raises(StudyError, match="needs the order"):
        answer_step(request, b"", single.order, single.settings)


def test_a_site_that_keeps_its_noise_whole_refuses(hospitals):
    single = Single(*hospitals)
    single.settings = single.settings.model_copy(update={"shared_noise": False})
    with pytest.raises(SiteRefused, match="shared_noise"):
        single.ask(CARD)


def test_another_order_is_not_summed(hospitals):
    study, run = hospitals
    single = Single(study, run)
    single.ask(CARD)
    other = order_of(study, number=0)
    inbox = b'{"context": "' + b"0" * 64 + b'", "site": "site-a", "boxes": {}}'
    with pytest.raises(StudyError, match="not the one"):
        single.ask(MASKED, inbox, order=other)
    assert ledger_of(study, run, "site-a").rows() == []


def test_a_damaged_state_is_told(hospitals):
    study, run = hospitals
    single = Single(study, run)
    single.ask(CARD)
    [path] = (run / "sites" / "site-a" / "runs" / "run-1").glob("secure-*.json")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StateError, match="damaged"):
        single.ask(1)


def test_the_coordinator_needs_every_peers_key(hospitals):
    study, run = hospitals
    peers = json.loads((run / "server" / "peers.json").read_text())
    (run / "server" / "peers.json").write_text(json.dumps({name: peers[name] for name in NAMES[1:]}))
    with pytest.raises(StateError, match=r"lacks the public key of site-a"):
        run_study(study, run, Means)


def test_a_site_asks_for_colluders_to_be_counted(hospitals):
    single = Single(*hospitals)
    single.settings = single.settings.model_copy(update={"least_colluders": 2})
    with pytest.raises(SiteRefused, match="colluders is 1, the site asks for 2"):
        single.ask(CARD)
