"""What MONAI's bundle runner, nnU-Net, MONAI, torchio and the validator of BIDS say of a fetched release."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchio
from harness.fetched_release import Fetched, called, fetch_whole_way
from monai.data.decathlon_datalist import load_decathlon_datalist
from monai.transforms.io.dictionary import LoadImaged

from willis.shared.processes import script
from willis.shared.release import read_release
from willis.shared.release_signature import read_public_key, verify_release

pytestmark = [pytest.mark.examples, pytest.mark.timeout(560)]
N, SIDE = 6, 48


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    return fetch_whole_way(tmp_path_factory.mktemp("fetched"))


@pytest.fixture(scope="module")
def data_set(fetched: Fetched) -> Path:
    """nnU-Net's raw data set, as the fetched folder itself writes it: beside the release."""
    python = Path(script("python"))
    words = [str(python), "-B", "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    called(*words, "--n", str(N), cwd=fetched.folder)
    [found] = (fetched.folder.parent / "nnunet").iterdir()
    return found


@pytest.fixture(scope="module")
def planned(data_set: Path) -> Path:
    """What nnU-Net prepared of it, once it had verified it."""
    place = data_set.parent.parent
    places = {f"nnUNet_{name}": str(place / name) for name in ("preprocessed", "results")}
    words = ["-d", "901", "--verify_dataset_integrity", "-np", "1", "-npfp", "1"]
    places["nnUNet_raw"] = str(data_set.parent)
    said = called(script("nnUNetv2_plan_and_preprocess"), *words, environment=places)
    assert "verify_dataset_integrity Done" in said
    return place / "preprocessed" / data_set.name


@pytest.fixture(scope="module")
def bids_form(fetched: Fetched) -> Path:
    """The same pairs as BIDS lays them out."""
    out = fetched.folder.parent / "bids"
    words = ["--n", str(N), "--seed", "1", "--format", "bids", "--out", str(out)]
    called(script("willis"), "synthesize", str(fetched.folder), *words)
    return out


@pytest.fixture(scope="module")
def drawn(fetched: Fetched) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs, drawn by the hub and sent as a stream."""
    with np.load(fetched.pairs) as arrays:
        return arrays["images"], arrays["labels"]


def test_what_came_is_what_the_hub_signed(fetched: Fetched) -> None:
    signed = verify_release(fetched.folder, read_public_key(fetched.key))
    held = verify_release(fetched.release.folder, read_public_key(fetched.key))
    assert signed == held
    assert read_release(fetched.folder).sheet == fetched.release.sheet


def test_nnunet_verifies_plans_and_preprocesses_it(fetched: Fetched, data_set: Path, planned: Path) -> None:
    sheet = json.loads((data_set / "dataset.json").read_text())
    assert sheet["numTraining"] == N
    assert sheet["privacy"] == fetched.release.spent.sentence()
    plans = json.loads((planned / "nnUNetPlans.json").read_text())
    assert list(plans["configurations"]) == ["2d"]
    assert plans["configurations"]["2d"]["patch_size"] == [SIDE, SIDE]
    assert len(list((planned / "nnUNetPlans_2d").glob("syn_*.pkl"))) == N
    labels = list((planned / "gt_segmentations").iterdir())
    assert len(labels) == N


def test_monai_reads_the_pairs_that_the_hub_draws(
    data_set: Path, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    items = load_decathlon_datalist(data_set / "datalist.json", data_list_key="training")
    load = LoadImaged(keys=["image", "label"], ensure_channel_first=True)
    read: list[Any] = [load(item) for item in items]
    images = torch.stack([one["image"].as_tensor()[..., 0] for one in read]).numpy()
    labels = torch.stack([one["label"].as_tensor()[..., 0] for one in read]).numpy()
    assert images.shape == (N, 1, SIDE, SIDE)
    np.testing.assert_allclose(images, drawn[0], atol=1e-5)
    assert 0 < labels.mean() < 0.5  # vessels are thin
    np.testing.assert_array_equal(labels[:, 0], drawn[1])


def test_torchio_reads_the_pairs_that_the_hub_draws(
    data_set: Path, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    subjects = torchio.SubjectsDataset(
        [
            torchio.Subject(
                image=torchio.ScalarImage(data_set / f"imagesTr/syn_{number:06d}_0000.nii.gz"),
                label=torchio.LabelMap(data_set / f"labelsTr/syn_{number:06d}.nii.gz"),
            )
            for number in range(N)
        ]
    )
    loader = torchio.SubjectsLoader(subjects, batch_size=N)
    [batch] = list(loader)
    np.testing.assert_allclose(batch["image"]["data"][..., 0], drawn[0], atol=1e-5)
    np.testing.assert_array_equal(batch["label"]["data"][:, 0, ..., 0], drawn[1])


@pytest.mark.parametrize("inner", ["", "derivatives/labels"])
def test_the_validator_passes_the_bids_form(bids_form: Path, inner: str) -> None:
    said = called(script("bids-validator-deno"), "--format", "json", str(bids_form / inner))
    found = json.loads(said)
    assert [one for one in found["issues"]["issues"] if one["severity"] == "error"] == []
    assert len(found["summary"]["subjects"]) == N


def test_the_validator_refuses_what_is_no_bids(bids_form: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "no version"}')
    (tmp_path / "stray.nii.gz").write_bytes((bids_form / "README").read_bytes())
    with pytest.raises(AssertionError, match="error"):
        called(script("bids-validator-deno"), "--format", "json", str(tmp_path))


@pytest.mark.usefixtures("planned", "bids_form")
def test_after_all_that_it_is_still_the_signed_release(fetched: Fetched) -> None:
    assert not list(fetched.folder.rglob("__pycache__"))
    verify_release(fetched.folder, read_public_key(fetched.key))
    called("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=fetched.folder)
