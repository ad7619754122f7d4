"""Adapters are subspaces with an orthonormal frame; the flat optimiser is torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from willis.shared.networks.adapters import Adapter, layers
from willis.shared.networks.critic import Critic
from willis.shared.networks.generator import Generator
from willis.shared.networks.refiner import Refiner
from willis.shared.recipes.flat_optimiser import Moments, descent
from willis.shared.study import TrainingPlan

NETWORKS = {
    "critic": Critic(size=(8, 8), channels=2, width=4, depth=2),
    "critic 3-D": Critic(size=(4, 4, 4), channels=2, width=4, depth=1),
    "generator": Generator(latent=8, size=(8, 8), channels=2, width=4, depth=2),
    "refiner": Refiner(channels=2, width=4, dimensions=2, dice=torch.Generator()),
}
CHOICES = ("all", "last-layers", "low-rank", "scale-and-shift")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.sampled_from(CHOICES),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_pull_is_the_transpose_of_push_and_undoes_it(name, choice, rank, last, seed):
    network = NETWORKS[name]
    adapter = Adapter(network, choice, rank=rank, last=last, seed=seed)
    dice = torch.Generator().manual_seed(seed)
    step = torch.randn(adapter.length, generator=dice)
    gradient = {
        key: torch.randn(value.shape, generator=dice)
        for key, value in network.named_parameters()
        if key in adapter.names
    }
    pushed, pulled = adapter.push(step), adapter.pull(gradient)
    assert tuple(pushed) == adapter.names
    inner = sum(float((pushed[key] * gradient[key]).sum()) for key in adapter.names)
    assert inner == pytest.approx(float(step @ pulled), rel=1e-3, abs=1e-2)
    total = float(torch.cat([value.flatten() for value in gradient.values()]).norm())
    assert float(pulled.norm()) <= total * (1 + 1e-5)
    if not (name == "generator" and choice == "scale-and-shift"):
        torch.testing.assert_close(adapter.pull(pushed), step, atol=1e-4, rtol=1e-4)


def test_a_gain_moves_a_row_along_itself():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    adapter = Adapter(nn.ModuleList([network]), "scale-and-shift", rank=1, last=1, seed=0)
    change = adapter.push(torch.tensor([10.0, 7.0, 1.0, 2.0]))
    assert change["0.weight"].tolist() == [[6.0, 8.0], [0.0, 0.0]]  # a row of zeros has no direction
    assert change["0.bias"].tolist() == [1.0, 2.0]


def test_a_fixed_factor_is_of_seed_and_name():
    network = nn.ModuleList([nn.Linear(6, 5), nn.Linear(6, 5)])
    step = torch.ones(2 * 5 * 2)
    first, same, other = (
        Adapter(network, "low-rank", rank=2, last=1, seed=seed).push(step) for seed in (1, 1, 2)
    )
    assert set(first) == {"0.weight", "1.weight"}
    assert torch.equal(first["0.weight"], same["0.weight"])
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert not torch.equal(first["0.weight"], first["1.weight"])


def test_of_a_tall_matrix_the_short_side_is_trained():
    for shape in ((3, 20), (20, 3)):
        adapter = Adapter(nn.ModuleList([nn.Linear(shape[1], shape[0])]), "low-rank", rank=2, last=1, seed=0)
        assert adapter.length == 3 * 2
        change = adapter.push(torch.arange(6.0))["0.weight"]
        assert change.shape == shape
        assert torch.linalg.matrix_rank(change) == 2


def test_layers_by_hand():
    assert [len(layer) for layer in layers(NETWORKS["critic"])] == [2, 2, 2]
    assert layers(NETWORKS["critic"])[-1] == ["score.weight", "score.bias"]
    generator = layers(NETWORKS["generator"])
    assert [layer[0] for layer in generator[:3]] == [
        "seed.weight",
        *(f"doublings.{i}.convolution.weight" for i in (0, 1)),
    ]
    assert {name.split(".")[0] for name in generator[3]} == {"to_image", "to_label"}
    assert [layer[0].rpartition(".")[0] for layer in layers(NETWORKS["refiner"])][:-1] == [
        f"levels.{i}.convolution" for i in range(3)
    ]
    lone = nn.Module()
    lone.gain = nn.Parameter(torch.ones(1))
    assert layers(lone) == [["gain"]]


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
@pytest.mark.parametrize("betas", [(0.0, 0.9), (0.5, 0.999)])
def test_the_optimiser_is_torchs(kind, betas):
    plan = TrainingPlan(rounds=1, optimiser=kind, betas=betas)
    dice = torch.Generator().manual_seed(0)
    theirs = torch.zeros(50, requires_grad=True)
    steps = (
        torch.optim.Adam([theirs], 0.01, betas=betas)
        if kind == "adam"
        else torch.optim.RMSprop([theirs], 0.01)
    )
    ours, moments = torch.zeros(50), Moments.none(50)
    for _ in range(8):
        gradient = torch.randn(50, generator=dice)
        theirs.grad = gradient
        steps.step()
        change, moments = descent(gradient, moments, plan=plan, rate=0.01)
        moments = Moments.read(moments.arrays(), length=50)
        ours = ours + change
        torch.testing.assert_close(ours, theirs.detach(), atol=1e-7, rtol=1e-5)
    assert moments.count == 8


def test_moments_of_another_length_are_refused():
    arrays = Moments.none(3).arrays()
    assert {value.dtype for value in arrays.values()} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match="shapes"):
        Moments.read(arrays, length=4)
    with pytest.raises(ValueError, match="shapes"):
        Moments.read({}, length=3)
