"""A release's network as one program for other engines: ONNX, or what ``torch.export`` saves.

Whoever runs it throws the dice: a latent vector, and for some networks a texture, are its inputs (normal
variates). Only a release whose pairs come from a network alone can be converted.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from willis.shared.errors import ReleaseError, StateError, Unreachable
from willis.shared.recipes.network_sampler import LatentSource, NetworkSampler
from willis.shared.release import GeneratorRelease
from willis.shared.release_bundle.bundle_configs import drawing_of, network_class
from willis.shared.whole_file import check_place, write_whole

Form = Literal["onnx", "pt2"]

_EXAMPLES = 2  # pairs that the program is traced with; it takes any number


class _LabelledNetwork(nn.Module):
    """A generator whose label channel is -1 or 1."""

    def __init__(self, network: nn.Module, threshold: float) -> None:
        super().__init__()
        self.network = network
        self._threshold = threshold

    def forward(self, *fed: Tensor) -> Tensor:
        patches = self.network(*fed)
        label = torch.where(patches[:, -1:] > self._threshold, 1.0, -1.0)
        return torch.cat([patches[:, :-1], label], dim=1)


def convert_release(release: GeneratorRelease, path: Path, *, form: Form) -> Path:
    """Write a release's network as one file; the privacy sentence and ``drawing.json`` travel in it.

    Inputs: ``latent``, float32 (n, latent), and for recipes dp-wgan and dp-merf ``texture``, float32
    (n, 1, *size); standard normal. Output: ``pairs``, float32 (n, channel, *size): the image in [-1, 1], then
    the label, -1 or 1. Any n.

    Args:
        release: Whose.
        path: Of a file that is not there yet.
        form: ``onnx`` (run by onnxruntime and others) or ``pt2`` (``torch.export.load``).

    Raises:
        ReleaseError: The recipe draws by a procedure, not by a network alone.
        StateError: The file is there already, or cannot be written.
        Unreachable: ``onnx`` is asked for and its libraries are not installed.
    """
    sampler = release.sampler()
    if network_class(sampler) is None or not isinstance(sampler, NetworkSampler):
        raise ReleaseError(
            f"recipe {release.study.recipe.name} draws by a procedure, not by a network alone: no program "
            "holds it; take pairs from `willis synthesize` or the release's script"
        )
    if path.exists():
        raise StateError(f"{path} is there already; name another file")
    check_place(path)
    about = drawing_of(release.sheet, sampler)
    whole = _LabelledNetwork(sampler.network, about["threshold"]).eval()
    inputs = _inputs(release, texture=isinstance(sampler.source, LatentSource))
    told = {"privacy": release.spent.sentence(), "drawing": json.dumps(about), "release": release.digest}
    data = _onnx(whole, inputs, told) if form == "onnx" else _exported(whole, inputs, told)
    write_whole(path, data)
    return path


def _inputs(release: GeneratorRelease, *, texture: bool) -> dict[str, Tensor]:
    dice = torch.Generator().manual_seed(0)
    inputs = {"latent": torch.randn((_EXAMPLES, release.study.networks.latent), generator=dice)}
    if texture:
        inputs["texture"] = torch.randn((_EXAMPLES, 1, *release.study.patch.size), generator=dice)
    return inputs


def _program(whole: nn.Module, inputs: dict[str, Tensor]) -> torch.export.ExportedProgram:
    """Trace the network, with gradients on: without them a folded convolution asks how many pairs there are.

    Then the program would be for that number, and torch refuses to take any.
    """
    pairs = torch.export.Dim("pairs", min=1)
    shapes = (tuple({0: pairs} for _ in inputs),)  # one for all that forward is fed
    with torch.enable_grad():
        return torch.export.export(whole, tuple(inputs.values()), dynamic_shapes=shapes)


def _exported(whole: nn.Module, inputs: dict[str, Tensor], told: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with _quiet():
        torch.export.save(_program(whole, inputs), data, extra_files=dict(told))
    return data.getvalue()


def _onnx(whole: nn.Module, inputs: dict[str, Tensor], told: dict[str, str]) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as fault:
        raise Unreachable(
            f"ONNX needs {fault.name}, which is not installed: pip install 'willis[onnx]'"
        ) from fault
    with _quiet():
        made = torch.onnx.export(
            _program(whole, inputs),
            input_names=list(inputs),
            output_names=["pairs"],
            dynamo=True,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from telling which of its own parts it misses or renames."""
    registry = logging.getLogger("torch.onnx")
    before = registry.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registry.setLevel(logging.ERROR)
        try:
            yield
        finally:
            registry.setLevel(before)
