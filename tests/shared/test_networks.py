"""Networks: shapes, no statistic over the batch, the projection, one seed one network, warm starts."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import save

from willis.shared.errors import StudyError, Unreachable
from willis.shared.networks import start
from willis.shared.networks.build import build_critic, build_generator, choose_device, public_generator
from willis.shared.networks.critic import Critic, project, spectral_norm
from willis.shared.networks.generator import Generator
from willis.shared.study import NetworkPlan

SIZES = pytest.mark.parametrize("size", [(16, 24), (8, 16, 8)], ids=["2-D", "3-D"])


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_generator(size: tuple[int, ...]) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Generator(latent=5, size=size, channels=3, width=4, depth=2)


def a_critic(size: tuple[int, ...]) -> Critic:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Critic(size=size, channels=3, width=4, depth=2)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@SIZES
def test_generator_makes_patches_of_the_asked_shape_within_bounds(size):
    patches = a_generator(size).draw(6, dice())
    assert patches.shape == (6, 3, *size)
    assert bool((patches.abs() < 1).all())
    assert float(patches.detach().std(dim=0).mean()) > 0, "patches differ"


@SIZES
def test_critic_gives_one_score_a_patch(size):
    scores = a_critic(size)(a_generator(size).draw(6, dice()))
    assert scores.shape == (6,)
    assert len(set(scores.tolist())) == 6


@SIZES
def test_no_score_depends_on_the_other_patches_of_the_batch(size):
    critic, patches = a_critic(size), a_generator(size).draw(4, dice())
    alone = torch.cat([critic(patch[None]) for patch in patches])
    torch.testing.assert_close(critic(patches), alone, atol=1e-5, rtol=1e-5)


@SIZES
def test_no_generated_patch_depends_on_the_other_patches_of_the_batch(size):
    generator = a_generator(size)
    latent = torch.randn((4, 5), generator=dice())
    texture = torch.randn((4, 1, *size), generator=dice(1))
    alone = torch.cat([generator(latent[i : i + 1], texture[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(generator(latent, texture), alone, atol=1e-5, rtol=1e-5)


@SIZES
def test_texture_moves_the_image_and_never_the_label(size):
    generator = a_generator(size)
    latent = torch.randn((2, 5), generator=dice())
    one, other = (generator(latent, torch.randn((2, 1, *size), generator=dice(seed))) for seed in (1, 2))
    assert torch.equal(one[:, -1], other[:, -1])
    assert not torch.equal(one[:, 0], other[:, 0])


@pytest.mark.parametrize("kind", [Critic, Generator])
def test_a_size_that_cannot_be_halved_is_refused_with_its_value(kind):
    more = {"latent": 4} if kind is Generator else {}
    with pytest.raises(ValueError, match=r"multiples of 2 \*\* depth = 4, got \(16, 18\)"):
        kind(size=(16, 18), channels=2, width=2, depth=2, **more)


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 9),
    size=st.floats(1e-3, 50),
    seed=st.integers(0, 2**31),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_spectral_norm_is_that_of_linalg_for_any_shape(rows, columns, size, seed):
    weight = size * torch.randn((rows, columns, 3), generator=dice(seed))
    witness = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(spectral_norm(weight), witness, rtol=1e-4, atol=1e-6)


def test_projection_brings_every_layer_within_the_bound_and_leaves_what_is_within():
    critic = a_critic((16, 16))
    first, last = critic.get_parameter("features.0.weight"), critic.get_parameter("score.weight")
    with torch.no_grad():
        first.mul_(100)
        last.mul_(0.01)
    small, biases = last.clone(), [p.clone() for p in critic.parameters() if p.ndim == 1]
    direction = torch.nn.functional.normalize(first.detach().flatten(), dim=0)
    project(critic, NetworkPlan(spectral_bound=1.5))
    for weight in (p for p in critic.parameters() if p.ndim > 1):
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), ord=2)) <= 1.5 * (1 + 1e-5)
    assert float(torch.linalg.matrix_norm(first.detach().flatten(1), ord=2)) == pytest.approx(1.5, rel=1e-5)
    torch.testing.assert_close(torch.nn.functional.normalize(first.detach().flatten(), dim=0), direction)
    assert torch.equal(last, small)
    assert all(
        torch.equal(p, q)
        for p, q in zip((p for p in critic.parameters() if p.ndim == 1), biases, strict=True)
    )


def test_weight_clip_clamps_every_weight_and_bias():
    critic = a_critic((16, 16))
    before = [parameter.detach().clone() for parameter in critic.parameters()]
    project(critic, NetworkPlan(constraint="weight-clip", weight_clip=0.02))
    for parameter, old in zip(critic.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.02, 0.02))
    assert max(float(old.abs().max()) for old in before) > 0.02, "there was something to clip"


def test_draw_repeats_under_equal_dice_and_differs_under_others():
    generator = a_generator((16, 16))
    one, again, other = (generator.draw(3, dice(seed)) for seed in (7, 7, 8))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_one_public_seed_builds_one_network_and_leaves_torchs_own_dice_alone(tiny_study):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    study = tiny_study()
    assert same_weights(build_generator(study), build_generator(study))
    assert same_weights(build_critic(study), build_critic(study))
    assert torch.equal(torch.rand(1), expected)
    assert not same_weights(build_generator(study), build_generator(tiny_study(seed=2)))


def test_networks_built_in_many_threads_are_those_of_one(tiny_study):
    study = tiny_study()
    wanted = build_generator(study), build_critic(study)
    with ThreadPoolExecutor(4) as pool:
        generators = [pool.submit(build_generator, study) for _ in range(12)]
        critics = [pool.submit(build_critic, study) for _ in range(12)]
    assert all(same_weights(built.result(), wanted[0]) for built in generators)
    assert all(same_weights(built.result(), wanted[1]) for built in critics)


def test_public_generator_is_named_by_its_parts_and_their_order():
    def first(*parts):
        return torch.rand(4, generator=public_generator(*parts)).tolist()

    assert first(1, "site-a", 2) == first(1, "site-a", 2)
    assert len({tuple(first(*parts)) for parts in [(1, "a", 2), (2, "a", 1), (1, "b", 2), (1, "a", 3)]}) == 4
    # The witness: the first eight bytes of the SHA-256 of "1/site-a/2", without the lowest bit.
    seed = int(hashlib.sha256(b"1/site-a/2").hexdigest()[:16], 16) // 2
    assert public_generator(1, "site-a", 2).initial_seed() == seed


@pytest.mark.parametrize("there", [True, False])
def test_device_auto_takes_cuda_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device("auto").type == ("cuda" if there else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unreachable, match='finds no CUDA device; use "auto" or "cpu"'):
        choose_device("cuda")
    for asked_by, what in (((), "training.device"), (("--device",), "--device")):
        with pytest.raises(Unreachable, match=f'^{what} is "cuda"'):
            choose_device("cuda", *asked_by)


@pytest.fixture
def shipped(tiny_study, tmp_path, monkeypatch):
    """A folder with one warm start, ``tiny-16``; returns its weights."""
    weights = build_generator(tiny_study(seed=9)).state_dict()
    data = save(weights)
    (tmp_path / "tiny-16.safetensors").write_bytes(data)
    (tmp_path / "tiny-16.json").write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
    monkeypatch.setattr(start, "_shipped", lambda: tmp_path)
    return weights


def test_a_warm_start_gives_its_weights_to_the_generator(tiny_study, shipped):
    study = tiny_study(training={"warm_start": "tiny-16"})
    assert start.warm_starts() == ("tiny-16",)
    found = start.initial_generator(study).state_dict()
    assert found.keys() == shipped.keys()
    assert all(torch.equal(value, shipped[key]) for key, value in found.items())


def test_without_a_warm_start_weights_are_fresh(tiny_study):
    study = tiny_study()
    fresh = build_generator(study)
    assert same_weights(start.initial_generator(study), fresh)
    arrays = start.arrays_of(fresh)
    assert {name: torch.from_numpy(value).shape for name, value in arrays.items()} == {
        name: value.shape for name, value in fresh.state_dict().items()
    }


def test_an_unknown_warm_start_is_refused_with_the_known_ones(tiny_study, shipped):
    with pytest.raises(StudyError, match='unknown "tiny-17"; known: none, tiny-16'):
        start.initial_generator(tiny_study(training={"warm_start": "tiny-17"}))


def test_a_damaged_warm_start_is_refused(tiny_study, shipped, tmp_path):
    data = bytearray((tmp_path / "tiny-16.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "tiny-16.safetensors").write_bytes(data)
    with pytest.raises(StudyError, match=r"tiny-16 is damaged: sha256 [0-9a-f]{64}, its recipe says"):
        start.initial_generator(tiny_study(training={"warm_start": "tiny-16"}))


@pytest.mark.parametrize(
    "change",
    [
        {"patch": {"size": [32, 16]}},
        {"patch": {"channels": ["red", "green"]}},
        {"networks": {"generator_width": 8}},
        {"networks": {"latent": 9}},
    ],
)
def test_a_warm_start_of_another_architecture_is_refused(tiny_study, shipped, change):
    study = tiny_study(training={"warm_start": "tiny-16"}, **change)
    with pytest.raises(StudyError, match=r'"tiny-16" does not fit the study.*first difference: '):
        start.initial_generator(study)
