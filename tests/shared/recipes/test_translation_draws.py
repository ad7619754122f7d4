"""What is drawn from the recipes pix2pix, spade and cyclegan, and their releases."""

import numpy as np
import pytest
import torch
from harness import made_release
from torch.testing import assert_close

from willis.shared.game_plans import EditPlan
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.translation.maps import semantic_map
from willis.shared.recipes.translation.recipe import TranslationRecipe
from willis.shared.release import read_release
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs, export_pairs

NAMES = ("pix2pix", "spade", "cyclegan")


def released(study: Study) -> dict[str, np.ndarray]:
    recipe = recipe_of(study)
    return recipe.released(recipe.start())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("maps", ["gan", "prior"])
@pytest.mark.parametrize("size", [[16, 16], [32, 32, 32]])
def test_a_patch_of_a_draw_is_the_same_whatever_else_is_drawn(made, name, maps, size):
    study = made(name, recipe={"maps": maps, "edit": {"moved": 0.2}}, patch={"size": size})
    sampler = recipe_of(study).sampler(released(study))
    drawn = sampler.draw(first=0, n=5, seed=3)
    assert drawn.shape == (5, 2, *size)
    assert drawn.dtype == torch.float32
    assert drawn[:, 0].abs().max() <= 1
    assert bool((drawn[:, 1].abs() == 1).all())
    assert torch.equal(sampler.draw(first=3, n=1, seed=3)[0], drawn[3])
    assert not torch.equal(sampler.draw(first=0, n=5, seed=4), drawn)


def test_prior_maps_carry_the_labels_of_prior_draws(made):
    """Untouched by an edit, a drawn label has as much foreground as the prior's labels."""
    study = made(recipe={"maps": "prior"})
    drawn = recipe_of(study).sampler(released(study)).draw(first=0, n=64, seed=0)
    prior = draw_prior(study, 64, purpose="test")
    shares = [(patches[:, 1] > 0).float().mean() for patches in (drawn, prior)]
    assert shares[0] == pytest.approx(float(shares[1]), rel=0.3)


def test_an_edit_moves_the_label_and_the_image_follows_it(made):
    plain, edited = (
        made(recipe={"maps": "prior", "levels": 1, "edit": {"mirrored": mirrored}})
        for mirrored in (False, True)
    )
    assert edited.recipe.edit == EditPlan(mirrored=True)
    weights = released(plain)
    before, after = (
        recipe_of(study).sampler(weights).draw(first=0, n=16, seed=0) for study in (plain, edited)
    )
    kept = [bool(torch.equal(a[1], b[1])) for a, b in zip(before, after, strict=True)]
    assert 0 < sum(kept) < 16
    for one, other, same in zip(before, after, kept, strict=True):
        assert same or any(torch.equal(one[1].flip(axes), other[1]) for axes in ([0], [1], [0, 1]))
        assert bool(torch.allclose(one[0], other[0], atol=1e-5)) == same


def test_translate_makes_images_for_given_maps(made):
    study = made(recipe={"levels": 3})
    recipe = TranslationRecipe(study)
    weights = released(study)
    maps = semantic_map(draw_prior(study, 5, purpose="test"), levels=3, blur=1.5)
    made_all = recipe.translate(weights, maps, 7)
    assert made_all.shape == (5, 2, 16, 16)
    assert torch.equal(made_all[:, 1], maps[:, 1])
    assert torch.equal(recipe.translate(weights, maps[:2], 7), made_all[:2])
    assert not torch.equal(recipe.translate(weights, maps, 8)[:, 0], made_all[:, 0])
    nearly = maps.clone()
    nearly[:, 0] = (nearly[:, 0] + 0.1).clamp(-1, 1)
    assert torch.equal(recipe.translate(weights, nearly, 7), made_all), "levels are rounded"


def test_translate_refuses_what_is_no_map(made):
    study = made()
    recipe, weights = TranslationRecipe(study), released(study)
    with pytest.raises(ValueError, match=r"maps must have shape .*got \(1, 2, 16, 8\)"):
        recipe.translate(weights, torch.ones(1, 2, 16, 8), 0)
    with pytest.raises(ValueError, match="labels must be -1 or 1"):
        recipe.translate(weights, torch.zeros(1, 2, 16, 16), 0)
    with pytest.raises(ValueError, match="levels must be finite"):
        recipe.translate(weights, torch.full((1, 2, 16, 16), float("nan")), 0)
    with pytest.raises(ValueError, match="missing"):
        recipe.translate({}, torch.ones(1, 2, 16, 16), 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_release_is_written_read_and_drawn_from(tmp_path, made, name):
    study = made(
        name, privacy={"delta": 1e-4}, federation={"sites": [{"name": "north", "subjects": 20}], "quorum": 1}
    )
    weights = released(study)
    made_release.write(
        tmp_path / "release",
        study=study,
        arrays=weights,
        spent={"north": made_release.spent_of(2.5)},
        ledger_heads={"north": "ab12"},
    )
    release = read_release(tmp_path / "release")
    drawn = draw_pairs(release, n=3, seed=1, device="cpu")
    assert_close(drawn, recipe_of(study).sampler(weights).draw(first=0, n=3, seed=1), atol=0, rtol=0)
    file = export_pairs(release, tmp_path / "pairs", n=3, seed=1, form="npz", device="cpu")
    stored = np.load(file)
    assert max(len(value) for value in stored.values() if value.ndim) >= 3
    assert (tmp_path / "pairs").exists()


def test_a_sampler_refuses_other_arrays(made):
    study = made()
    weights = released(study)
    with pytest.raises(ValueError, match=r"translator/.*: unknown|translator.*: missing"):
        recipe_of(study).sampler(dict(list(weights.items())[1:]))
    for stranger in ("stranger/weight", "translator", "translator.layers"):
        with pytest.raises(ValueError, match=f"/{stranger}: unknown"):
            recipe_of(study).sampler(weights | {stranger: np.zeros(1, np.float32)})
