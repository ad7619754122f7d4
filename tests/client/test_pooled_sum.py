"""A site's answer under protocol ``pooled``: the sum by hand, its clip, its unit, its noise."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from willis.client.chance import Chance
from willis.client.pooled_sum import pooled_sum, rehearse
from willis.client.randomness import SecretRandom
from willis.client.store import FORMAT, Index, PatchStore
from willis.shared.errors import StudyError

SUBJECTS = 6
EVERYBODY = {"sampling_rate": 1.0, "clip_norm": 1e3}


class Means:
    """Asks for the mean of each channel, and for 1."""

    length = 3

    def vector(self, patches):
        return torch.cat([patches.mean((0, 2, 3)), torch.ones(1)])


def a_store(study):
    patch = study.patch
    values = np.random.default_rng(0).uniform(
        -1, 1, (SUBJECTS * patch.per_subject, patch.n_channels, *patch.size)
    )
    index = Index(
        format=FORMAT,
        key="0" * 64,
        spec=patch,
        spec_digest="0" * 64,
        n_subjects=SUBJECTS,
        patches=f"patches-{'0' * 16}.npy",
    )
    return PatchStore(index, values.astype(np.float16)), values.astype(np.float16).astype(np.float64)


def ask(study, store, *, noise=0.0, key=1, question=None):
    dice = Chance.keyed(SecretRandom(bytes([key]) * 32))
    return pooled_sum(question or Means(), store=store, study=study, noise_multiplier=noise, chance=dice)


def test_the_sum_by_hand(tiny_study):
    study = tiny_study(privacy=EVERYBODY, training={"patches_per_bag": 4})  # a bag is all of a subject's
    store, values = a_store(study)
    wanted = [*(SUBJECTS * values.mean((0, 2, 3))), SUBJECTS]
    assert ask(study, store).numpy() == pytest.approx(wanted, rel=1e-5)


def test_a_subject_counts_by_at_most_the_clip(tiny_study):
    study = tiny_study(privacy=EVERYBODY | {"clip_norm": 0.5}, training={"patches_per_bag": 4})
    store, values = a_store(study)
    wanted = np.zeros(3)
    for subject in values.reshape(SUBJECTS, 4, *values.shape[1:]):
        own = np.array([*subject.mean((0, 2, 3)), 1.0])
        wanted += own * min(1, 0.5 / np.linalg.norm(own))
    assert ask(study, store).numpy() == pytest.approx(wanted, rel=1e-4)


def test_unit_patch_asks_of_every_patch(tiny_study):
    study = tiny_study(privacy=EVERYBODY | {"unit": "patch"})
    store, values = a_store(study)
    wanted = [*(len(values) * values.mean((0, 2, 3))), len(values)]
    assert ask(study, store).numpy() == pytest.approx(wanted, rel=1e-4)


def test_who_takes_part_is_drawn(tiny_study):
    study = tiny_study(privacy=EVERYBODY | {"sampling_rate": 0.5})
    store, _ = a_store(study)
    counts = [float(ask(study, store, key=key)[2]) for key in range(60)]
    # 360 subjects at 1/2: mean 180, deviation 9.5; 5 of them
    assert abs(sum(counts) - 180) < 48
    assert len(set(counts)) > 1


def test_noise_has_the_promised_size(tiny_study):
    study = tiny_study(privacy=EVERYBODY | {"clip_norm": 0.5})
    store, _ = a_store(study)

    class Nothing:
        length = 4000

        def vector(self, patches):
            return torch.zeros(4000)

    noise = ask(study, store, noise=3.0, question=Nothing()).double().numpy() / 1.5
    # two-sided at 1e-6; a deviation wrong by 6 % is caught with a chance above 0.6
    low, high = chi2.ppf([5e-7, 1 - 5e-7], 4000)
    assert low < float((noise**2).sum()) < high


def test_a_vector_that_is_not_finite_counts_as_nothing(tiny_study):
    study = tiny_study(privacy=EVERYBODY)
    store, _ = a_store(study)

    class Broken:
        length = 1

        def vector(self, patches):
            return torch.full((1,), math.nan)

    assert ask(study, store, question=Broken()).tolist() == [0.0]


class Moody:
    """Fails, or gives one number for all coordinates, where a patch is dark; else asks for 1."""

    length = 2

    def __init__(self, dark=None):
        self.dark = dark

    def vector(self, patches):
        if patches.mean() > -0.5:
            return torch.ones(2)
        if self.dark is None:
            raise RuntimeError("the matrix is singular")
        return self.dark


@pytest.mark.parametrize("dark", [None, torch.ones(1), torch.ones(2, 2), torch.ones(3)])
def test_a_unit_on_which_the_question_fails_counts_as_nothing_and_no_error_tells(tiny_study, dark):
    study = tiny_study(privacy=EVERYBODY, training={"patches_per_bag": 4})
    store, _ = a_store(study)
    values = np.array(store._patches)
    values[:4] = -1.0  # the first subject
    assert ask(study, PatchStore(store.index, values), question=Moody(dark)).tolist() == [5.0, 5.0]


def test_a_question_that_fails_on_everybody_is_refused_in_rehearsal(tiny_study):
    study = tiny_study()
    rehearse(Means(), study)
    for dark in (None, torch.ones(1)):
        question = Moody(dark)
        question.vector = lambda patches, ask=question.vector: ask(patches - 9)
        with pytest.raises(StudyError, match="recipe dp-wgan cannot ask its question"):
            rehearse(question, study)
