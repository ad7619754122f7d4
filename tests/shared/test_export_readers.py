"""What is written is read by those for whom it is written: MONAI, torchio, nnU-Net, the validators of BIDS.

The commands of the last two are heavy and no part of an installation: their tests run where they are found.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchio
from harness.written_pairs import ABOUT, FLAT, SOLID, patches_of
from monai.data.decathlon_datalist import load_decathlon_datalist
from monai.data.meta_tensor import MetaTensor
from monai.transforms.io.dictionary import LoadImaged

from willis.shared.export.bids import write_bids
from willis.shared.export.nnunet import write_nnunet
from willis.shared.patch import LabelledPatches, PatchSpec

TWO = PatchSpec.model_validate({"size": (16, 16), "channels": ("red", "green"), "spacing_mm": (1, 1)})
WIDE = PatchSpec(size=(16, 24))  # of an unknown spacing


def nnunet(folder: Path, spec: PatchSpec, n: int = 5) -> tuple[Path, LabelledPatches]:
    patches = patches_of(n, spec)
    patches[:, -1] = -1
    patches[:, -1, 2:7, 3:9] = 1  # a body: nnU-Net wants foreground in each case
    where = write_nnunet(
        iter(patches.split(2)), folder, spec=spec, name="readers", foreground="vessels", about=ABOUT
    )
    return where, patches


def bids(folder: Path, spec: PatchSpec, n: int = 3) -> LabelledPatches:
    patches = patches_of(n, spec)
    write_bids(
        iter(patches.split(2)),
        folder,
        spec=spec,
        name="readers",
        foreground="vessels",
        about=ABOUT,
        suffix="T1w",
    )
    return patches


def needs(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        pytest.skip(f"no {command} on the PATH")
    return found


@pytest.mark.parametrize("spec", [FLAT, SOLID, TWO])
def test_monai_reads_the_data_list(tmp_path, spec):
    where, patches = nnunet(tmp_path / "raw", spec)
    items = load_decathlon_datalist(where / "datalist.json", is_segmentation=True, data_list_key="training")
    assert len(items) == len(patches)
    load = LoadImaged(keys=["image", "label"], ensure_channel_first=True)
    for item, patch in zip(items, patches, strict=True):
        pair = load(item)
        image, label = pair["image"], pair["label"]
        assert isinstance(image, MetaTensor)
        assert torch.equal(image.as_tensor().reshape(patch[:-1].shape), patch[:-1])
        assert torch.equal(label.as_tensor().reshape(patch[-1:].shape), (patch[-1:] > 0).float())
        steps = list(spec.spacing_mm or [])
        assert image.affine.diagonal()[: len(steps)].abs().tolist() == steps


def test_the_data_list_tells_what_is_in_it(tmp_path):
    where, _ = nnunet(tmp_path / "raw", TWO, n=3)
    listed = json.loads((where / "datalist.json").read_text())
    assert listed["numTraining"] == 3
    assert listed["labels"] == {"0": "background", "1": "vessels"}
    assert listed["privacy"] == ABOUT["privacy"]
    images = ["imagesTr/syn_000002_0000.nii.gz", "imagesTr/syn_000002_0001.nii.gz"]
    assert listed["training"][2] == {"image": images, "label": "labelsTr/syn_000002.nii.gz"}


def test_an_empty_data_list_is_json(tmp_path):
    where = write_nnunet([], tmp_path / "raw", spec=FLAT, name="none", foreground="b", about=ABOUT)
    assert json.loads((where / "datalist.json").read_text())["training"] == []


@pytest.mark.parametrize("spec", [FLAT, SOLID])
@pytest.mark.parametrize("form", ["nnunet", "bids"])
def test_torchio_reads_the_files(tmp_path, spec, form):
    if form == "nnunet":
        where, patches = nnunet(tmp_path / "out", spec, n=3)
        names = [(f"imagesTr/syn_{i:06d}_0000.nii.gz", f"labelsTr/syn_{i:06d}.nii.gz") for i in range(3)]
    else:
        where, patches = tmp_path / "out", bids(tmp_path / "out", spec)
        stems = [f"sub-syn{i:06d}/anat/sub-syn{i:06d}" for i in range(3)]
        names = [(f"{stem}_T1w.nii.gz", f"derivatives/labels/{stem}_dseg.nii.gz") for stem in stems]
    subjects = torchio.SubjectsDataset(
        [
            torchio.Subject(image=torchio.ScalarImage(where / image), label=torchio.LabelMap(where / label))
            for image, label in names
        ]
    )
    loaded: list[Any] = [subjects[i] for i in range(len(subjects))]
    for subject, patch in zip(loaded, patches, strict=True):
        assert torch.equal(subject["image"].data.reshape(patch[:-1].shape), patch[:-1])
        assert torch.equal(subject["label"].data.reshape(patch[-1:].shape), (patch[-1:] > 0).byte())
        assert np.allclose(subject["image"].spacing[: spec.dimensions], spec.spacing_mm)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("spec", [WIDE, SOLID, TWO])
def test_nnunet_plans_on_it(tmp_path, spec):
    command = needs("nnUNetv2_plan_and_preprocess")
    where, _ = nnunet(tmp_path / "raw", spec)
    places = {
        name: str(tmp_path / name[7:]) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    }
    words = [command, "-d", "901", "--verify_dataset_integrity", "-np", "1", "-npfp", "1"]
    ended = subprocess.run(words, env=os.environ | places, capture_output=True, text=True, timeout=880)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "verify_dataset_integrity Done" in ended.stdout
    planned = json.loads((tmp_path / "preprocessed" / where.name / "nnUNetPlans.json").read_text())
    assert ("3d_fullres" in planned["configurations"]) == (spec.dimensions == 3)
    assert "2d" in planned["configurations"]


@pytest.mark.parametrize("spec", [WIDE, SOLID, TWO])
def test_the_validator_of_npm_passes_the_bids_form(tmp_path, spec):
    command = needs("bids-validator")
    bids(tmp_path / "out", spec)
    ended = subprocess.run(
        [command, "--json", str(tmp_path / "out")], capture_output=True, text=True, timeout=280
    )
    found = json.loads(ended.stdout)
    assert found["issues"]["errors"] == []
    assert len(found["summary"]["subjects"]) == 3


@pytest.mark.parametrize("spec", [WIDE, SOLID, TWO])
@pytest.mark.parametrize("inner", ["", "derivatives/labels"])
def test_the_validator_on_deno_passes_images_and_labels(tmp_path, spec, inner):
    command = needs("bids-validator-deno")
    bids(tmp_path / "out", spec)
    ended = subprocess.run(
        [command, "--format", "json", str(tmp_path / "out" / inner)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    found = json.loads(ended.stdout)
    errors = [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"]
    assert errors == []
    assert len(found["summary"]["subjects"]) == 3
