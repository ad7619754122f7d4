"""Generator and critic of Kossen 2021, against torch's own layers and by hand."""

import pytest
import torch
from torch import nn

from willis.shared.networks.batch_statistics import BatchStatistics
from willis.shared.networks.doubling_generator import DoublingGenerator, _Doubling
from willis.shared.networks.first_weights import drawn
from willis.shared.networks.halving_critic import HalvingCritic, MinibatchDiscrimination, Normalisation


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(size=(96, 96), *, depth=5, kernel=5, width=2) -> DoublingGenerator:
    return DoublingGenerator(
        latent=6, size=size, channels=2, width=width, depth=depth, kernel=kernel, dice=dice()
    )


def critic(
    size=(16, 16), *, depth=3, kernel=5, normalisation: Normalisation = "none", kernels=0
) -> HalvingCritic:
    return HalvingCritic(
        size=size,
        channels=2,
        width=4,
        depth=depth,
        kernel=kernel,
        normalisation=normalisation,
        minibatch_kernels=kernels,
        dice=dice(),
    )


@pytest.mark.parametrize("kernel", [3, 4, 5, 6])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
def test_a_doubling_is_linear_interpolation_and_a_convolution(kernel, shape):
    layer = _Doubling(3, 2, kernel=kernel, dimensions=len(shape), dice=dice())
    nn.init.normal_(layer.convolution.bias, generator=dice(1))
    hidden = torch.randn(2, 3, *shape, generator=dice(2))
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    room = nn.functional.pad(hidden, [4, 4] * len(shape))  # nothing lies beyond the map's border
    doubled = nn.functional.interpolate(room, scale_factor=2.0, mode=mode, align_corners=False)
    before, after = (kernel - 1) // 2, kernel // 2
    for axis in range(2, doubled.ndim):
        doubled = doubled.narrow(axis, 8 - before, 2 * hidden.shape[axis] + before + after)
    wanted = layer.convolution(doubled)
    torch.testing.assert_close(layer(hidden), wanted, atol=1e-5, rtol=1e-5)


def test_the_generator_has_the_papers_six_layers():
    """From 3x3 with 16 ngf channels to 96x96: 16, 8, 4, 2, 1 ngf, and the patch's two channels."""
    made = generator(width=3)
    assert made._seed_shape == (48, 3, 3)
    shapes = [tuple(weight.shape) for weight in made.doublings.parameters() if weight.ndim > 1]
    assert shapes == [(24, 48, 5, 5), (12, 24, 5, 5), (6, 12, 5, 5), (3, 6, 5, 5), (2, 3, 5, 5)]
    drawn_patches = made.draw(3, dice())
    assert drawn_patches.shape == (3, 2, 96, 96)
    assert drawn_patches.abs().max() < 1
    assert generator((8, 16, 24), depth=3).draw(1, dice()).shape == (1, 2, 8, 16, 24)


def nyquist(patches: torch.Tensor) -> float:
    """Power at the Nyquist frequency of the rows, over that of the frequencies beside it."""
    patches = patches.detach()
    power = torch.fft.fft2(patches - patches.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
    half = power.shape[0] // 2
    beside = torch.cat([power[half - 3 : half - 1], power[half + 2 : half + 4]])
    return float(power[half].mean() / beside.mean())


def test_there_is_no_checkerboard_where_a_plain_transposed_convolution_leaves_one():
    made = generator((48, 48), depth=4, width=8)
    assert nyquist(made.draw(32, dice())) < 1.5
    hidden = torch.randn(32, 8, 24, 24, generator=dice()).relu()
    weight = torch.randn(8, 2, 5, 5, generator=dice())
    plain = nn.functional.conv_transpose2d(hidden, weight, stride=2, padding=2, output_padding=1)
    assert nyquist(plain) > 3.0


def test_batch_statistics_are_torchs_and_stand_still():
    ours, theirs = BatchStatistics(3), nn.BatchNorm2d(3, momentum=1.0)
    hidden = 2 + 3 * torch.randn(4, 3, 5, 5, generator=dice())
    torch.testing.assert_close(ours(hidden), theirs(hidden))
    assert torch.equal(ours.mean, torch.zeros(3))
    assert torch.equal(ours.variance, torch.ones(3))
    ours.follows = 1.0
    ours(hidden)
    torch.testing.assert_close(ours.eval()(hidden), theirs.eval()(hidden))
    assert {value.dtype for value in ours.state_dict().values()} == {torch.float32}


def test_settled_statistics_are_the_mean_over_the_batches():
    made = generator((16, 16), depth=2)
    made.settle(dice(5), batches=3, batch=4)
    thrown = dice(5)
    first = [made.seed(torch.randn(4, 6, generator=thrown)).reshape(4, -1, 4, 4) for _ in range(3)]
    wanted = torch.stack([one.mean((0, 2, 3)) for one in first]).mean(0)
    torch.testing.assert_close(made.normalisations[0].mean, wanted)
    held = {name: value.clone() for name, value in made.state_dict().items()}
    made.draw(4, dice())
    assert all(torch.equal(value, held[name]) for name, value in made.state_dict().items())
    alone = made.eval()(torch.ones(1, 6))
    beside = made(torch.cat([torch.ones(1, 6), torch.randn(3, 6, generator=dice())]))
    torch.testing.assert_close(beside[:1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("size", [(16, 24), (8, 8, 16)])
@pytest.mark.parametrize("normalisation", ["none", "instance", "batch"])
def test_the_critic_gives_a_score_and_features_a_patch(kernel, size, normalisation):
    made = critic(size, depth=2, kernel=kernel, normalisation=normalisation, kernels=3)
    scores, features = made.judge(torch.rand(4, 2, *size, generator=dice()), 2)
    assert scores.shape == (4,)
    assert features.shape == (4, made.n_features) == (4, 8)


def test_the_critic_normalises_the_level_between_as_torch_does():
    patches = torch.rand(4, 2, 16, 16, generator=dice())
    for normalisation, theirs in [("batch", nn.BatchNorm2d(8)), ("instance", nn.InstanceNorm2d(8))]:
        made = critic(normalisation=normalisation)
        assert len(made.normalisations) == 1
        hidden = nn.functional.leaky_relu(made.convolutions[0](patches), 0.2)
        hidden = nn.functional.leaky_relu(theirs(made.convolutions[1](hidden)), 0.2)
        hidden = nn.functional.leaky_relu(made.convolutions[2](hidden), 0.2)
        scores, features = made.judge(patches)
        torch.testing.assert_close(features, hidden.mean((2, 3)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores, made.score(hidden.flatten(1))[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["none", "instance", "batch"])
def test_groups_that_are_not_shown_together_do_not_mix(normalisation):
    made = critic(normalisation=normalisation, kernels=3)
    patches = torch.rand(6, 2, 16, 16, generator=dice())
    apart = torch.cat([made(two) for two in patches.split(2)])
    torch.testing.assert_close(made(patches, 2), apart, atol=1e-5, rtol=1e-5)
    assert (made(patches) - apart).abs().max() > 1e-4


def test_minibatch_discrimination_by_hand():
    layer = MinibatchDiscrimination(2, 1, dice=dice())
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0], layer.weight[1, 4] = 1.0, 2.0
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # distances: 1 between the first two, 2 from the first to the third, 3 from the second to the third
    e = [torch.tensor(-float(apart)).exp().item() for apart in (0, 1, 2, 3)]
    wanted = torch.tensor([[(e[1] + e[2]) / 2], [(e[1] + e[3]) / 2], [(e[2] + e[3]) / 2]])
    torch.testing.assert_close(layer(features, 3), wanted)
    assert layer(features[:1], 1).item() == 0, "a patch alone is like no other"


def test_two_equal_patches_are_as_alike_as_can_be():
    layer = MinibatchDiscrimination(8, 4, dice=dice())
    equal = torch.randn(1, 8, generator=dice()).repeat(2, 1)
    torch.testing.assert_close(layer(equal, 2), torch.ones(2, 4))
    far = equal * torch.tensor([[1.0], [-50.0]])
    assert layer(far, 2).max() < 1e-3


def test_first_weights_come_from_the_dice_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other = generator((8, 8), depth=1), generator((8, 8), depth=1)
    critic()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    layer = drawn(nn.Linear(400, 300, device="meta"), dice())
    assert layer.weight.std().item() == pytest.approx((2 / 1.04 / 400) ** 0.5, rel=0.02)
    with pytest.raises(ValueError, match="must have a bias"):
        drawn(nn.Linear(2, 2, bias=False, device="meta"), dice())


@pytest.mark.parametrize("build", [generator, critic])
def test_a_side_that_cannot_be_halved_is_refused(build):
    with pytest.raises(ValueError, match=r"multiples of 2 \*\* depth = 8, got \(12, 16\)"):
        build((12, 16), depth=3)
