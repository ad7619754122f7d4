"""Answers to the next model: the pooled mean by hand, its noise, its bound; the recipe sees it."""

import math

import numpy as np
import pytest

from willis.server import protocols
from willis.server.admission import UnsoundUpdate
from willis.server.checkpoint import Checkpoint
from willis.server.protocols import Local, Pooled, longest_sum, pooled_mean, protocol_of, sum_noise
from willis.shared.accounting import MechanismRun, epsilon

ONE_DRAW = {"protocol": "pooled", "rounds": 1, "critic_steps": 1}
SITES = {"sites": [{"name": "site-a", "subjects": 6}, {"name": "site-b", "subjects": 14}]}


@pytest.fixture
def study(tiny_study):
    return tiny_study(training=ONE_DRAW, federation=SITES, privacy={"sampling_rate": 0.5, "clip_norm": 2.0})


class Recorder:
    """A recipe that keeps what it is told."""

    length = 3

    def order(self, state, *, number):
        return {"asked": np.full(1, number, np.float32)}

    def question(self, order, *, number):
        assert order["asked"] == [number]
        return self

    def learn(self, state, answer, *, number):
        return {"mean": state["mean"] + answer.mean, "round": np.full(1, number, np.float32)}

    def released(self, state):
        return {"mean": state["mean"]}


def state(number=0):
    model = {"mean": np.ones(3, np.float32)}
    return Checkpoint(study_digest="0" * 64, run="r", round=number, model=model, released=model)


def test_the_mean_by_hand(study):
    sums = {"site-a": np.array([1, 2], np.float32), "site-b": np.array([9, -2], np.float32)}
    mean = pooled_mean(study, sums)
    assert mean.units == 10  # half of 6 + 14
    assert mean.mean.tolist() == [1.0, 0.0]
    assert mean.std == pytest.approx(sum_noise(study) * math.sqrt(2) / 10)


def test_a_site_that_is_silent_is_not_counted(study):
    mean = pooled_mean(study, {"site-b": np.array([7.0], np.float32)})
    assert (mean.units, mean.mean.tolist()) == (7, [1.0])
    assert mean.std == pytest.approx(sum_noise(study) / 7)


def test_the_order_of_sites_changes_no_bit(study):
    dice = np.random.default_rng(1)
    sums = {name: dice.normal(size=50).astype(np.float32) for name in ("site-a", "site-b")}
    backwards = dict(reversed(sums.items()))
    assert np.array_equal(pooled_mean(study, sums).mean, pooled_mean(study, backwards).mean)


def test_the_noise_of_a_sum_pays_for_all_rounds(tiny_study):
    study = tiny_study(training=ONE_DRAW | {"rounds": 5}, privacy={"sampling_rate": 0.5, "clip_norm": 2.0})
    run = MechanismRun(sampling_rate=0.5, noise_multiplier=sum_noise(study) / 2, steps=5)
    spent = epsilon([run], delta=study.privacy.delta)
    assert spent == pytest.approx(study.privacy.epsilon, rel=2e-3)
    assert spent <= study.privacy.epsilon


def test_the_recipe_learns_and_says_what_is_released(study, monkeypatch):
    monkeypatch.setattr(protocols, "recipe_of", lambda _: Recorder())
    pooled = Pooled(study)
    assert pooled.order(state(4)) == {"asked": np.array([5.0])}
    answers = {name: {"sum": np.full(3, 5, np.float32)} for name in ("site-a", "site-b")}
    model, released = pooled.advance(state(4), answers)
    assert model["mean"].tolist() == [2, 2, 2]  # 1 + (5 + 5) / 10
    assert model["round"] == [5]
    assert list(released) == ["mean"]


def test_a_sum_that_no_honest_site_sends_is_refused(study, monkeypatch):
    monkeypatch.setattr(protocols, "recipe_of", lambda _: Recorder())
    pooled = Pooled(study)
    order = pooled.order(state())
    bound = longest_sum(study, "site-a", 3)
    assert bound == pytest.approx(2 * 6 * 2.0 + sum_noise(study) * (math.sqrt(3) + 10))
    longest = np.array([bound, 0, 0], np.float32)
    pooled.check({"sum": longest}, order=order, site="site-a")
    with pytest.raises(UnsoundUpdate, match="norm"):
        pooled.check({"sum": 1.001 * longest}, order=order, site="site-a")
    with pytest.raises(UnsoundUpdate, match="shape"):
        pooled.check({"sum": longest[:2]}, order=order, site="site-a")


def test_the_study_chooses(tiny_study, study):
    assert isinstance(protocol_of(tiny_study()), Local)
    assert isinstance(protocol_of(study), Pooled)
