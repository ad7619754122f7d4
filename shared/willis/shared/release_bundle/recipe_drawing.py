"""Draw from what a release's recipe learned; a part of the script that a release carries.

The recipe's own modules lie in a zip beside the script, which Python imports from; they need numpy, scipy,
pydantic and jaxtyping with torch.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def drawer(bundle: Path, about: dict[str, Any], device: str) -> Callable[[int, int, int], Tensor]:
    """Return what draws pairs ``first`` to ``first + n - 1`` of a seed.

    Args:
        bundle: The release's folder.
        about: What ``configs/drawing.json`` says.
        device: Where networks compute, if the recipe has any.
    """
    source = str(bundle / "scripts" / "source.zip")
    if source not in sys.path:
        sys.path.insert(0, source)
    study = importlib.import_module("willis.shared.study").Study
    recipe = getattr(importlib.import_module(about["module"]), about["recipe"])
    sheet = json.loads((bundle / "release.json").read_text(encoding="utf-8"))
    state = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    sampler = recipe(study.model_validate(sheet["study"])).sampler(
        {name: value.numpy() for name, value in state.items()}
    )
    if hasattr(sampler, "to"):
        sampler = sampler.to(torch.device(device))
    return lambda first, n, seed: sampler.draw(first=first, n=n, seed=seed)
