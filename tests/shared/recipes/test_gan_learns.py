"""The GAN recipes learn: drawn vessels are as many, as bright and as various as those they were shown."""

import pytest
import torch
from harness.made_game import ask

from willis.shared.networks.build import public_generator
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.gan.recipe import GanRecipe

SIDE, BATCH = 32, 32


@pytest.fixture(scope="module")
def learned(tiny_study):
    """Train on 512 prior draws, a batch a round as one unit; return real patches and drawn ones."""

    def train(recipe: dict, rounds: int, **training):
        study = tiny_study(
            recipe=recipe,
            patch={"size": [SIDE, SIDE], "per_subject": BATCH},
            networks={"latent": 32, "generator_width": 16, "critic_width": 16, "depth": 3},
            privacy={"delta": 1e-4},
            training={
                "protocol": "pooled",
                "critic_steps": 1,
                "rounds": rounds,
                "patches_per_bag": BATCH,
                "fakes": BATCH,
                "ema": 0.9,
                "critic_lr": 3e-4,
                "generator_lr": 3e-4,
            }
            | training,
        )
        real = draw_prior(study, 512, purpose="test")
        gan, dice = GanRecipe(study), public_generator("batches")
        state = gan.start()
        for number in range(1, rounds + 1):
            batch = real[torch.randperm(len(real), generator=dice)[:BATCH]]
            state = gan.learn(state, ask(gan, state, [batch], number=number), number=number)
        return real, gan.sampler(gan.released(state)).draw(first=0, n=256, seed=0)

    return train


def facts(patches: torch.Tensor) -> dict[str, float]:
    """Area share of the label, how much brighter the image is inside it, and how patches differ."""
    image, inside = patches[:, 0], patches[:, 1] > 0
    return {
        "share": float(inside.float().mean()),
        "contrast": float(image[inside].mean() - image[~inside].mean()),
        "spread": float(image.std(0).mean()),
        "labels": float(inside.float().std(0).mean()),
    }


@pytest.mark.parametrize(
    ("recipe", "rounds", "training"),
    [
        ({"name": "dcgan"}, 120, {"betas": [0.5, 0.999]}),
        pytest.param({"name": "wgan-gp"}, 300, {"critic_per_generator": 2}, marks=pytest.mark.slow),
        pytest.param(
            {"name": "wgan-gp", "normalisation": "spectral"},
            300,
            {"critic_per_generator": 2},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["dcgan", "instance", "spectral"],
)
def test_drawn_patches_are_like_those_it_learned_from(learned, recipe, rounds, training):
    real, drawn = (facts(patches) for patches in learned(recipe, rounds, **training))
    assert real["contrast"] > 0.3
    for name, value in real.items():
        assert value / 2 < drawn[name] < 2 * value, f"{name}: drawn {drawn}, real {real}"
