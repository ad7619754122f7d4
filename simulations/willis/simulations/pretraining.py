"""Train a warm start on prior draws: public, epsilon 0, shipped in ``willis.shared.pretrained``.

No private record is near: the critic and the generator see draws of the procedural prior alone, with the
hinge loss (Miyato 2018, equations 16 and 17) and the critic's projection of ``networks.critic``.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from willis.shared.networks.build import build_critic, build_generator, choose_device, public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.generator import Generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.settings import Settings
from willis.shared.study import Study


class Recipe(Settings):
    """How a warm start is trained.

    Attributes:
        draws: Prior draws; each is seen many times, flipped at random.
        steps: Generator steps, with one critic step each.
        batch: Patches in a step.
        critic_lr: Adam's learning rate of the critic, betas (0, 0.9).
        generator_lr: The same of the generator.
        ema: Weight of the past in the exponential mean of the generator's weights that is shipped.
    """

    draws: int = 20_000
    steps: int = 4_000
    batch: int = 32
    critic_lr: float = 4e-4
    generator_lr: float = 2e-4
    ema: float = 0.995


def draw_prior(study: Study, n: int, *, purpose: str) -> LabelledPatches:
    """Draw n patches of the study's prior from its public seed."""
    seed = public_generator(study.seed, "prior", purpose).initial_seed()
    return draw_patches(
        study.prior.family, n=n, size=study.patch.size, generator=np.random.default_rng(seed), ranges=study.prior.ranges
    )


def pretrain(
    study: Study, recipe: Recipe, *, progress: Callable[[int, Generator], None] = lambda step, generator: None
) -> dict[str, Tensor]:
    """Return weights by name, ``generator.*`` (the mean over steps) and ``critic.*``."""
    device = choose_device(study.training.device)
    dice = public_generator(study.seed, "pretraining")
    patches = draw_prior(study, recipe.draws, purpose="pretraining")
    generator, mean, critic = (build(study).to(device) for build in (build_generator, build_generator, build_critic))
    generator_steps = torch.optim.Adam(generator.parameters(), recipe.generator_lr, betas=(0.0, 0.9))
    critic_steps = torch.optim.Adam(critic.parameters(), recipe.critic_lr, betas=(0.0, 0.9))
    precision = torch.autocast(device.type, torch.bfloat16, enabled=study.training.precision == "bfloat16")
    for step in range(recipe.steps):
        real = _batch(patches, recipe.batch, dice).to(device)
        with precision:
            fake = generator.draw(recipe.batch, dice)
            loss = torch.relu(1 - critic(real)).mean() + torch.relu(1 + critic(fake.detach())).mean()
        _descend(loss, critic_steps)
        project(critic, study.networks.constraint, weight_clip=study.networks.weight_clip)
        with precision:
            loss = -critic(generator.draw(recipe.batch, dice)).mean()
        _descend(loss, generator_steps)
        _follow(mean, generator, recipe.ema)
        progress(step, mean)
    parts = {"generator": mean, "critic": critic}
    return {f"{part}.{key}": value.cpu() for part, net in parts.items() for key, value in net.state_dict().items()}


def ship(name: str, weights: dict[str, Tensor], *, study: Study, recipe: Recipe, folder: Path) -> Path:
    """Write NAME.safetensors (half precision) and NAME.json (digest, recipe) into a folder."""
    data = save({key: value.half().contiguous() for key, value in weights.items()})
    (folder / f"{name}.safetensors").write_bytes(data)
    description = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "epsilon": 0.0,
        "made_of": "draws of the procedural prior; no private record",
        "prior": study.prior.model_dump(mode="json"),
        "patch": study.patch.model_dump(mode="json"),
        "networks": study.networks.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "seed": study.seed,
        "torch": torch.__version__,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return path


def _batch(patches: Tensor, n: int, dice: torch.Generator) -> Tensor:
    chosen = patches[torch.randint(len(patches), (n,), generator=dice)].float()
    for axis in range(2, chosen.ndim):
        flipped = torch.rand(n, generator=dice) < 0.5
        chosen[flipped] = chosen[flipped].flip(axis)
    return chosen


def _descend(loss: Tensor, steps: torch.optim.Optimizer) -> None:
    steps.zero_grad(set_to_none=True)
    loss.backward()
    steps.step()


@torch.no_grad()
def _follow(mean: nn.Module, network: nn.Module, weight: float) -> None:
    for slow, fast in zip(mean.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - weight)
