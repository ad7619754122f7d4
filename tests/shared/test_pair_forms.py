"""What a pair looks like for PyTorch, MONAI and torchio: values, spacing, how their loaders stack it."""

from typing import Any

import numpy as np
import pytest
import torch
import torchio
from harness.written_pairs import FLAT, SOLID, patches_of
from monai.data.dataloader import DataLoader as MonaiLoader
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.spatial.dictionary import RandFlipd
from torch.utils.data import DataLoader
from torchio.transforms import RandomFlip

from willis.shared.pair_forms import Form, shape_of
from willis.shared.patch import PatchSpec

BARE = PatchSpec(size=(8, 8))
PATCH = torch.tensor([[[-1.0, 0.5], [0.25, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]])


def pairs_in(form: Form, spec: PatchSpec, n: int = 3) -> list:
    return [shape_of(form, spec)(patch, i) for i, patch in enumerate(patches_of(n, spec))]


def test_tensors_by_hand():
    image, label = shape_of("tensor", BARE)(PATCH, 0)
    assert image.tolist() == [[[-1.0, 0.5], [0.25, 1.0]]]
    assert label.tolist() == [[[0.0, 1.0], [1.0, 0.0]]]
    assert image.dtype == label.dtype == torch.float32


@pytest.mark.parametrize(
    ("spec", "diagonal"),
    [(FLAT, [0.5, 0.25, 1, 1]), (SOLID, [0.5, 0.25, 2, 1]), (BARE, [1, 1, 1, 1])],
)
def test_monai_has_the_values_and_the_spacing(spec, diagonal):
    for number, (pair, patch) in enumerate(zip(pairs_in("monai", spec), patches_of(3, spec), strict=True)):
        assert isinstance(pair["image"], MetaTensor)
        assert isinstance(pair["label"], MetaTensor)
        assert torch.equal(pair["image"].as_tensor(), patch[:-1])
        assert torch.equal(pair["label"].as_tensor(), (patch[-1:] > 0).float())
        assert torch.equal(pair["image"].affine, torch.diag(torch.tensor(diagonal).double()))
        assert pair["pair"] == number
        assert ("spacing_mm" in pair) == (spec is not BARE)
        if spec.spacing_mm is not None:
            assert pair["spacing_mm"].tolist() == list(spec.spacing_mm)


@pytest.mark.parametrize("loader", [DataLoader, MonaiLoader])
def test_monai_dictionaries_are_stacked(loader):
    batch = next(iter(loader(pairs_in("monai", SOLID, 4), batch_size=4)))  # pyright: ignore[reportArgumentType]
    patches = patches_of(4, SOLID)
    assert torch.equal(batch["image"].as_tensor(), patches[:, :-1])
    assert torch.equal(batch["label"].as_tensor(), (patches[:, -1:] > 0).float())
    assert batch["pair"].tolist() == [0, 1, 2, 3]
    assert batch["spacing_mm"].shape == (4, 3)


def test_monai_transforms_take_a_pair():
    flip = Compose([RandFlipd(keys=["image", "label"], prob=1.0, spatial_axis=0)])
    [pair] = pairs_in("monai", FLAT, 1)
    flipped: Any = flip(dict(pair))
    assert torch.equal(flipped["image"].as_tensor(), pair["image"].as_tensor().flip(1))
    assert torch.equal(flipped["label"].as_tensor(), pair["label"].as_tensor().flip(1))


@pytest.mark.parametrize("spec", [FLAT, SOLID, BARE])
def test_torchio_has_the_values_and_the_spacing(spec):
    for number, (subject, patch) in enumerate(
        zip(pairs_in("torchio", spec), patches_of(3, spec), strict=True)
    ):
        assert isinstance(subject["image"], torchio.ScalarImage)
        assert isinstance(subject["label"], torchio.LabelMap)
        assert subject["image"].spatial_shape == (*spec.size, 1)[:3]
        assert torch.equal(subject["image"].data.reshape(patch[:-1].shape), patch[:-1])
        assert torch.equal(subject["label"].data.reshape(patch[-1:].shape), (patch[-1:] > 0).float())
        steps = spec.spacing_mm or (1.0, 1.0)
        assert np.allclose(subject["image"].spacing, (*steps, 1.0)[:3])
        assert subject["pair"] == number


def test_torchio_stacks_subjects_and_transforms_them():
    subjects = [RandomFlip(axes=(0,), flip_probability=1)(one) for one in pairs_in("torchio", SOLID)]
    batch = next(iter(torchio.SubjectsLoader(subjects, batch_size=3)))  # pyright: ignore[reportArgumentType]
    patches = patches_of(3, SOLID)
    assert torch.equal(batch["image"]["data"], patches[:, :-1].flip(2))
    assert torch.equal(batch["label"]["data"], (patches[:, -1:] > 0).float().flip(2))
