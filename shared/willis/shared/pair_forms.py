"""One labelled patch as training code wants it: tensors, a MONAI dictionary, a torchio subject."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import Unreachable
from willis.shared.patch import PatchSpec

Form = Literal["tensor", "monai", "torchio"]

# From a patch (image channels in [-1, 1], then the label, -1 or 1) and its number to what a trainer gets.
Shape = Callable[[Float[Tensor, " channel *space"], int], Any]


def shape_of(form: Form, spec: PatchSpec) -> Shape:
    """Return what brings patches into a form.

    In every form the image is float32 (channel, *space) in [-1, 1], the label float32 (1, *space), 0 or 1.

    * ``tensor``: the tuple (image, label).
    * ``monai``: a dictionary of ``image`` and ``label`` (MetaTensors whose affine holds the spacing),
      ``pair`` (the number) and, where the study knows a spacing, ``spacing_mm`` (a tensor, one an axis).
    * ``torchio``: a Subject of ``image`` (ScalarImage), ``label`` (LabelMap) and ``pair``; a 2-D patch is a
      volume of one slice.

    An affine says 1 where the study knows no spacing.

    Raises:
        ValueError: There is no such form.
        Unreachable: torchio is asked for and not installed.
    """
    if form == "tensor":
        return _tensors
    if form == "monai":
        return partial(_monai_dictionary, spec=spec)
    if form == "torchio":
        if importlib.util.find_spec("torchio") is None:
            raise Unreachable(
                'form is "torchio" and torchio is not installed; run: pip install "torchio>=1.2,<1.3"'
            )
        return partial(_torchio_subject, spec=spec)
    raise ValueError(f'form must be "tensor", "monai" or "torchio", got {form!r}')


def _tensors(patch: Float[Tensor, " channel *space"], pair: int) -> tuple[Tensor, Tensor]:
    return patch[:-1].clone(), (patch[-1:] > 0).float()


def _monai_dictionary(
    patch: Float[Tensor, " channel *space"], pair: int, *, spec: PatchSpec
) -> dict[str, Any]:
    from monai.data.meta_tensor import MetaTensor

    image, label = _tensors(patch, pair)
    affine = _affine(spec)
    found = {
        "image": MetaTensor(image, affine=affine.clone()),
        "label": MetaTensor(label, affine=affine.clone()),
        "pair": pair,
    }
    if spec.spacing_mm is not None:
        found["spacing_mm"] = torch.tensor(spec.spacing_mm)
    return found


def _torchio_subject(patch: Float[Tensor, " channel *space"], pair: int, *, spec: PatchSpec) -> Any:
    import torchio

    image, label = _tensors(patch, pair)
    if spec.dimensions == 2:
        image, label = image[..., None], label[..., None]
    affine = _affine(spec).numpy()
    return torchio.Subject(
        image=torchio.ScalarImage(tensor=image, affine=affine),
        label=torchio.LabelMap(tensor=label, affine=affine),
        pair=pair,
    )


def _affine(spec: PatchSpec) -> Float[Tensor, "4 4"]:
    steps = [*(spec.spacing_mm or [1.0] * spec.dimensions), 1.0, 1.0][:3]
    return torch.diag(torch.tensor([*steps, 1.0], dtype=torch.float64))
