"""The same step on a GPU; run by `make test-gpu` where there is one."""

import numpy as np
import pytest
import torch

from willis.client.chance import Chance
from willis.client.critic_step import private_critic_gradient
from willis.client.randomness import SecretRandom
from willis.client.store import FORMAT, Index, PatchStore
from willis.shared.networks.build import build_critic, build_generator, choose_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this torch finds no CUDA device"),
]


@pytest.fixture
def study(tiny_study):
    return tiny_study(
        patch={"size": [96, 96], "per_subject": 16},
        networks={"critic_width": 96, "generator_width": 16, "depth": 4},
        training={"patches_per_bag": 16, "device": "auto"},
        privacy={"sampling_rate": 1.0},
    )


def gradient(study, device, *, precision="float32"):
    """One private step's gradient, noise and all, under a fixed key."""
    plan = study.model_copy(update={"training": study.training.model_copy(update={"precision": precision})})
    patches = np.random.default_rng(0).uniform(-1, 1, (4 * 16, 2, 96, 96)).astype(np.float16)
    index = Index(
        format=FORMAT,
        key="0" * 64,
        spec=study.patch,
        spec_digest="0" * 64,
        n_subjects=4,
        patches=f"patches-{'0' * 16}.npy",
    )
    with torch.no_grad():
        fakes = build_generator(study).to(device).draw(8, torch.Generator().manual_seed(0))
    parts = private_critic_gradient(
        build_critic(study).to(device),
        fakes,
        store=PatchStore(index, patches),
        study=plan,
        declared_subjects=4,
        noise_multiplier=0.5,
        chance=Chance.keyed(SecretRandom(bytes(32))),
    )
    return torch.cat([part.flatten().cpu() for part in parts])


def test_auto_takes_cuda():
    assert choose_device("auto").type == "cuda"


def test_a_private_step_on_the_gpu_equals_the_cpu(study):
    on_cpu, on_gpu = gradient(study, torch.device("cpu")), gradient(study, torch.device("cuda"))
    assert torch.linalg.vector_norm(on_gpu - on_cpu) <= 2e-3 * torch.linalg.vector_norm(on_cpu)


def test_bfloat16_on_the_gpu_is_close(study):
    device = torch.device("cuda")
    whole, half = gradient(study, device), gradient(study, device, precision="bfloat16")
    assert torch.linalg.vector_norm(half - whole) <= 0.1 * torch.linalg.vector_norm(whole)
