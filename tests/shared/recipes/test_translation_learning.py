"""pix2pix learns: its images come nearer to the real ones, and lesions lie where the label says."""

import pytest
import torch

from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.translation.maps import semantic_map
from willis.shared.recipes.translation.recipe import TranslationRecipe

ROUNDS, BATCH = 120, 16


def contrast(patches: torch.Tensor) -> float:
    """Mean over patches of how much brighter the image is inside the label than outside."""
    found = [
        float(image[label > 0].mean() - image[label <= 0].mean())
        for image, label in patches.unbind(dim=0)
        if bool((label > 0).any()) and bool((label <= 0).any())
    ]
    return sum(found) / len(found)


def trained(recipe: TranslationRecipe, patches: torch.Tensor) -> dict:
    """Return a release after rounds without noise, in each of which a batch of patches is one unit."""
    dice, state = torch.Generator().manual_seed(0), recipe.start()
    for number in range(1, ROUNDS + 1):
        picked = patches[torch.randint(len(patches), (BATCH,), generator=dice)]
        question = recipe.question(recipe.order(state, number=number), number=number)
        answer = PooledMean(question.vector(picked).numpy(), 0.0, 1.0)
        state = recipe.learn(state, answer, number=number)
    return recipe.released(state)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_pix2pix_paints_lesions_where_the_label_says(tiny_study, sign):
    """Bright lesions where they are bright, dark ones where they are dark; on maps it was not shown."""
    study = tiny_study(
        patch={"size": [32, 32]},
        prior={"family": "lesions", "ranges": {"polarity": [sign, sign], "contrast": [0.3, 0.6]}},
        networks={"generator_width": 8, "critic_width": 8},
        recipe={"name": "pix2pix", "maps": "prior", "levels": 6},
        training={
            **{"protocol": "pooled", "critic_steps": 1, "rounds": ROUNDS, "ema": 0.9, "betas": (0.5, 0.999)},
            **{"critic_lr": 2e-4, "generator_lr": 1e-3},
        },
    )
    patches, unseen = (draw_prior(study, n, purpose=purpose) for n, purpose in ((256, "train"), (64, "test")))
    recipe = TranslationRecipe(study)
    weights = trained(recipe, patches)

    made = recipe.translate(weights, semantic_map(unseen, levels=6, blur=1.5), 0)
    distance = float((made[:, 0] - unseen[:, 0]).abs().mean())
    of_the_mean = float((patches[:, 0].mean(dim=0) - unseen[:, 0]).abs().mean())
    assert distance < 0.8 * of_the_mean
    assert contrast(unseen) * sign > 0.2, "the data are what they are said to be"
    assert 0.5 < contrast(made) / contrast(unseen) < 1.5

    drawn = recipe.sampler(weights).draw(first=0, n=64, seed=0)
    assert 0.5 < contrast(drawn) / contrast(unseen) < 1.5
