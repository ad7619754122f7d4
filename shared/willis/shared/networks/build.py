"""From a study to its networks."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from willis.shared.errors import Unreachable
from willis.shared.networks.critic import Critic
from willis.shared.networks.generator import Generator
from willis.shared.study import Study

_TORCH_DICE = threading.Lock()  # torch draws first weights from one generator for all threads


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Let torch's own dice, which throw a new layer's weights, start from a seed; they are put back after."""
    with _TORCH_DICE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_generator(study: Study) -> Generator:
    """Return the study's generator with weights drawn from its public seed."""
    with weights_from(study.seed):
        return Generator(
            latent=study.networks.latent,
            size=study.patch.size,
            channels=study.patch.n_channels,
            width=study.networks.generator_width,
            depth=study.networks.depth,
        )


def build_critic(study: Study) -> Critic:
    """Return the study's critic with weights drawn from its public seed."""
    with weights_from(study.seed + 1):
        return Critic(
            size=study.patch.size,
            channels=study.patch.n_channels,
            width=study.networks.critic_width,
            depth=study.networks.depth,
        )


def choose_device(wish: str, asked_by: str = "training.device") -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Args:
        wish: Which.
        asked_by: Key, option or argument that holds the wish: what to change where it cannot be met.

    Raises:
        Unreachable: CUDA is asked for and there is none.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wish == "cuda" and not torch.cuda.is_available():
        raise Unreachable(f'{asked_by} is "cuda" and this torch finds no CUDA device; use "auto" or "cpu"')
    return torch.device(wish)


def public_generator(*parts: object) -> torch.Generator:
    """Return a generator of public randomness named by its parts: seed, site, round, purpose."""
    name = "/".join(str(part) for part in parts)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
