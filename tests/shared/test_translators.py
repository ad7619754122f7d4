"""The translators and the critic of their images: shapes, no patch that sees another, no checkerboard."""

import pytest
import torch
from monai.networks.nets.basic_unet import BasicUNet
from torch import nn

from willis.shared.networks.patch_critic import PatchCritic
from willis.shared.networks.spade_generator import SpadeGenerator
from willis.shared.networks.translator import Translator


@pytest.fixture(autouse=True)
def _first_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def shown(n: int, *size: int, channels: int = 3) -> torch.Tensor:
    """Maps of two levels with noise."""
    out = torch.randn((n, channels, *size), generator=torch.Generator().manual_seed(1))
    out[:, :2] = torch.where(out[:, :2] > 0, 1.0, -1.0)
    return out


def build(kind: str, *size: int, outputs: int = 1) -> nn.Module:
    if kind == "u-net":
        return Translator(dimensions=len(size), inputs=3, outputs=outputs, width=4)
    if kind == "spade":
        return SpadeGenerator(size=size, levels=2, outputs=outputs, width=4, depth=2)
    return PatchCritic(size=size, channels=3, width=4)


@pytest.mark.parametrize("kind", ["u-net", "spade"])
@pytest.mark.parametrize("size", [(16, 24), (64, 32), (8, 8, 16)])
def test_a_translator_keeps_the_sides_and_the_range(kind, size):
    images = build(kind, *size, outputs=2)(shown(2, *size))
    assert images.shape == (2, 2, *size)
    assert images.abs().max() < 1
    assert images.flatten(1).std(dim=1).min() > 0.01, "it is no constant"


@pytest.mark.parametrize("kind", ["u-net", "spade", "critic"])
@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_no_patch_sees_another(kind, size):
    network, patches = build(kind, *size), shown(3, *size)
    together = network(patches)
    alone = torch.cat([network(one[None]) for one in patches])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["u-net", "spade", "critic"])
def test_what_is_learned_is_all_that_is_stored(kind):
    network = build(kind, 16, 16)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def unevenness(images: torch.Tensor) -> float:
    """How far the mean of even columns and rows is from that of odd ones, in standard deviations."""
    tiles = images.unfold(2, 2, 2).unfold(3, 2, 2)  # the last two axes: place within a 2 x 2 tile
    means = tiles.mean(dim=(2, 3)).flatten(2)
    return float((means.std(dim=2) / images.flatten(2).std(dim=2)).mean())


@pytest.mark.parametrize("kind", ["u-net", "spade"])
def test_fresh_weights_leave_no_checkerboard(kind):
    """The witness is the same U-net with transposed convolutions, which does leave one."""
    smooth = nn.functional.interpolate(shown(2, 4, 4), size=(64, 64), mode="bilinear")
    smooth[:, :2] = torch.where(smooth[:, :2] > 0, 1.0, -1.0)
    with torch.no_grad():
        ours = [unevenness(build(kind, 64, 64)(smooth)) for _ in range(6)]
        features = (4, 4, 8, 16, 32, 4)
        theirs = [unevenness(BasicUNet(2, 3, 1, features=features)(smooth)) for _ in range(6)]
    assert sum(theirs) / 6 > 0.1
    assert sum(ours) / 6 < sum(theirs) / 6 / 2.5


def test_a_spade_generator_knows_the_label_to_the_pixel():
    network, maps = build("spade", 16, 16), shown(1, 16, 16)
    moved = maps.clone()
    moved[0, 1, 7, 9] *= -1
    change = (network(moved) - network(maps)).abs()[0, 0]
    assert change[7, 9] > 4 * change.median()


def test_a_spade_generator_tells_levels_apart():
    network = SpadeGenerator(size=(16, 16), levels=3, outputs=1, width=4, depth=2)
    images = []
    for level in (-1.0, 0.0, 1.0):
        maps = shown(1, 16, 16)
        maps[:, 0] = level
        images.append(network(maps))
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert (images[1] - images[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "pieces"),
    # By hand: halved by the first layer and by all but one of the others, then one pixel less, twice.
    [((64, 64), (6, 6)), ((16, 16), (2, 2)), ((8, 16), (2, 6)), ((8, 8, 8), (2, 2, 2))],
)
def test_a_patch_critic_scores_pieces(size, pieces):
    assert build("critic", *size)(shown(2, *size)).shape == (2, 1, *pieces)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"at least 8 pixels along each axis, got \(16, 7\)"):
        PatchCritic(size=(16, 7), channels=3, width=4)
    with pytest.raises(ValueError, match=r"multiples of 2 \*\* depth = 4, got \(16, 18\)"):
        SpadeGenerator(size=(16, 18), levels=2, outputs=1, width=4, depth=2)
