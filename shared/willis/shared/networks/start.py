"""Where training starts from: fresh weights, or weights already trained on prior draws (epsilon 0)."""

import hashlib
import json
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np
import torch
from torch import nn

from willis.shared.errors import StudyError
from willis.shared.networks.build import build_generator
from willis.shared.networks.generator import Generator
from willis.shared.study import Study


def warm_starts() -> tuple[str, ...]:
    """Return the names of the shipped warm starts."""
    return tuple(
        sorted(f.name.removesuffix(".json") for f in _shipped().iterdir() if f.name.endswith(".json"))
    )


def initial_generator(study: Study) -> Generator:
    """Return the generator of round 0.

    Raises:
        StudyError: The warm start is unknown, damaged, or was trained for another architecture.
    """
    generator = build_generator(study)
    name = study.training.warm_start
    if name == "none":
        return generator
    weights = shipped_weights(name)
    wanted = {key: tuple(value.shape) for key, value in generator.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0]
        raise StudyError(
            f'training.warm_start = "{name}" does not fit the study: patch.size, patch.channels and the '
            f"generator's [networks] must be those it was trained with (first difference: {odd[0]} {odd[1]})"
        )
    generator.load_state_dict(weights)
    return generator


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's weights as float32 arrays by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def shipped_weights(name: str) -> dict[str, torch.Tensor]:
    """Return the weights of a shipped warm start, its digest checked.

    Raises:
        StudyError: It is unknown, or its bytes are not those of its recipe.
    """
    from safetensors.torch import load

    if name not in warm_starts():
        raise StudyError(f'training.warm_start: unknown "{name}"; known: none, {", ".join(warm_starts())}')
    recipe = json.loads((_shipped() / f"{name}.json").read_text(encoding="utf-8"))
    data = (_shipped() / f"{name}.safetensors").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != recipe["sha256"]:
        raise StudyError(f"warm start {name} is damaged: sha256 {digest}, its recipe says {recipe['sha256']}")
    return {key: value.float() for key, value in load(data).items()}


def _shipped() -> Traversable:
    return resources.files("willis.shared") / "pretrained"
