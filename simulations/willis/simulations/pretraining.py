"""Train a warm start on prior draws: public, epsilon 0, shipped in ``willis.shared.pretrained``.

No private record is near: the critic and the generator see draws of the procedural prior alone, with the
hinge loss (Miyato 2018, equations 16 and 17) and the critic's projection of ``networks.critic``.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from willis.shared.networks.build import build_critic, build_generator, choose_device, public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.start import shipped_weights
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.settings import Settings
from willis.shared.study import Study


Progress = Callable[[int, int], None]


class Recipe(Settings):
    """How a warm start is trained.

    Attributes:
        draws: Prior draws; each is seen many times, flipped at random.
        steps: Generator steps, with one critic step each.
        batch: Patches in a step.
        critic_lr: Adam's learning rate of the critic, betas (0, 0.9).
        generator_lr: The same of the generator.
        start: A shipped warm start to go on from, of half this size: same channels, widths and depth.
        ema: Weight of the past in the exponential mean of the generator's weights that is shipped.
    """

    draws: int = 12_000
    steps: int = 6_000
    batch: int = 32
    critic_lr: float = 1e-3
    generator_lr: float = 5e-4
    start: str = "none"
    ema: float = 0.99


def draw_prior(study: Study, n: int, *, purpose: str) -> LabelledPatches:
    """Draw n patches of the study's prior from its public seed."""
    seed = public_generator(study.seed, "prior", purpose).initial_seed()
    return draw_patches(
        study.prior.family, n=n, size=study.patch.size, generator=np.random.default_rng(seed), ranges=study.prior.ranges
    )


def pretrain(study: Study, recipe: Recipe, *, progress: Progress = lambda done, of: None) -> dict[str, Tensor]:
    """Return weights by name, ``generator.*`` (the mean over steps) and ``critic.*``."""
    device = choose_device(study.training.device)
    dice = public_generator(study.seed, "pretraining")
    patches = draw_prior(study, recipe.draws, purpose="pretraining")
    generator, mean = build_generator(study).to(device), build_generator(study).to(device)
    critic = build_critic(study).to(device)
    if recipe.start != "none":
        weights = enlarge(shipped_weights(recipe.start), study)
        for part, network in (("generator", generator), ("generator", mean), ("critic", critic)):
            network.load_state_dict({key: weights[f"{part}.{key}"] for key in network.state_dict()})
    generator_steps = torch.optim.Adam(generator.parameters(), recipe.generator_lr, betas=(0.0, 0.9))
    critic_steps = torch.optim.Adam(critic.parameters(), recipe.critic_lr, betas=(0.0, 0.9))
    precision = torch.autocast(device.type, torch.bfloat16, enabled=study.training.precision == "bfloat16")
    for step in range(1, recipe.steps + 1):
        real = _batch(patches, recipe.batch, dice).to(device)
        with precision:
            fake = generator.draw(recipe.batch, dice)
            on_real, on_fake = critic(real).float(), critic(fake.detach()).float()
        _descend(torch.relu(1 - on_real).mean() + torch.relu(1 + on_fake).mean(), critic_steps)
        project(critic, study.networks)
        with precision:
            loss = -critic(fake).float().mean()
        _descend(loss, generator_steps)
        _follow(mean, generator, recipe.ema)
        progress(step, recipe.steps)
    parts = {"generator": mean, "critic": critic}
    return {
        f"{part}.{key}": value.detach().cpu()
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }


def enlarge(weights: dict[str, Tensor], study: Study) -> dict[str, Tensor]:
    """Return a warm start's weights for patches of twice the side: convolutions as they are, ends tiled.

    The generator's seed is repeated along every axis; the critic's score is spread over the larger field,
    so that it stays the mean of what it was on the tiles.
    """
    depth, axes = 2**study.networks.depth, len(study.patch.size)
    small = [side // depth // 2 for side in study.patch.size]
    out = dict(weights)
    for key in ("generator.seed.weight", "generator.seed.bias"):
        field = weights[key].T.reshape(-1, weights[key].shape[0] // math.prod(small), *small)
        tiled = field.repeat(1, 1, *[2] * axes).flatten(1)
        out[key] = tiled.T.contiguous() if key.endswith("weight") else tiled[0]
    field = weights["critic.score.weight"].reshape(-1, *small)
    out["critic.score.weight"] = (field.repeat(1, *[2] * axes) / 2**axes).reshape(1, -1)
    return out


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
