"""What the GANs' players want, by hand."""

import math

import numpy as np
import pytest
import torch
from harness.made_game import units_of

from willis.shared.networks.build import public_generator
from willis.shared.networks.critic import spectral_norm
from willis.shared.recipes.game.penalty import gradient_penalty
from willis.shared.recipes.gan.losses import feature_distance, told_apart, towards
from willis.shared.recipes.gan.recipe import GanRecipe


def test_cross_entropy_by_hand():
    # softplus(s) - t s; a target of 1.2 leaves no best score
    assert towards(torch.zeros(3), 0.3).item() == pytest.approx(math.log(2))
    loss = towards(torch.tensor([0.0, 1.0]), torch.tensor([0.7, 1.2]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.e) - 1.2) / 2)
    high = [towards(torch.tensor([score]), torch.tensor([1.2])).item() for score in (1.0, 5.0, 25.0)]
    assert high[0] > high[1] > high[2] == pytest.approx(-5.0)


def test_a_feature_distance_by_hand():
    fakes = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert feature_distance(fakes, torch.tensor([1.0, 0.0])).item() == 1 + 4


def test_a_noisy_vector_is_believed_as_far_as_it_stands_out():
    told, known = torch.tensor([3.0, 0.0, 4.0, 1.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    # 5 away in 4 coordinates: a variance of v takes the share 2 v / 25 of the way
    torch.testing.assert_close(told_apart(told, known, variance=0.0), told)
    wanted = torch.tensor([1.5, 0.0, 2.0, 1.0])
    torch.testing.assert_close(told_apart(told, known, variance=6.25), wanted)
    assert torch.equal(told_apart(told, known, variance=13.0), known)
    assert torch.equal(told_apart(known, known, variance=1.0), known)


def test_believing_a_noisy_mean_brings_it_nearer_to_the_truth():
    dice = torch.Generator().manual_seed(0)
    truth, fakes = torch.full((64,), 0.3), torch.zeros(64)
    noisy = truth + torch.randn(200, 64, generator=dice)
    believed = torch.stack([told_apart(one, fakes, variance=1.0) for one in noisy])
    assert (believed - truth).square().sum(1).mean() < 0.2 * (noisy - truth).square().sum(1).mean()


@pytest.mark.parametrize("n", [1, 5])
def test_the_penalty_of_a_linear_critic_is_known(n):
    """f(x) = 3 x_0 + 4 x_1 has a gradient of length 5 everywhere: 16."""
    slope = torch.zeros(2, 4, 4)
    slope[0, 0, 0], slope[1, 2, 3] = 3.0, 4.0
    real, fakes = torch.rand(2, n, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    penalty = gradient_penalty(lambda x: (x * slope).sum((1, 2, 3)), real, fakes, torch.Generator())
    assert penalty.item() == pytest.approx(16)


@pytest.fixture
def game(pooled):
    """Build a game of two patches a unit."""

    def build(**recipe):
        return GanRecipe(pooled(recipe=recipe))._game

    return build


@pytest.mark.parametrize("penalty", [0.0, 7.0])
def test_the_wasserstein_critics_loss_is_scores_and_penalty(game, pooled, penalty):
    played = game(name="wgan-gp", penalty=penalty, normalisation="spectral")
    [patches] = units_of(pooled(), 1)
    loss = played.private(patches, public_generator("dice"))["critic"]
    dice = public_generator("dice")
    fakes = played.generator.draw(8, dice)[:2].detach()
    share = torch.rand(2, 1, 1, 1, generator=dice)
    between = (share * patches + (1 - share) * fakes).requires_grad_()
    (slopes,) = torch.autograd.grad(played.critic(between).sum(), between)
    apart = ((slopes.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    wanted = -played.critic(patches).mean() + penalty * apart
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert (played.shown == ("critic",)) == (penalty == 0)


def test_real_targets_are_drawn_for_each_patch_between_the_bounds(game, pooled):
    played = game(name="dcgan", label_smoothing=[0.5, 1.5], minibatch_kernels=0)
    [patches] = units_of(pooled(), 1, patches=4)
    loss = played.private(patches, public_generator("dice"))["critic"]
    targets = 0.5 + torch.rand(4, generator=public_generator("dice"))
    scores = played.critic(patches)
    wanted = (torch.nn.functional.softplus(scores) - targets * scores).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert len(set(targets.tolist())) == 4


def test_a_statistic_is_the_mean_of_units_weighted_by_what_the_clip_left(game, pooled):
    """The ratio undoes the clip's shrinking; where the ones drown in noise there is no matching."""
    played = game(name="dcgan", feature_matching=3.0)
    units = units_of(pooled(), 2)
    with torch.no_grad():
        told = [played.statistic(patches) for patches in units]
        features = [played.critic.judge(patches)[1].mean(0) for patches in units]
    assert torch.stack(told).norm(dim=1).max() < 1.0, "it leaves most of a clip of 1 to the gradient"
    clipped = 0.2 * told[0] + 0.6 * told[1]
    dice = [public_generator("dice") for _ in range(3)]
    matched = played.free(dice[0], clipped)["generator"]
    drowned = clipped.clone()
    drowned[-32:] = clipped[0] / 2.9
    unheard = played.free(dice[1], drowned)["generator"]
    with torch.no_grad():
        fakes = played.critic.judge(played.generator.draw(4, dice[2]), 2)[1].mean(0)
    mean = (0.2 * features[0] + 0.6 * features[1]) / 0.8
    assert (matched - unheard).item() == pytest.approx(3 * ((mean - fakes) ** 2).sum().item(), rel=1e-4)


def test_no_matching_asks_no_statistic(game):
    played = game(name="dcgan", feature_matching=0.0)
    assert played.statistics == 0
    assert game(name="dcgan").statistics == 1 + 8 + 32  # width 4, doubled once; zeros


def test_spectral_norms_are_bounded_from_the_first_weights_on(game):
    played = game(name="wgan-gp", normalisation="spectral")
    with torch.no_grad():
        for weight in played.critic.parameters():
            weight.mul_(50)
    played.constrain()
    norms = [float(spectral_norm(weight)) for weight in played.critic.parameters() if weight.ndim > 1]
    np.testing.assert_allclose(norms, 2.0, rtol=1e-4)
    instance = game(name="wgan-gp")
    before = instance.critic.score.weight.clone()
    instance.constrain()
    assert torch.equal(instance.critic.score.weight, before)
