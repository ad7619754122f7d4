"""The pooled dp-wgan: a round over K sites is one step of training on all subjects together."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from willis.client.private_sum import private_sum
from willis.client.randomness import SecretRandom
from willis.shared.errors import StudyError
from willis.shared.networks.build import build_critic, build_generator, public_generator
from willis.shared.networks.critic import project, spectral_norm
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe
from willis.shared.recipes.dp_wgan.state import part
from willis.shared.study import Study
from willis.shared.update import check_model, state_from_arrays

CHOICES = ("all", "last-layers", "low-rank", "scale-and-shift")


@pytest.fixture
def pooled(tiny_study):
    """Build the tiny study under protocol ``pooled``, with changes."""

    def build(*, training: dict | None = None, recipe: dict | None = None, **changes) -> Study:
        base = {"protocol": "pooled", "critic_steps": 1, "critic_lr": 0.01, "generator_lr": 0.01}
        named = {"name": "dp-wgan"} | (recipe or {})
        return tiny_study(training=base | (training or {}), recipe=named, **changes)

    return build


def bags(n: int, *, first: int = 0) -> list[torch.Tensor]:
    """Subjects' patches, two each."""
    drawn = []
    for subject in range(first, first + n):
        patches = torch.rand((2, 2, 16, 16), generator=public_generator("bags", subject)) * 2 - 1
        patches[:, 1] = patches[:, 1].sign()
        drawn.append(patches)
    return drawn


def ask(recipe: DpWganRecipe, state, sites: list[list[torch.Tensor]], *, number: int, clip: float):
    """Let every site answer with its sum, without noise, and pool them."""
    question = recipe.question(recipe.order(state, number=number), number=number)
    total = torch.zeros(question.length, dtype=torch.float64)
    for site in sites:
        [answer] = private_sum(
            ([question.vector(patches)] for patches in site),
            like=[torch.zeros(question.length)],
            clip_norm=clip,
            noise_multiplier=0,
            noise=SecretRandom(bytes(32)),
        )
        total += answer.double()
    units = sum(map(len, sites))
    return PooledMean(mean=(total / units).numpy().astype(np.float32), std=0.0, units=units)


def zero(recipe: DpWganRecipe, state, *, std: float = 0.0) -> PooledMean:
    length = recipe.question(recipe.order(state, number=1), number=1).length
    return PooledMean(mean=np.zeros(length, np.float32), std=std, units=12.0)


def network(build, study: Study, state, name: str):
    found = build(study)
    found.load_state_dict(state_from_arrays(part(state, name)))
    return found


def distance(one, other) -> float:
    """The largest difference, save in biases that nothing depends on.

    The loss does not depend on the critic's last bias, nor on a bias before a normalisation: their gradients
    are rounding, of which Adam and RMSprop make whole steps.
    """
    names = [name for name in one if not name.endswith(("score.bias", "convolution.bias"))]
    return max(float(np.abs(one[name] - other[name]).max()) for name in names)


def optimiser(network: nn.Module, study: Study, rate: float) -> torch.optim.Optimizer:
    if study.training.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=study.training.betas)
    return torch.optim.RMSprop(network.parameters(), rate)


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


MOVED = {
    "all": {"features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias", "score.weight"},
    "last-layers": {"score.weight"},
    "low-rank": {"features.0.weight", "features.2.weight", "score.weight"},
    "scale-and-shift": {
        "features.0.weight",
        "features.0.bias",
        "features.2.weight",
        "features.2.bias",
        "score.weight",
    },
}


@pytest.mark.parametrize("choice", CHOICES)
def test_private_gradients_move_only_what_the_choice_says(pooled, choice):
    study = pooled(recipe={"trained": choice, "rank": 2}, networks={"spectral_bound": 1e6})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    after = recipe.learn(state, ask(recipe, state, [bags(3)], number=1, clip=1.0), number=1)
    changes = {name: value - part(state, "critic")[name] for name, value in part(after, "critic").items()}
    moved = {name for name, change in changes.items() if np.abs(change).max() > 1e-5}
    assert moved - {"score.bias"} == MOVED[choice]
    kernel = changes["features.2.weight"].reshape(8, -1).astype(np.float64)  # (8, 4 * 4 * 4)
    if choice == "low-rank":
        assert np.linalg.matrix_rank(kernel, tol=1e-5) == 2
    if choice == "scale-and-shift":
        rows = part(state, "critic")["features.2.weight"].reshape(8, -1)
        cosines = (
            np.abs((kernel * rows).sum(1)) / np.linalg.norm(kernel, axis=1) / np.linalg.norm(rows, axis=1)
        )
        np.testing.assert_allclose(cosines, 1, atol=1e-4)


# By hand, critic of width 4 and depth 2 on 16 x 16: kernels (4, 2*4*4) and (8, 4*4*4), 4 + 8 biases, a score
# of 8*4*4 weights and a bias.
@pytest.mark.parametrize(
    ("recipe", "length"),
    [
        ({"trained": "all"}, 128 + 4 + 512 + 8 + 128 + 1),
        ({"trained": "last-layers"}, 129),
        ({"trained": "last-layers", "last_layers": 2}, 512 + 8 + 129),
        ({"trained": "low-rank", "rank": 3}, 4 * 3 + 8 * 3 + 128),
        ({"trained": "scale-and-shift"}, 4 + 4 + 8 + 8 + 1 + 1),
    ],
)
def test_the_number_of_private_coordinates_by_hand(pooled, recipe, length):
    made = DpWganRecipe(pooled(recipe=recipe))
    order = made.order(made.start(), number=1)
    assert made.question(order, number=1).length == length
    assert order["centre"].shape == (length,)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_generator_moves_only_what_its_choice_says(pooled, choice):
    recipe = DpWganRecipe(pooled(recipe={"generator_trained": choice}))
    state = recipe.start()
    after = recipe.learn(state, ask(recipe, state, [bags(3)], number=1, clip=1.0), number=1)
    moved = {
        name
        for name, value in part(after, "generator").items()
        if not np.array_equal(value, part(state, "generator")[name])
    }
    assert any(name.startswith("to_") for name in moved)
    assert any(name.startswith("seed") for name in moved) == (choice != "last-layers")
    assert any(name.endswith("bias") and name.startswith("doublings") for name in moved) == (
        choice in ("all", "scale-and-shift")
    )


def test_the_generator_steps_every_other_round(pooled):
    recipe = DpWganRecipe(pooled(training={"critic_per_generator": 2}))
    states = [recipe.start()]
    for number in (1, 2, 3):
        answer = ask(recipe, states[-1], [bags(2)], number=number, clip=1.0)
        states.append(recipe.learn(states[-1], answer, number=number))
    first, second, third, fourth = (part(state, "generator") for state in states)
    assert distance(first, second) == 0 < distance(second, third)
    assert distance(third, fourth) == 0


@pytest.mark.parametrize(("sign", "std", "steps"), [(1, 0.0, True), (-1, 0.0, False), (1, 10.0, False)])
def test_an_adaptive_generator_steps_where_the_critic_tells_real_from_fake(pooled, sign, std, steps):
    """The gradient at the last weights w is h(fake) - h(real): -w says that real ones score |w|^2 higher."""
    study = pooled(recipe={"adaptive": True, "trained": "last-layers"})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    weight = part(state, "critic")["score.weight"].ravel()
    answer = PooledMean(mean=np.append(-sign * weight, 0).astype(np.float32), std=std, units=12.0)
    after = recipe.learn(state, answer, number=1)
    assert (distance(part(after, "generator"), part(state, "generator")) > 0) is steps
    assert distance(part(after, "critic"), part(state, "critic")) > 0


@pytest.mark.parametrize("choice", CHOICES)
def test_the_gap_of_an_adaptive_round_is_the_gap_of_scores(pooled, choice, monkeypatch):
    """Witness: score real and fake patches and compare."""
    study = pooled(recipe={"adaptive": True, "trained": choice}, privacy={"clip_norm": 1e6})
    recipe = DpWganRecipe(study)
    state = recipe.start()
    answer = ask(recipe, state, [bags(5)], number=1, clip=1e6)
    critic = network(build_critic, study, state, "critic")
    fakes = build_generator(study).draw(4, public_generator(study.seed, "fakes", 1))
    with torch.no_grad():
        gap = float(
            torch.stack([critic(patches).mean() for patches in bags(5)]).mean() - critic(fakes).mean()
        )
    length = float(np.linalg.norm(part(state, "critic")["score.weight"]))
    for std, expected in (((gap - 1e-4) / length, True), ((gap + 1e-4) / length, False)):
        with_noise = PooledMean(mean=answer.mean, std=std, units=5.0)
        after = recipe.learn(state, with_noise, number=1)
        assert (distance(part(after, "generator"), part(state, "generator")) > 0) is expected


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


def test_keys_that_need_pooled_are_refused_under_local(tiny_study):
    study = tiny_study(recipe={"name": "dp-wgan", "trained": "low-rank", "adaptive": True})
    with pytest.raises(StudyError, match="adaptive, trained need training"):
        DpWganRecipe(study)


def test_another_recipe_is_refused(tiny_study):
    study = tiny_study(training={"protocol": "pooled", "critic_steps": 1}, recipe={"name": "voted-prior"})
    with pytest.raises(StudyError, match="asked to run a study of recipe voted-prior"):
        DpWganRecipe(study)


def test_a_refiner_of_colours_is_refused(pooled):
    study = pooled(recipe={"refiner": True}, patch={"channels": ["red", "green"]})
    with pytest.raises(StudyError, match="got 2"):
        DpWganRecipe(study)


def test_arrays_of_others_are_refused(pooled):
    recipe = DpWganRecipe(pooled())
    state = recipe.start()
    order = recipe.order(state, number=1)
    without = {name: value for name, value in order.items() if name != "centre"}
    for wrong in (
        {},
        without,
        order | {"centre": np.zeros(3, np.float32)},
        order | {"critic/score.bias": np.zeros(2, np.float32)},
        order | {"more": np.zeros(2, np.float32)},
        order | {"critic/score.bias": np.full(1, np.nan, np.float32)},
    ):
        with pytest.raises(StudyError, match="the order"):
            recipe.question(wrong, number=1)
    uncentred = DpWganRecipe(pooled(privacy={"fake_centred": False}))
    assert "centre" not in uncentred.order(state, number=1)
    with pytest.raises(StudyError, match="fake_centred is false"):
        uncentred.question(order, number=1)
    with pytest.raises(ValueError, match="781 coordinates"):
        recipe.learn(state, PooledMean(mean=np.zeros(3, np.float32), std=0.0, units=1.0), number=1)
    with pytest.raises(ValueError, match="missing"):
        recipe.learn({}, zero(recipe, state), number=1)
    with pytest.raises(ValueError, match="missing"):
        recipe.sampler({})


def test_learn_goes_on_from_moments(pooled):
    recipe = DpWganRecipe(pooled())
    state = recipe.start()
    broken = {name: value for name, value in state.items() if name != "critic_steps/count"}
    with pytest.raises(ValueError, match="moments must have shapes"):
        recipe.learn(broken, zero(recipe, state), number=1)
