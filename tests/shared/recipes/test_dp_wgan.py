"""The pooled dp-wgan: a round over K sites is one step of training on all subjects together."""

import copy

import numpy as np
import pytest
import torch
from harness.pooled_wgan import ask, bags, distance, network, optimiser, zero

from willis.shared.errors import StudyError
from willis.shared.networks.build import build_critic, build_generator, public_generator
from willis.shared.networks.critic import project, spectral_norm
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe
from willis.shared.recipes.named_parts import part
from willis.shared.update import check_model


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
@pytest.mark.parametrize("centred", [True, False])
def test_rounds_over_three_sites_equal_plain_training_on_all_subjects(pooled, kind, centred):
    study = pooled(
        training={"optimiser": kind, "critic_lr": 0.001, "generator_lr": 0.001, "ema": 0.25},
        privacy={"fake_centred": centred, "clip_norm": 1e6},
    )
    recipe = DpWganRecipe(study)
    sites = [bags(2), bags(3, first=2), bags(1, first=5)]
    state = recipe.start()
    critic, generator = build_critic(study), build_generator(study)
    project(critic, study.networks)
    steps = optimiser(critic, study, 0.001), optimiser(generator, study, 0.001)
    mean = arrays_of(generator)
    for number in (1, 2):
        state = recipe.learn(state, ask(recipe, state, sites, number=number, clip=1e6), number=number)

        fakes = generator.draw(4, public_generator(study.seed, "fakes", number)).detach()
        real = torch.stack([critic(patches).mean() for site in sites for patches in site]).mean()
        steps[0].zero_grad()
        (critic(fakes).mean() - real).backward()
        steps[0].step()
        project(critic, study.networks)
        steps[1].zero_grad()
        (-critic(generator.draw(4, public_generator(study.seed, "round", number))).mean()).backward()
        steps[1].step()
        mean = {name: 0.25 * mean[name] + 0.75 * value for name, value in arrays_of(generator).items()}
        assert distance(part(state, "critic"), arrays_of(critic)) < 1e-6
        assert distance(part(state, "generator"), arrays_of(generator)) < 1e-5
    assert distance(recipe.released(state), mean) < 1e-5


def test_the_gradient_itself_is_that_of_all_subjects_to_a_millionth(pooled):
    study = pooled(privacy={"clip_norm": 1e6})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    answer = ask(recipe, state, [bags(4), bags(2, first=4)], number=1, clip=1e6)
    critic = network(build_critic, study, state, "critic")
    fakes = build_generator(study).draw(4, public_generator(study.seed, "fakes", 1)).detach()
    loss = critic(fakes).mean() - torch.stack([critic(patches).mean() for patches in bags(6)]).mean()
    naive = torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, list(critic.parameters()))])
    torch.testing.assert_close(torch.from_numpy(answer.mean), naive, atol=1e-6, rtol=0)


def test_a_clipped_bag_is_as_long_as_the_clip(pooled):
    """One subject whose centred gradient is longer than the clip: the sum is that long, in its direction."""
    study = pooled()
    recipe = DpWganRecipe(study)
    state = recipe.start()
    free = ask(recipe, state, [bags(1)], number=1, clip=1e6).mean
    length = float(np.linalg.norm(free))
    clipped = ask(recipe, state, [bags(1)], number=1, clip=length / 4).mean
    np.testing.assert_allclose(clipped, free / 4, rtol=1e-4, atol=1e-9)


def test_a_centred_vector_of_the_fakes_themselves_is_zero(pooled):
    study = pooled()
    recipe = DpWganRecipe(study)
    state = recipe.start()
    fakes = build_generator(study).draw(4, public_generator(study.seed, "fakes", 1)).detach()
    question = recipe.question(recipe.order(state, number=1), number=1)
    assert float(question.vector(fakes).norm()) < 1e-6 < float(question.vector(bags(1)[0]).norm())


def test_an_answer_of_zero_moves_the_critic_by_the_public_part_alone(pooled):
    centred = DpWganRecipe(pooled())
    state = centred.start()
    after = centred.learn(state, zero(centred, state), number=1)
    assert distance(part(after, "critic"), part(state, "critic")) == 0

    study = pooled(privacy={"fake_centred": False}, networks={"spectral_bound": 1e6})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    after = recipe.learn(state, zero(recipe, state), number=1)
    critic = network(build_critic, study, state, "critic")
    steps = optimiser(critic, study, 0.01)
    critic(
        build_generator(study).draw(4, public_generator(study.seed, "fakes", 1)).detach()
    ).mean().backward()
    steps.step()
    assert distance(part(after, "critic"), part(state, "critic")) > 1e-3
    assert distance(part(after, "critic"), arrays_of(critic)) < 1e-6


def test_the_critic_stays_within_its_constraint(pooled):
    study = pooled(training={"critic_lr": 1.0}, networks={"spectral_bound": 0.5})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    for number in (1, 2):
        state = recipe.learn(state, ask(recipe, state, [bags(2)], number=number, clip=1.0), number=number)
        for value in part(state, "critic").values():
            if value.ndim > 1:
                assert float(spectral_norm(torch.from_numpy(value))) <= 0.5 + 1e-5


@pytest.mark.parametrize("refiner", [False, True])
def test_a_state_is_float32_and_reads_back(pooled, refiner):
    recipe = DpWganRecipe(pooled(recipe={"refiner": refiner, "prior_draws": 16, "trained": "low-rank"}))
    state = recipe.start()
    state = recipe.learn(state, ask(recipe, state, [bags(2)], number=1, clip=1.0), number=1)
    check_model(state)
    check_model(recipe.order(state, number=2))
    assert {value.dtype for value in state.values()} == {np.dtype(np.float32)}
    assert state["critic_steps/count"] == state["generator_steps/count"] == 1
    answer = ask(recipe, state, [bags(2)], number=2, clip=1.0)
    once = recipe.learn(state, answer, number=2)
    again = DpWganRecipe(recipe._study).learn(copy.deepcopy(state), answer, number=2)
    assert set(once) == set(state)
    assert all(np.array_equal(once[name], again[name]) for name in once)


def test_bfloat16_is_near_float32(pooled):
    answers = []
    for precision in ("float32", "bfloat16"):
        recipe = DpWganRecipe(pooled(training={"precision": precision}))
        answers.append(ask(recipe, recipe.start(), [bags(3)], number=1, clip=1e6).mean)
    assert not np.array_equal(*answers)
    assert np.linalg.norm(answers[0] - answers[1]) < 0.05 * np.linalg.norm(answers[0])


def test_local_is_the_generator_alone(tiny_study):
    study = tiny_study()
    recipe = DpWganRecipe(study)
    start = recipe.start()
    assert distance(start, arrays_of(build_generator(study))) == 0
    assert distance(recipe.released(start), start) == 0
    assert recipe.sampler(start).draw(first=0, n=2, seed=0).shape == (2, 2, 16, 16)
    with pytest.raises(StudyError, match="local"):
        recipe.order(start, number=1)
    with pytest.raises(StudyError, match="local"):
        recipe.question({}, number=1)
