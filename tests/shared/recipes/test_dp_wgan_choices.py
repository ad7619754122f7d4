"""The pooled dp-wgan trains what its choice says, and its generator when it may."""

import numpy as np
import pytest
import torch
from harness.pooled_wgan import CHOICES, ask, bags, distance, network

from willis.shared.networks.build import build_critic, build_generator, public_generator
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.dp_wgan.recipe import DpWganRecipe
from willis.shared.recipes.named_parts import part

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
