"""One round at one site: paid once, answered twice with the same bytes, redone after any crash."""

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from willis.client import ledger as ledger_module
from willis.client import training
from willis.client.adversaries import Adversaries
from willis.client.cohort import read_cohort
from willis.client.ledger import Ledger
from willis.client.site import SiteSettings
from willis.client.site_state import SiteMemory
from willis.client.store import build_store
from willis.client.training import open_ledger, train_round
from willis.shared import whole_file
from willis.shared.errors import BudgetExhausted, SiteRefused, StateError
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.study import Study
from willis.shared.update import RoundOrder, SiteAnswer, digest, norm


class Crash(BaseException):
    """As sudden as a power cut, for whoever catches Exception."""


class CountedKeys:
    """The module ``os`` for the ledger, but its n-th key is the SHA-256 of n: no key comes twice."""

    def __init__(self) -> None:
        self.n = 0

    def urandom(self, size: int) -> bytes:
        self.n += 1
        return hashlib.sha256(str(self.n).encode()).digest()[:size]

    def __getattr__(self, name: str):
        return getattr(os, name)


@pytest.fixture
def site(tmp_path, phantom_cohort, monkeypatch):
    """Make a site of six subjects; every site starts from the same first key."""
    table = phantom_cohort(subjects=6, sites=("site-a",), side=20)

    def make(study: Study, folder: str = "a", **law) -> SiteSettings:
        monkeypatch.setattr(ledger_module, "os", CountedKeys())
        state = tmp_path / folder
        build_store(read_cohort(table), study.patch, state / "patches", seed=study.seed)
        known = {"epsilon_cap": study.privacy.epsilon, "delta": study.privacy.delta, "threads": 1}
        return SiteSettings(name="site-a", cohort=table, state=state, **(known | law))

    return make


def an_order(study: Study, number: int = 1, *, run: str = "run-1", shift: float = 0.0) -> RoundOrder:
    arrays = arrays_of(initial_generator(study))
    return RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run=run,
        round=number,
        arrays={name: value + np.float32(shift) for name, value in arrays.items()},
    )


def rows(settings: SiteSettings, study: Study):
    with open_ledger(settings, study) as ledger:
        return ledger.rows()


def same(one: SiteAnswer, other: SiteAnswer) -> bool:
    return digest(one.arrays) == digest(other.arrays) and one.order_digest == other.order_digest


def once(fault: BaseException, honest):
    """Raise at the first call, then be honest."""
    left = [fault]

    def wrapped(*args, **kwargs):
        if left:
            raise left.pop()
        return honest(*args, **kwargs)

    return wrapped


def test_an_order_answered_twice_has_the_same_bytes_and_is_charged_once(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    first, again = (train_round(an_order(study), settings) for _ in range(2))
    assert same(first, again)
    assert first.header() == again.header()
    assert norm(first.arrays) > 0
    (row,) = rows(settings, study)
    assert row.settled
    assert row.run.steps == study.training.critic_steps


def test_a_crash_after_paying_is_redone_for_nothing_and_ends_as_if_undisturbed(site, tiny_study, monkeypatch):
    study = tiny_study()
    undisturbed = train_round(an_order(study), site(study, "b"))
    settings = site(study)
    monkeypatch.setattr(Adversaries, "train", once(Crash(), Adversaries.train))
    with pytest.raises(Crash):
        train_round(an_order(study), settings)
    (row,) = rows(settings, study)
    assert not row.settled, "paid for before anything was drawn"
    redone = train_round(an_order(study), settings)
    assert same(redone, undisturbed)
    assert redone.spent == undisturbed.spent
    (row,) = rows(settings, study)
    assert row.settled


def test_a_crash_half_way_through_the_steps_is_redone_with_the_same_draws(site, tiny_study, monkeypatch):
    study = tiny_study()
    undisturbed = train_round(an_order(study), site(study, "b"))
    settings, calls = site(study), []
    honest = Adversaries._step_generator

    def breaks(self, plan, dice):
        calls.append(1)
        if len(calls) == 2:
            raise Crash
        honest(self, plan, dice)

    monkeypatch.setattr(Adversaries, "_step_generator", breaks)
    with pytest.raises(Crash):
        train_round(an_order(study), settings)
    assert same(train_round(an_order(study), settings), undisturbed)
    assert len(rows(settings, study)) == 1


def test_a_crash_between_keeping_and_settling_answers_from_memory(site, tiny_study, monkeypatch):
    study = tiny_study()
    undisturbed = train_round(an_order(study), site(study, "b"))
    settings = site(study)
    monkeypatch.setattr(Ledger, "settle", once(Crash(), Ledger.settle))
    with pytest.raises(Crash):
        train_round(an_order(study), settings)
    assert not rows(settings, study)[0].settled
    monkeypatch.setattr(Adversaries, "train", once(AssertionError("trained twice"), Adversaries.train))
    assert same(train_round(an_order(study), settings), undisturbed)
    (row,) = rows(settings, study)
    assert row.settled


def test_other_patches_between_crash_and_redo_are_charged_anew_under_another_key(
    site, tiny_study, monkeypatch
):
    study = tiny_study()
    settings = site(study)
    monkeypatch.setattr(Adversaries, "train", once(Crash(), Adversaries.train))
    with pytest.raises(Crash):
        train_round(an_order(study), settings)
    build_store(read_cohort(settings.cohort), study.patch, settings.store, seed=99)
    keys = []
    honest = training.SecretRandom
    monkeypatch.setattr(training, "SecretRandom", lambda key: keys.append(key) or honest(key))
    train_round(an_order(study), settings)
    stood, new = rows(settings, study)
    assert (stood.settled, new.settled) == (False, True)
    assert stood.purpose == new.purpose
    assert stood.inputs != new.inputs
    assert keys == [hashlib.sha256(b"2").digest()], "not the first row's key"


def test_other_weights_for_the_same_round_are_another_release_and_charged(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    one = train_round(an_order(study), settings)
    other = train_round(an_order(study, shift=0.01), settings)
    assert not same(one, other)
    assert len(rows(settings, study)) == 2


def test_one_order_asked_for_by_two_at_once_is_charged_once(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(train_round, an_order(study), settings) for _ in range(2)]
        assert same(*(answer.result() for answer in asked))
    assert len(rows(settings, study)) == 1


def test_a_whole_study_spends_nearly_its_budget_and_never_more(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    spent = [
        train_round(an_order(study, number), settings).spent.epsilon
        for number in range(1, study.training.rounds + 1)
    ]
    assert spent == sorted(spent)
    assert 0.99 * study.privacy.epsilon < spent[-1] <= study.privacy.epsilon * (1 + 1e-6)
    with pytest.raises(BudgetExhausted, match=r"this run costs .* the cap is 8"):
        train_round(an_order(study, run="run-2"), settings)
    assert len(rows(settings, study)) == study.training.rounds, "a refused round leaves no row"


def test_rounds_beyond_the_studys_are_refused_though_the_site_could_pay(site, tiny_study):
    """A coordinator may not spend a site's larger cap on one study."""
    study = tiny_study(training={"rounds": 1})
    settings = site(study, epsilon_cap=100.0)
    train_round(an_order(study), settings)
    with pytest.raises(SiteRefused, match="round 2 was asked for, the study has 1"):
        train_round(an_order(study, 2), settings)
    assert len(rows(settings, study)) == 1


def test_an_answer_is_bounded_by_the_study(site, tiny_study):
    study = tiny_study(federation={"update_norm": 1e-3})
    assert norm(train_round(an_order(study), site(study)).arrays) == pytest.approx(1e-3, rel=1e-4)


def test_the_unit_patch_is_answered_with_the_patients_figure(site, tiny_study):
    study = tiny_study(privacy={"unit": "patch"}, training={"rounds": 1})
    spent = train_round(an_order(study), site(study, unit="patch")).spent
    assert spent.patient_epsilon is not None
    assert spent.patient_epsilon > spent.epsilon
    assert "NOT a patient's privacy: per patient epsilon" in spent.sentence()


def test_a_site_goes_on_from_its_last_critic_even_after_a_round_it_missed(site, tiny_study, monkeypatch):
    study = tiny_study(training={"rounds": 4})
    settings, met = site(study), []
    honest = Adversaries.assemble.__func__

    def watching(cls, study, arrays, past):
        met.append(None if past is None else past["critic"]["score.bias"].clone())
        return honest(cls, study, arrays, past)

    monkeypatch.setattr(Adversaries, "assemble", classmethod(watching))
    for number in (1, 3):
        train_round(an_order(study, number), settings)
    left = SiteMemory(settings.state / "runs" / "run-1").at(1)
    assert left is not None
    assert met[0] is None
    assert torch.equal(met[1], left.networks["critic"]["score.bias"])


def test_a_round_whose_state_could_not_be_kept_is_redone_for_nothing(site, tiny_study, monkeypatch):
    study = tiny_study()
    control = site(study, "b")
    wanted = [train_round(an_order(study, number), control) for number in (1, 2)]
    settings = site(study)
    train_round(an_order(study), settings)

    class NoRoom:
        fsync = staticmethod(once(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.fsync))

        def __getattr__(self, name):
            return getattr(os, name)

    monkeypatch.setattr(whole_file, "os", NoRoom())
    with pytest.raises(StateError, match="No space left on device; free some disk"):
        train_round(an_order(study, 2), settings)
    assert [row.settled for row in rows(settings, study)] == [True, False]
    assert same(train_round(an_order(study), settings), wanted[0]), "the round before stands"
    assert same(train_round(an_order(study, 2), settings), wanted[1])
    assert [row.settled for row in rows(settings, study)] == [True, True]


def test_a_damaged_state_is_told_and_not_trained_over(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    train_round(an_order(study), settings)
    (path,) = (settings.state / "runs" / "run-1").glob("round-*.pt")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StateError, match=r"is damaged .*; restore it from a backup"):
        train_round(an_order(study, 2), settings)
    assert len(rows(settings, study)) == 1
