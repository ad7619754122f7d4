"""Exports: read back by their own readers, whole or not at all. The model card, and what it must say."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from harness.written_pairs import ABOUT, FLAT, patches_of, small_disk

from willis.shared.errors import StateError
from willis.shared.export.model_card import model_card
from willis.shared.export.nnunet import write_nnunet
from willis.shared.export.npz import write_npz
from willis.shared.export.whole_folder import whole_folder
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.privacy import PrivacySpent
from willis.shared.study import Study


def nnunet(folder: Path, spec: PatchSpec = FLAT, n: int = 3) -> tuple[Path, LabelledPatches]:
    patches = patches_of(n, spec)
    batches = iter(patches.split(2))
    where = write_nnunet(batches, folder, spec=spec, name="my-study_2", foreground="vessels", about=ABOUT)
    return where, patches


def npz(folder: Path, n: int = 3, spec: PatchSpec = FLAT) -> tuple[Path, LabelledPatches]:
    patches = patches_of(n, spec)
    return write_npz(iter(patches.split(2)), folder, n=n, spec=spec, about=ABOUT), patches


def test_nnunet_files_hold_the_patches(tmp_path):
    where, patches = nnunet(tmp_path / "raw")
    assert where == tmp_path / "raw" / "Dataset901_MyStudy2"
    names = sorted(path.name for path in (where / "imagesTr").iterdir())
    assert names == [f"syn_{i:06d}_0000.nii.gz" for i in range(3)]
    assert sorted(p.name for p in (where / "labelsTr").iterdir()) == [f"syn_{i:06d}.nii.gz" for i in range(3)]
    for i in range(3):
        image = nibabel.Nifti1Image.from_filename(where / "imagesTr" / f"syn_{i:06d}_0000.nii.gz")
        label = nibabel.Nifti1Image.from_filename(where / "labelsTr" / f"syn_{i:06d}.nii.gz")
        assert image.shape == label.shape == (8, 12, 1)
        assert image.get_data_dtype() == np.float32
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(image.get_fdata(dtype=np.float32)[..., 0], patches[i, 0].numpy())
        assert np.array_equal(label.get_fdata()[..., 0], (patches[i, 1].numpy() + 1) / 2)
        assert image.header["srow_x"].tolist() == label.header["srow_x"].tolist() == [0.5, 0, 0, 0]
        assert image.header["srow_y"].tolist() == label.header["srow_y"].tolist() == [0, 0.25, 0, 0]


def test_nnunet_takes_the_slice_axis_to_be_the_one_across(tmp_path):
    where, _ = nnunet(tmp_path / "raw")
    image = nibabel.Nifti1Image.from_filename(where / "imagesTr" / "syn_000000_0000.nii.gz")
    zooms = image.header.get_zooms()
    assert zooms == (0.5, 0.25, 999.0)
    # nnU-Net's planner moves the axis of the largest spacing to the front; 2-D needs length 1 there.
    assert image.shape[int(np.argmax(zooms))] == 1


def test_nnunet_sheet(tmp_path):
    where, _ = nnunet(tmp_path / "raw")
    sheet = json.loads((where / "dataset.json").read_text())
    assert sheet["channel_names"] == {"0": "intensity"}
    assert sheet["labels"] == {"background": 0, "vessels": 1}
    assert sheet["numTraining"] == 3
    assert sheet["file_ending"] == ".nii.gz"
    assert sheet["privacy"] == ABOUT["privacy"]
    assert sheet["spacing_known"] is True


def test_nnunet_channels_and_three_dimensions(tmp_path):
    spec = PatchSpec.model_validate({"size": (8, 9, 10), "channels": ("red", "green")})
    where, patches = nnunet(tmp_path / "raw", spec)
    second = nibabel.Nifti1Image.from_filename(where / "imagesTr" / "syn_000002_0001.nii.gz")
    assert second.shape == (8, 9, 10)
    assert second.header.get_zooms() == (1, 1, 1)
    assert np.array_equal(second.get_fdata(dtype=np.float32), patches[2, 1].numpy())
    sheet = json.loads((where / "dataset.json").read_text())
    assert sheet["channel_names"] == {"0": "red", "1": "green"}
    assert sheet["spacing_known"] is False


@pytest.mark.parametrize("number", [0, 1000])
def test_nnunet_number_of_the_data_set(tmp_path, number):
    with pytest.raises(ValueError, match=f"got {number}"):
        write_nnunet([], tmp_path / "x", spec=FLAT, name="a", foreground="b", about={}, number=number)


def test_npz_is_read_by_numpy_without_pickle(tmp_path):
    where, patches = npz(tmp_path / "out")
    with np.load(where, allow_pickle=False) as pairs:
        assert sorted(pairs) == ["about", "images", "labels"]
        assert pairs["images"].dtype == np.float32
        assert np.array_equal(pairs["images"], patches[:, :-1].numpy())
        assert pairs["labels"].dtype == np.uint8
        assert np.array_equal(pairs["labels"], (patches[:, -1].numpy() + 1) / 2)
        assert json.loads(pairs["about"].item()) == ABOUT
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pairs.npz", "pairs.privacy.txt"]


def test_npz_has_the_privacy_sentence_beside_it(tmp_path):
    npz(tmp_path / "out")
    lines = (tmp_path / "out" / "pairs.privacy.txt").read_text().splitlines()
    assert lines == [f"privacy: {ABOUT['privacy']}", f"release: {ABOUT['release']}"]


def test_npz_wants_as_many_as_were_promised(tmp_path):
    with pytest.raises(ValueError, match="4 pairs were promised, 3 came"):
        write_npz([patches_of(3, FLAT)], tmp_path / "out", n=4, spec=FLAT, about={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [nnunet, npz])
def test_same_patches_same_bytes(tmp_path, write):
    first, second = write(tmp_path / "a")[0], write(tmp_path / "b")[0]
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) in (2, 8)
    assert first.name == second.name
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


@pytest.mark.parametrize("write", [nnunet, npz])
def test_a_full_disk_leaves_nothing(tmp_path, write):
    with small_disk(200), pytest.raises(StateError, match=r"cannot write .*free some disk"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [partial(write_nnunet, name="a", foreground="b"), partial(write_npz, n=3)])
def test_a_generator_that_fails_leaves_nothing(tmp_path, write):
    def failing() -> Iterator[LabelledPatches]:
        yield patches_of(2, FLAT)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write(failing(), tmp_path / "out", spec=FLAT, about={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [nnunet, npz])
def test_what_is_there_is_not_overwritten(tmp_path, write):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(StateError, match="already holds something"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "keep"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_target_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "out"
    with whole_folder(target) as part:
        (part / "file").write_text("half")
        assert not target.exists()
    assert (target / "file").read_text() == "half"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StateError, match="already holds something"), whole_folder(tmp_path / "out"):
        pass


def study_of(unit: str) -> Study:
    sites = [{"name": name, "subjects": 20} for name in ("north", "south", "west")]
    return Study.model_validate(
        {
            "name": "tiny-study",
            "patch": {"size": [16, 16], "per_subject": 4, "spacing_mm": [0.5, 0.25]},
            "prior": {"family": "vessels"},
            "networks": {"depth": 2},
            "privacy": {"unit": unit, "epsilon": 8.0, "delta": 1e-4, "sampling_rate": 0.5},
            "training": {"rounds": 3, "critic_steps": 5, "patches_per_bag": 2},
            "federation": {"quorum": 1, "sites": sites},
        }
    )


def spent_of(epsilon: float, unit: str) -> PrivacySpent:
    fields = {"epsilon": epsilon, "delta": 1e-4, "unit": unit, "accountant": "PLD (some 1.0)"}
    note = {"patient_epsilon": 4 * epsilon, "patient_note": "over 4 patches"} if unit == "patch" else {}
    return PrivacySpent.model_validate(fields | note | {"relation": "add-or-remove-one"})


def card_of(unit: str) -> str:
    return model_card(
        study_of(unit),
        run="tiny-study-00ff",
        rounds=3,
        network=spent_of(2.5, unit),
        spent={"south": spent_of(2.5, unit), "north": spent_of(1.25, unit)},
        ledger_heads={"south": "cd34"},
        start="Fresh weights cost epsilon 0.",
        versions={"willis": "1.2.3"},
    )


@pytest.mark.parametrize("unit", ["subject", "patch"])
def test_the_card_never_tells_an_epsilon_without_its_sentence(unit):
    card = card_of(unit)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["privacy"] == spent_of(2.5, unit).sentence()
    assert front["study_digest"] == study_of(unit).digest()
    rest = card
    for sentence in (spent_of(2.5, unit).sentence(), spent_of(1.25, unit).sentence()):
        assert sentence in card
        rest = rest.replace(sentence, "")
    # What is left may name epsilon, and say that the public start cost 0: no other figure of it.
    assert [word[:2] for word in rest.split("epsilon ")[1:] if word[:1].isdigit()] == ["0."]
    assert ("NOT a patient's privacy: per patient epsilon 10;" in card) == (unit == "patch")
    assert ("everything of one patient" in card) == (unit == "subject")


@pytest.mark.parametrize("words", ["real subjects", "Floating-point", "two sites", "Diagnosis", "anonymous"])
def test_the_card_says_what_is_not_covered_and_what_it_is_not_for(words):
    assert words in card_of("subject").split("### Not covered")[1]


def test_the_card_says_what_it_is_and_who_paid():
    card = card_of("subject")
    assert "an image patch of 16 x 16 pixels (intensity; 0.5 x 0.25 mm a pixel; values -1 to 1)" in card
    assert "2 of 3 sites made it together over 3 rounds by recipe dp-wgan" in card
    assert f"| north | {spent_of(1.25, 'subject').sentence()} | not told |" in card
    assert f"| south | {spent_of(2.5, 'subject').sentence()} | `cd34` |" in card
    assert "Of the study's sites, west gave no answer" in card
    assert "Made with willis 1.2.3." in card
