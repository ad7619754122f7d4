"""The six planted faults of a private training step, each caught on the very step that training uses.

Power: with 400 steps and sigma 1 the lower bound on mu = 1 is about 0.6, so a fault that leaves mu below
1.5 may pass the bound on epsilon; all faults planted here have mu >= 2, or are seen by the noise's variance
(102,000 degrees of freedom: 1 % off is 6 standard deviations). Keys are fixed.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from willis.client import critic_step, private_sum
from willis.client.randomness import SecretRandom
from willis.shared.accounting import MechanismRun, epsilon

_spec = importlib.util.spec_from_file_location(
    "mechanism_audit", Path(__file__).with_name("mechanism_audit.py")
)
assert _spec is not None
assert _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

SIGMA, STEPS, DELTA = 1.0, 400, 1e-5
KEYS = (bytes([1]) * 32, bytes([2]) * 32)


@pytest.fixture
def study(tiny_study):
    return tiny_study(
        patch={"size": [8, 16], "per_subject": 4},
        networks={"depth": 1},
        privacy={"sampling_rate": 1.0},
        training={"patches_per_bag": 4},
    )


def look(study, steps=STEPS):
    return tuple(
        audit.watch(study, canary=canary, sigma=SIGMA, steps=steps, key=key)
        for canary, key in zip((True, False), KEYS, strict=True)
    )


def claimed(steps: int = 1) -> float:
    return epsilon([MechanismRun(sampling_rate=1.0, noise_multiplier=SIGMA, steps=steps)], delta=DELTA)


def at_least(study, *, per_release: int = 1) -> float:
    """The bound when an attacker averages ``per_release`` steps that were paid for as one."""
    seen = look(study, STEPS * per_release)
    means = [sight.along.reshape(STEPS, per_release).mean(1) for sight in seen]
    return audit.epsilon_at_least(*means, delta=DELTA)


def test_honest_step_passes_every_test(study):
    with_canary, without = look(study)
    bound = audit.epsilon_at_least(with_canary.along, without.along, delta=DELTA)
    assert 0 < bound <= claimed()  # it sees something, and no more than was paid for
    assert with_canary.along.mean() == pytest.approx(1.0, abs=0.2)
    assert not audit.noise_ratio_is_odd(without, SIGMA)
    assert not audit.noise_repeats(without, SIGMA)


def test_honest_step_with_fakes_left_uncentred(study):
    plain = study.model_copy(update={"privacy": study.privacy.model_copy(update={"fake_centred": False})})
    seen = look(plain)
    assert audit.epsilon_at_least(*(sight.along for sight in seen), delta=DELTA) <= claimed()


def test_noise_divided_by_the_batch_size_is_caught(study, monkeypatch):
    honest = private_sum.private_sum

    def faulty(vectors: Iterable, *, noise_multiplier: float, **rest):
        held = list(vectors)
        return honest(held, noise_multiplier=noise_multiplier / max(1, len(held)), **rest)

    monkeypatch.setattr(critic_step, "private_sum", faulty)
    assert at_least(study) > claimed()
    assert audit.noise_ratio_is_odd(look(study)[1], SIGMA)


def test_skipped_clipping_is_caught(study, monkeypatch):
    monkeypatch.setattr(private_sum, "clip_scale", lambda vector, clip_norm: torch.tensor(1.0))
    assert at_least(study) > claimed()


def test_reused_noise_is_caught(study, monkeypatch):
    first = SecretRandom.normal

    def faulty(self, shapes):
        return first(SecretRandom(bytes(32)), shapes)

    monkeypatch.setattr(SecretRandom, "normal", faulty)
    assert at_least(study) > claimed()
    assert audit.noise_repeats(look(study)[1], SIGMA)


def test_one_draw_reused_five_times_and_accounted_once_is_caught(study, monkeypatch):
    honest, calls, kept = critic_step.draw_units, [], []

    def faulty(n_units, sampling_rate, chance):
        if len(calls) % 5 == 0:
            kept[:] = [honest(n_units, sampling_rate, chance)]
        calls.append(1)
        return kept[0]

    half = study.model_copy(update={"privacy": study.privacy.model_copy(update={"sampling_rate": 0.5})})
    fresh = audit.watch(half, canary=True, sigma=0.01, steps=400, key=KEYS[0]).along > 0.5
    monkeypatch.setattr(critic_step, "draw_units", faulty)
    reused = audit.watch(half, canary=True, sigma=0.01, steps=400, key=KEYS[0]).along > 0.5
    # A fresh draw repeats the last one's answer half of the time: 200 of 399, standard deviation 10.
    assert abs(int(np.sum(fresh[1:] == fresh[:-1])) - 199.5) < 50
    assert int(np.sum(reused[1:] == reused[:-1])) - 199.5 > 50
    # Paid for as one release, five of them together show more than was paid.
    assert at_least(study, per_release=5) > claimed(1)
    monkeypatch.undo()
    assert at_least(study, per_release=5) <= claimed(5)


def test_patch_clipping_passed_off_as_subject_clipping_is_caught(study, monkeypatch):
    honest = critic_step.bag_gradients

    def faulty(critic, bags):
        return honest(critic, (patch[None] for bag in bags for patch in bag))

    monkeypatch.setattr(critic_step, "bag_gradients", faulty)
    assert at_least(study) > claimed()


def test_noise_at_four_fifths_of_its_claim_is_caught(study, monkeypatch):
    honest = private_sum.private_sum

    def faulty(vectors, *, noise_multiplier, **rest):
        return honest(vectors, noise_multiplier=0.8 * noise_multiplier, **rest)

    monkeypatch.setattr(critic_step, "private_sum", faulty)
    assert audit.noise_ratio_is_odd(look(study)[1], SIGMA)


def test_noise_of_two_sites_is_uncorrelated(study):
    one, other = look(study)
    # The mean product of 102,000 pairs of independent unit normals is 0 with standard deviation 0.0031.
    assert abs(float(np.mean(one.across * other.across))) < 0.02


def test_the_lower_bound_by_hand():
    # mu = 1 at delta 1e-5 costs epsilon 4.377 (Balle and Wang 2018); 10,000 draws of it certify less.
    assert audit.gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.377, abs=0.01)
    dice = np.random.default_rng(0)
    bound = audit.epsilon_at_least(dice.normal(1, 1, 10_000), dice.normal(0, 1, 10_000), delta=1e-5)
    assert 3.3 < bound < 4.377
