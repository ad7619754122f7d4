"""Train a warm start on prior draws: public, epsilon 0, shipped in ``willis.shared.pretrained``.

No private record is near: the generator and a critic of its own see draws of the procedural prior alone,
with the hinge loss (Miyato 2018, equations 16 and 17) and the projection of ``networks.critic``. Only the
generator is kept. The private critic is a fresh one and may be smaller: the length of the noise on its
gradient grows with the root of its number of parameters.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn

from willis.shared.errors import StudyError
from willis.shared.networks.build import build_critic, build_generator, choose_device, public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.start import shipped_weights
from willis.shared.prior_draws import draw_prior
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
        critic_width: Channels of the first layer of the critic used here.
        critic_first: The generator stands still in so many first steps: a fresh critic undoes a warm start.
        start: A shipped warm start to go on from, of half this size: same channels, width and depth.
        ema: Weight of the past in the exponential mean of the generator's weights that is shipped.
    """

    draws: int = Field(default=12_000, ge=1)
    steps: int = Field(default=6_000, ge=1)
    batch: int = Field(default=32, ge=1)
    critic_lr: float = Field(default=1e-3, gt=0)
    generator_lr: float = Field(default=5e-4, gt=0)
    critic_width: int = Field(default=24, ge=1)
    critic_first: int = Field(default=0, ge=0)
    start: str = "none"
    ema: float = Field(default=0.99, ge=0, lt=1)


def pretrain(
    study: Study, recipe: Recipe, *, progress: Progress = lambda done, of: None
) -> dict[str, Tensor]:
    """Return the generator's weights by name: their exponential mean over the steps."""
    device = choose_device(study.training.device)
    dice = public_generator(study.seed, "pretraining")
    patches = draw_prior(study, recipe.draws, purpose="pretraining")
    generator, mean = build_generator(study).to(device), build_generator(study).to(device)
    networks = study.networks.model_copy(update={"critic_width": recipe.critic_width})
    critic = build_critic(study.model_copy(update={"networks": networks})).to(device)
    if recipe.start != "none":
        weights = enlarge(shipped_weights(recipe.start), study)
        generator.load_state_dict(weights)
        mean.load_state_dict(weights)
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
        progress(step, recipe.steps)
        if step <= recipe.critic_first:
            continue
        with precision:
            loss = -critic(fake).float().mean()
        _descend(loss, generator_steps)
        _follow(mean, generator, recipe.ema)
    return {key: value.detach().cpu() for key, value in mean.state_dict().items()}


def enlarge(weights: dict[str, Tensor], study: Study) -> dict[str, Tensor]:
    """Return a warm start's weights for patches of twice the side: the seed tiled, all else as it is.

    Raises:
        StudyError: The warm start is not for patches of half the study's side.
    """
    axes, depth = len(study.patch.size), 2**study.networks.depth
    small = [side // depth // 2 for side in study.patch.size]
    wanted, found = (study.networks.generator_width * depth, *small), weights["seed.bias"].shape
    if math.prod(found) != math.prod(wanted) or any(side % (2 * depth) for side in study.patch.size):
        raise StudyError(
            f"recipe.start must be a warm start for patches of half of {study.patch.size} and of the same "
            f"[networks]: its seed has shape {tuple(found)}, wanted are "
            f"{' x '.join(map(str, wanted))} numbers"
        )
    out = dict(weights)
    for key in ("seed.weight", "seed.bias"):
        columns = weights[key].reshape(weights[key].shape[0], -1).mT  # (latent or 1, channel * field)
        field = columns.reshape(len(columns), -1, *small)
        tiled = field.repeat(1, 1, *[2] * axes).flatten(1).mT
        out[key] = tiled.reshape(-1, *weights[key].shape[1:]).contiguous()
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
