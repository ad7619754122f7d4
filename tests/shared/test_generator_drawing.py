"""The generator computes its doublings with fewer products while it draws: the same up to rounding."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from willis.shared.networks import generator as module
from willis.shared.networks.generator import Generator
from willis.shared.release_bundle.script_text import network_script

SIZES = pytest.mark.parametrize("size", [(64, 32), (32, 16, 16)], ids=["2-D", "3-D"])


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_generator(size: tuple[int, ...], width: int = 8) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Generator(latent=5, size=size, channels=2, width=width, depth=2).eval()


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (8, 2), (1, 1, 1), (2, 3, 4), (5, 1, 2)])
def test_a_folded_doubling_is_the_literal_one(sides):
    """The witness: torch's own doubling and convolution, in float64, where rounding cannot hide a mistake."""
    convolution = {2: functional.conv2d, 3: functional.conv3d}[len(sides)]
    kernel = (3,) * len(sides)
    hidden = torch.randn((2, 3, *sides), generator=dice(), dtype=torch.float64)
    weight = torch.randn((4, 3, *kernel), generator=dice(1), dtype=torch.float64)
    bias = torch.randn(4, generator=dice(2), dtype=torch.float64)
    doubled = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
    wanted = convolution(doubled, weight, bias, padding=1)
    found = module._doubled_and_convolved(hidden, weight, bias)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_a_folded_doubling_by_hand():
    # Of pixels 1 and 2, doubled 1 1 2 2 in each of two rows, zeros around. The kernel (1, 10, 100) is the
    # middle row, so each output is left + 10 * here + 100 * right:
    # 0 + 10 + 100, 1 + 10 + 200, 1 + 20 + 200, 2 + 20 + 0.
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1] = torch.tensor([1.0, 10.0, 100.0])
    made = module._doubled_and_convolved(torch.tensor([[[[1.0, 2.0]]]]), weight, torch.zeros(1))
    assert made.tolist() == [[[[110, 211, 221, 22], [110, 211, 221, 22]]]]


@SIZES
def test_drawing_gives_the_patches_of_the_literal_network(size, monkeypatch):
    generator, calls = a_generator(size), []
    folded = module._doubled_and_convolved
    monkeypatch.setattr(module, "_doubled_and_convolved", lambda *some: calls.append(1) or folded(*some))
    literal = generator.draw(8, dice(3)).detach()
    assert calls == []  # somebody may want a gradient
    with torch.no_grad():
        found = generator.draw(8, dice(3))
    assert len(calls) == 2, "both doublings are large enough to be folded"
    torch.testing.assert_close(found, literal, rtol=0, atol=1e-5)


def test_while_it_trains_it_is_literal(monkeypatch):
    generator = a_generator((64, 64)).train()
    monkeypatch.setattr(module, "_doubled_and_convolved", None)
    with torch.no_grad():
        assert generator.draw(2, dice()).shape == (2, 2, 64, 64)


def test_few_pixels_are_not_folded(monkeypatch):
    generator = a_generator((16, 16))  # grids of 4 x 4 and 8 x 8: 3 patches stay below 1024 pixels
    monkeypatch.setattr(module, "_doubled_and_convolved", None)
    with torch.no_grad():
        assert generator.draw(3, dice()).shape == (3, 2, 16, 16)


@SIZES
def test_no_weight_and_no_input_is_changed(size):
    generator = a_generator(size)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    latent, texture = torch.randn((5, 5), generator=dice()), torch.randn((5, 1, *size), generator=dice(1))
    fed = latent.clone(), texture.clone()
    with torch.no_grad():
        once, again = generator(latent, texture), generator(latent, texture)
    assert torch.equal(once, again)
    assert torch.equal(latent, fed[0])
    assert torch.equal(texture, fed[1])
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


@SIZES
def test_the_script_of_a_release_draws_them_too(size):
    script: dict[str, Any] = {"__name__": "script"}
    exec(network_script(Generator), script)
    generator = a_generator(size)
    theirs = script["Generator"](latent=5, size=size, channels=2, width=8, depth=2).eval()
    theirs.load_state_dict(generator.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(theirs.draw(4, dice()), generator.draw(4, dice()), rtol=0, atol=0)
