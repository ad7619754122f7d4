"""The private critic step: its gradients against naive loops, its divisor, its pooling over sites."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from willis.client import critic_step
from willis.client.adversaries import Adversaries
from willis.client.chance import Chance
from willis.client.critic_step import bag_gradients, private_critic_gradient
from willis.client.patch_gradients import patch_gradients
from willis.client.private_sum import clip_scale, norm
from willis.client.randomness import SecretRandom
from willis.client.store import FORMAT, Index, PatchStore
from willis.shared.networks.build import build_critic, build_generator, public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.study import Study

SUBJECTS = 6
LOOSE = {"clip_norm": 1e6, "sampling_rate": 1.0}
EVERYTHING = {"patches_per_bag": 4}  # a bag is all of a subject's patches, in some order


def a_store(study: Study, *, subjects: int = SUBJECTS, seed: int = 0) -> PatchStore:
    """Patches that are equal to their mirror images, so that flips change nothing."""
    patch, dice = study.patch, np.random.default_rng(seed)
    values = dice.uniform(-1, 1, (subjects * patch.per_subject, patch.n_channels, *patch.size))
    for axis in range(2, values.ndim):
        values = (values + np.flip(values, axis)) / 2
    index = Index(
        format=FORMAT,
        key="0" * 64,
        spec=patch,
        spec_digest="0" * 64,
        n_subjects=subjects,
        patches=f"patches-{'0' * 16}.npy",
    )
    return PatchStore(index, values.astype(np.float16))


def chance(key: int = 1) -> Chance:
    return Chance.keyed(SecretRandom(bytes([key]) * 32))


def step(study: Study, store: PatchStore, critic: nn.Module, fakes: Tensor, *, declared=SUBJECTS, noise=0.0):
    return private_critic_gradient(
        critic,
        fakes,
        store=store,
        study=study,
        declared_subjects=declared,
        noise_multiplier=noise,
        chance=chance(),
    )


def some_fakes(study: Study) -> Tensor:
    with torch.no_grad():
        return build_generator(study).draw(study.training.fakes, torch.Generator().manual_seed(3))


def subject(store: PatchStore, number: int) -> Tensor:
    return torch.from_numpy(store._patches.astype(np.float32)).unflatten(0, (-1, store.per_subject))[number]


def slope(critic: nn.Module, patches: Tensor, sign: float) -> list[Tensor]:
    """The gradient of sign * mean f, by backward on a fresh graph."""
    critic.zero_grad()
    (sign * critic(patches).mean()).backward()
    return [parameter.grad.clone() for parameter in critic.parameters() if parameter.grad is not None]


def added(*vectors: list[Tensor]) -> list[Tensor]:
    return [torch.stack(parts).sum(0) for parts in zip(*vectors, strict=True)]


def scaled(vector: list[Tensor], factor: float) -> list[Tensor]:
    return [factor * part for part in vector]


def assert_equal(ours: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """Largest difference, in units of the wanted vector's norm."""
    apart = norm([a - b for a, b in zip(ours, wanted, strict=True)])
    assert float(apart) <= tolerance * float(norm(wanted))


def test_per_subject_gradients_equal_a_naive_loop(tiny_study):
    study = tiny_study()
    critic, store = build_critic(study), a_store(study)
    bags = [subject(store, number) for number in range(SUBJECTS)]
    for ours, bag in zip(bag_gradients(critic, bags), bags, strict=True):
        # The naive loop: the mean of the gradients of each patch on its own.
        each = [slope(critic, patch[None], -1 / len(bag)) for patch in bag]
        assert_equal(list(ours), added(*each), 1e-5)


@pytest.mark.parametrize("fake_centred", [True, False])
def test_the_step_is_the_formula_by_hand(tiny_study, fake_centred):
    """With everybody, no noise: sum of clipped gradients over q * declared, with the fakes' gradient."""
    study = tiny_study(privacy={"sampling_rate": 1.0, "fake_centred": fake_centred}, training=EVERYTHING)
    critic, store, fakes = build_critic(study), a_store(study), some_fakes(study)
    on_fakes = slope(critic, fakes, 1.0)
    vectors = [slope(critic, subject(store, number), -1.0) for number in range(SUBJECTS)]
    if fake_centred:
        vectors = [added(vector, on_fakes) for vector in vectors]
    clip = float(norm(vectors[0])) * 1.01
    study = study.model_copy(update={"privacy": study.privacy.model_copy(update={"clip_norm": clip})})
    total = added(*(scaled(vector, min(1.0, clip / float(norm(vector)))) for vector in vectors))
    wanted = scaled(total, 1 / 5)
    if not fake_centred:
        wanted = added(wanted, on_fakes)
    assert_equal(step(study, store, critic, fakes, declared=5), wanted, 3e-5)


def test_centring_on_fakes_changes_the_clipping_alone(tiny_study):
    """With a clip that nobody reaches and a true count both are the gradient of E f(fake) - E f(real)."""
    critic, gradients = None, []
    for centred in (True, False):
        study = tiny_study(privacy=LOOSE | {"fake_centred": centred}, training=EVERYTHING)
        critic, store, fakes = build_critic(study), a_store(study), some_fakes(study)
        gradients.append(step(study, store, critic, fakes))
        real = torch.cat([subject(store, number) for number in range(SUBJECTS)])
        assert_equal(gradients[-1], added(slope(critic, fakes, 1.0), slope(critic, real, -1.0)), 1e-5)
    assert_equal(gradients[0], gradients[1], 1e-5)


def test_sites_without_noise_together_make_the_pooled_gradient(tiny_study):
    study = tiny_study(privacy=LOOSE, training=EVERYTHING)
    critic, fakes = build_critic(study).double(), some_fakes(study).double()
    sizes = (2, 3, 7)
    stores = [a_store(study, subjects=size, seed=size) for size in sizes]
    joined = PatchStore(
        stores[0].index.model_copy(update={"n_subjects": 12}),
        np.concatenate([store._patches for store in stores]),
    )
    doubled = _double_precision(critic)
    each = [step(study, s, doubled, fakes, declared=n) for s, n in zip(stores, sizes, strict=True)]
    pooled = step(study, joined, doubled, fakes, declared=12)
    together = added(*(scaled(part, size / 12) for part, size in zip(each, sizes, strict=True)))
    assert_equal(together, pooled, 1e-6)


def _double_precision(critic: nn.Module) -> nn.Module:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = critic

        def forward(self, patches: Tensor) -> Tensor:
            return self.inner(patches.double())

    return Doubled()


@pytest.mark.parametrize("unit", ["subject", "patch"])
def test_the_divisor_is_the_declared_number_never_the_true_one(tiny_study, unit):
    """Ten times the declared subjects give a tenth of the gradient, whoever is there."""
    study = tiny_study(privacy={"sampling_rate": 0.5, "unit": unit, "delta": 1e-3})
    critic, store, fakes = build_critic(study), a_store(study), some_fakes(study)
    few = step(study, store, critic, fakes, declared=6)
    many = step(study, store, critic, fakes, declared=60)
    assert_equal(scaled(many, 10), few, 1e-5)


def test_an_empty_draw_is_divided_like_any_other(tiny_study):
    study = tiny_study(privacy={"sampling_rate": 1e-9, "clip_norm": 2.0})
    critic, store = build_critic(study), a_store(study)
    drawn = step(study, store, critic, some_fakes(study), noise=3.0)
    variates = chance().noise.normal([part.shape for part in critic.parameters()])
    assert_equal(drawn, scaled(variates, 3.0 * 2.0 / (1e-9 * SUBJECTS)), 1e-5)


def test_per_patch_gradients_by_hooks_equal_a_naive_loop(tiny_study):
    study = tiny_study(patch={"per_subject": 13})  # 78 patches: more than are held at once
    critic, store = build_critic(study), a_store(study)
    patches = torch.cat([subject(store, number) for number in range(SUBJECTS)])
    count = 0
    for ours, patch in zip(patch_gradients(critic, iter(patches)), patches, strict=True):
        assert_equal(list(ours), slope(critic, patch[None], -1.0), 1e-5)
        count += 1
    assert count == 78


def test_the_patch_units_step_is_the_formula_by_hand(tiny_study):
    study = tiny_study(privacy={"unit": "patch", "sampling_rate": 1.0, "clip_norm": 0.05})
    critic, store, fakes = build_critic(study), a_store(study), some_fakes(study)
    on_fakes = slope(critic, fakes, 1.0)
    total = []
    for number in range(SUBJECTS):
        for patch in subject(store, number):
            vector = added(slope(critic, patch[None], -1.0), on_fakes)
            total.append(scaled(vector, min(1.0, 0.05 / float(norm(vector)))))
    wanted = scaled(added(*total), 1 / (SUBJECTS * study.patch.per_subject))
    assert_equal(step(study, store, critic, fakes), wanted, 3e-5)


def test_no_patches_no_vectors(tiny_study):
    assert list(patch_gradients(build_critic(tiny_study()), iter(()))) == []


@pytest.mark.parametrize("unit", ["subject", "patch"])
def test_half_precision_keeps_the_gradient_and_the_clip(tiny_study, monkeypatch, unit):
    clip, seen, gradients = 0.02, [], {}
    honest = critic_step.private_sum

    def watching(vectors, **rest):
        held = [list(vector) for vector in vectors]
        seen.extend(held)
        return honest(held, **rest)

    monkeypatch.setattr(critic_step, "private_sum", watching)
    for precision in ("float32", "bfloat16"):
        study = tiny_study(
            privacy={"sampling_rate": 1.0, "clip_norm": clip, "unit": unit},
            training={"precision": precision} | EVERYTHING,
        )
        seen.clear()
        gradients[precision] = step(study, a_store(study), build_critic(study), some_fakes(study))
        assert all(part.dtype == torch.float32 for part in gradients[precision])
        for vector in seen:
            factor = clip_scale(vector, clip)
            counted = [torch.nan_to_num(part.float()) * factor for part in vector]
            assert float(norm([part.double() for part in counted])) <= clip
        assert max(float(norm(vector)) for vector in seen) > clip
    assert_equal(gradients["bfloat16"], gradients["float32"], 0.05)


def test_generator_steps_never_meet_the_hooks(tiny_study):
    """Per-patch hooks sit on a copy: after a private step the critic is the module it was."""
    study = tiny_study(privacy={"unit": "patch", "sampling_rate": 1.0})
    critic, store = build_critic(study), a_store(study)
    step(study, store, critic, some_fakes(study))
    for module in critic.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(not hasattr(parameter, "grad_sample") for parameter in critic.parameters())


@pytest.mark.parametrize("unit", ["subject", "patch"])
def test_a_generator_step_is_the_plain_one_on_the_critic_of_that_moment(tiny_study, unit):
    """After one private step and one of the generator: the same as Adam on -E f(fake) written out here."""
    study = tiny_study(
        privacy={"unit": unit, "sampling_rate": 1.0}, training={"critic_steps": 1} | EVERYTHING
    )
    start = arrays_of(build_generator(study))
    trained = Adversaries.assemble(study, start, None)
    trained.train(
        study,
        store=a_store(study),
        declared_subjects=SUBJECTS,
        noise_multiplier=0.5,
        chance=chance(),
        dice=public_generator("step"),
    )
    generator, dice = build_generator(study), public_generator("step")
    generator.draw(study.training.fakes, dice)  # those of the critic's step
    loss = -trained.critic(generator.draw(study.training.fakes, dice)).mean()
    slopes = torch.autograd.grad(loss, list(generator.parameters()))
    # The first step of Adam at betas (0, 0.9): slope / (|slope| + eps), times the rate.
    for before, after, by in zip(generator.parameters(), trained.generator.parameters(), slopes, strict=True):
        wanted = before - study.training.generator_lr * by / (by.abs() + 1e-8)
        torch.testing.assert_close(after, wanted, atol=1e-7, rtol=1e-4)


def test_rmsprop_and_uncentred_steps_train_too_and_stay_within_the_weight_clip(tiny_study):
    """The papers' DP-WGAN: RMSprop, weights clipped."""
    study = tiny_study(
        networks={"constraint": "weight-clip", "weight_clip": 0.03},
        privacy={"fake_centred": False},
        training={"optimiser": "rmsprop"},
    )
    start = arrays_of(build_generator(study))
    trained = Adversaries.assemble(study, start, None)
    trained.train(
        study,
        store=a_store(study),
        declared_subjects=SUBJECTS,
        noise_multiplier=1.0,
        chance=chance(),
        dice=public_generator("step"),
    )
    assert max(float(p.detach().abs().max()) for p in trained.critic.parameters()) <= 0.03
    assert any(not np.array_equal(a, start[n]) for n, a in arrays_of(trained.generator).items())
