"""What the bench's own rows do: the private U-net, the non-private GAN, the noise-off end, the summaries."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from willis.client.cohort import read_cohort
from willis.client.store import build_store
from willis.shared.errors import StateError, StudyError
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.segmenter import UNet
from willis.shared.update import digest
from willis.simulations.benchmarks.use import non_private_gan, paid_rounds, without_noise
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.benchmarks.use.non_private_gan import critic_loss, train_non_private
from willis.simulations.benchmarks.use.paid_rounds import learn_openly, learn_privately, worst
from willis.simulations.benchmarks.use.private_unet import PrivateUnet
from willis.simulations.benchmarks.use.without_noise import (
    learn_nothing,
    learn_without_noise,
    mean_without_noise,
)

POOLED = {"protocol": "pooled", "rounds": 2, "critic_steps": 1}


@pytest.fixture
def study(tiny_study):
    return tiny_study(
        training=POOLED, privacy={"sampling_rate": 1.0, "clip_norm": 0.1}, patch={"flips": False}
    )


@pytest.fixture
def data(tmp_path, phantom_cohort, study) -> DataSet:
    cohort = read_cohort(phantom_cohort(subjects=6))
    for site in ("site-a", "site-b"):
        build_store(cohort.at(site), study.patch, tmp_path / "sites" / site / "patches", seed=1)
        (tmp_path / "sites" / site / "cohort.csv").write_text("subject,site,image,label\n")
    return DataSet("pictures", study, tmp_path, cohort)


def private_unet(study, *, learning_rate: float = 0.01, trained=(), first: nn.Module | None = None):
    return PrivateUnet(study, learning_rate=learning_rate, trained=trained, first=first)


def test_the_private_unets_question_is_the_gradient_of_its_loss(study, data):
    """Against finite differences along the gradient, which knows nothing of autograd."""
    recipe = private_unet(study)
    state = recipe.start()
    patches = data.store("site-a").bag(0, 4, np.random.default_rng(0))
    question = recipe.question(recipe.order(state, number=1), number=1)
    slope = question.vector(patches)
    assert (
        slope.shape
        == (question.length,)
        == (sum(p.numel() for p in UNet(study.patch, width=4).parameters()),)
    )

    def loss_at(weights: np.ndarray) -> float:
        network = recipe.segmenter({"weights": weights.astype(np.float32)}).network
        with torch.no_grad():
            logits = network(patches[:, :-1])
        truth = (patches[:, -1:] > 0).float()
        chance = torch.sigmoid(logits)
        overlap = 2 * (chance * truth).sum() / (chance.sum() + truth.sum())
        crossed = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        return float(1 - overlap + crossed)

    unit = (slope / slope.norm()).numpy()
    step = 1e-2
    along = (loss_at(state["weights"] + step * unit) - loss_at(state["weights"] - step * unit)) / (2 * step)
    assert along == pytest.approx(float(slope.norm()), rel=0.1)


def test_the_first_step_of_adam_by_hand(study):
    """Both moments are unbiased at step 1: the step is the learning rate times the gradient's sign."""
    recipe = private_unet(study)
    state = recipe.start()
    gradient = np.where(np.arange(len(state["weights"])) % 2, 0.5, -2.0).astype(np.float32)
    after = recipe.learn(state, PooledMean(gradient, 0.0, 12.0), number=1)
    np.testing.assert_allclose(after["weights"] - state["weights"], -0.01 * np.sign(gradient), rtol=1e-3)
    assert {value.dtype for value in after.values()} == {np.dtype(np.float32)}


def test_only_the_named_layers_are_trained_and_start_where_the_first_network_is(study):
    first = UNet(study.patch, width=study.use.unet_width)
    recipe = private_unet(study, trained=("layers.final_conv",), first=first)
    state = recipe.start()
    assert len(state["weights"]) == sum(p.numel() for p in first.layers.final_conv.parameters())
    moved = recipe.segmenter({"weights": state["weights"] + 1}).network.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(moved[name], value) != name.startswith("layers.final_conv"), name
    with pytest.raises(StudyError, match="no layer of the U-net begins with head; it has"):
        private_unet(study, trained=("head",))
    with pytest.raises(StudyError, match=r"shape \(3,\)"):
        recipe.question({"weights": np.zeros(3)}, number=1)


def test_private_rounds_are_paid_for_and_resume_without_paying_twice(study, data, tmp_path, monkeypatch):
    recipe, folder = private_unet(study), tmp_path / "cell"
    monkeypatch.setattr(paid_rounds, "write_whole", pull_after(1))
    with pytest.raises(KeyboardInterrupt):
        learn_privately(recipe, study, data, folder=folder)
    monkeypatch.undo()
    state, spent = learn_privately(recipe, study, data, folder=folder)
    assert set(spent) == {"site-a", "site-b"}
    assert 0.99 * 8 < worst(spent).epsilon <= 8 * (1 + 1e-6), "two rounds, each paid for once"
    again, unchanged = learn_privately(recipe, study, data, folder=folder)
    assert digest(again) == digest(state)
    assert unchanged == spent
    (folder / "state.npz").unlink()
    with pytest.raises(StateError, match="begin a new run"):
        learn_privately(recipe, study, data, folder=folder)


def pull_after(rounds: int):
    """Stop at the first state that is to be written after so many were."""
    write, done = paid_rounds.write_whole, []

    def pulled(path, content):
        done.append(path)
        if len(done) > rounds:
            raise KeyboardInterrupt
        write(path, content)

    return pulled


def test_a_round_stopped_before_its_state_is_kept_repeats_the_same_noise(study, data, tmp_path, monkeypatch):
    sums, honest = [], paid_rounds.pooled_sum

    def seen(*args, **rest):
        sums.append(honest(*args, **rest))
        return sums[-1]

    monkeypatch.setattr(paid_rounds, "pooled_sum", seen)
    with monkeypatch.context() as patch:
        patch.setattr(paid_rounds, "write_whole", pull_after(0))
        with pytest.raises(KeyboardInterrupt):
            learn_privately(private_unet(study), study, data, folder=tmp_path / "cell")
    learn_privately(private_unet(study), study, data, folder=tmp_path / "cell")
    assert len(sums) == 2 + 4
    assert torch.equal(sums[0], sums[2])
    assert torch.equal(sums[1], sums[3])
    assert not torch.equal(sums[0], sums[4])


def test_with_the_noise_off_the_mean_is_that_of_the_clipped_vectors(study, data):
    """Two sites with six subjects each, all four patches of each asked: a plain mean is the witness."""
    every = study.model_copy(update={"training": study.training.model_copy(update={"patches_per_bag": 4})})

    class Total:
        length = 2

        def vector(self, patches):
            return torch.stack([patches.mean(), torch.tensor(1.0)])

    wanted = []
    for site in data.sites:
        for subject in range(6):
            vector = Total().vector(data.store(site).bag(subject, 4, np.random.default_rng(0)))
            wanted.append((vector * min(1.0, 0.1 / float(vector.norm()))).numpy())
    found = mean_without_noise(Total(), every, data)
    np.testing.assert_allclose(found.mean, np.mean(wanted, axis=0), rtol=1e-4)
    assert (found.std, found.units) == (0.0, 12.0)


def test_a_local_recipe_learns_without_noise_and_nothing_from_an_answer_without_information(
    study, data, tiny_study, monkeypatch
):
    local = tiny_study(privacy={"sampling_rate": 1.0})
    start = without_noise.learned_before(local)
    learned = learn_without_noise(local, data)
    assert set(learned) == set(start)
    assert digest(learned) != digest(start)
    answers = []

    class Spy:
        def start(self):
            return {"x": np.zeros(1, np.float32)}

        def order(self, state, *, number):
            return state

        def question(self, order, *, number):
            return SimpleNamespace(length=3)

        def learn(self, state, answer, *, number):
            answers.append((number, answer))
            return {"x": state["x"] + number}

        def released(self, state):
            return state

    monkeypatch.setattr(without_noise, "recipe_of", lambda study: Spy())
    assert learn_nothing(study)["x"] == 3, "rounds 1 and 2"
    for _, answer in answers:
        assert answer.mean.tolist() == [0, 0, 0]
        assert math.isinf(answer.std)
        assert answer.units == 12


def test_the_penalty_of_a_linear_critic_by_hand():
    """f(x) = 3 sum x over 4 pixels has a gradient of norm 6 everywhere: the penalty is 10 * 5 ** 2."""

    class Linear(nn.Module):
        def forward(self, patches):
            return 3 * patches.flatten(1).sum(dim=1)

    real, fakes = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    loss = critic_loss(Linear(), real, fakes, torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(0 - 12 + 250)


def test_the_non_private_gan_moves_towards_the_real_level(tiny_study, monkeypatch):
    """Real patches are bright all over; after some large steps fakes are brighter than at first."""
    monkeypatch.setattr(non_private_gan, "_RATE", 3e-3)
    study = tiny_study()
    real = torch.full((16, 2, 16, 16), 0.9)
    before = level(study, train_non_private(study, real, steps=1, batch=8))
    steps = []
    after = level(
        study, train_non_private(study, real, steps=25, batch=8, progress=lambda *p: steps.append(p))
    )
    assert after > before + 0.02
    assert steps[-1] == (25, 25)
    assert digest(train_non_private(study, real, steps=1)) == digest(train_non_private(study, real, steps=1))
    with pytest.raises(ValueError, match="got 0, 32 and 16"):
        train_non_private(study, real, steps=0)


def level(study, arrays) -> float:
    return float(NetworkSampler(study, arrays).draw(first=0, n=16, seed=1)[:, 0].mean())


def test_real_patches_are_of_as_many_subjects_as_asked(data):
    def patterns(subjects: int) -> set[bytes]:
        drawn = data.real_patches(64, seed=3, subjects=subjects)
        return {patch.numpy().tobytes() for patch in drawn}

    stores = {site: data.store(site) for site in data.sites}
    owner = {}
    for site, store in stores.items():
        for index in range(store.n_patches):
            patch = store.patch(index, np.random.default_rng(0)).numpy().tobytes()
            owner[patch] = (site, index // store.per_subject)
    assert len({owner[patch] for patch in patterns(1)}) == 1
    assert len({owner[patch] for patch in patterns(5)}) == 5
    assert len({owner[patch] for patch in patterns(0)}) > 5
    with pytest.raises(ValueError, match="13 real subjects are asked for, pictures has 12"):
        data.real_patches(4, seed=0, subjects=13)


def test_worst_is_the_largest_of_the_sites(study, data, tmp_path):
    _, spent = learn_privately(private_unet(study), study, data, folder=tmp_path / "cell")
    low = spent["site-a"].model_copy(update={"epsilon": 1.0})
    assert worst({"site-a": low, "site-b": spent["site-b"]}) == spent["site-b"]
    with pytest.raises(ValueError, match="got none"):
        worst({})


def test_the_open_unet_learns_and_has_no_ledger(study, data):
    recipe = private_unet(study)
    state = learn_openly(recipe, study, data)
    assert digest(state) != digest(recipe.start())
    assert not list(data.folder.rglob("ledger.sqlite"))
    assert study.privacy.unit is PrivacyUnit.SUBJECT
