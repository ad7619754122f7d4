"""``willis synthesize --volume``: whole volumes in the formats of pairs, and clear refusals."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from harness.made_release import write
from harness.written_pairs import small_disk

from willis.shared.command import willis
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import GeneratorRelease
from willis.shared.volumes import draw_volumes


@pytest.fixture(scope="module")
def release(tiny_study, tmp_path_factory) -> GeneratorRelease:
    study = tiny_study(
        patch={"size": [8, 12, 8], "spacing_mm": [1.0, 0.5, 2.0]},
        prior={"family": "lesions"},
        recipe={"name": "dp-wgan", "refiner": True, "prior_draws": 16},
        training={"protocol": "pooled", "critic_steps": 1},
        federation={"sites": [{"name": name, "subjects": 6} for name in ("north", "south")]},
    )
    recipe = recipe_of(study)
    arrays = recipe.released(recipe.start())
    return write(tmp_path_factory.mktemp("volumes") / "release", study=study, arrays=arrays)


@pytest.fixture(scope="module")
def drawn(release) -> np.ndarray:
    return draw_volumes(release, n=2, seed=3, size=(12, 16, 20), device="cpu").numpy()


def run(release: GeneratorRelease, out: Path, *more: str):
    words = ["synthesize", str(release.folder), "--n", "2", "--seed", "3", "--device", "cpu"]
    return CliRunner().invoke(willis, [*words, "--out", str(out), *more])


VOLUME = ("--volume", "12x16x20")


def test_nnunet(release, drawn, tmp_path):
    done = run(release, tmp_path / "out", "--format", "nnunet", *VOLUME)
    assert done.exit_code == 0, done.output
    data = tmp_path / "out" / "Dataset901_Tiny"
    assert f"2 volumes in {data}" in done.output
    for i in range(2):
        image = nibabel.Nifti1Image.from_filename(data / "imagesTr" / f"syn_{i:06d}_0000.nii.gz")
        assert np.array_equal(image.get_fdata(dtype=np.float32), drawn[i, 0])
        assert image.header.get_zooms() == (1.0, 0.5, 2.0)
        label = nibabel.Nifti1Image.from_filename(data / "labelsTr" / f"syn_{i:06d}.nii.gz")
        assert np.array_equal(label.get_fdata(dtype=np.float32), drawn[i, 1] > 0)
    sheet = json.loads((data / "dataset.json").read_text())
    assert sheet["privacy"] == release.spent.sentence()
    said = "2 volumes of 12 x 16 x 20 drawn with seed 3 by overlapping patches of 8 x 12 x 8 (overlap 0.5)"
    assert sheet["description"] == f"Synthetic: {said} from a generator of study tiny"


def test_the_command_of_the_guide(release, tmp_path, monkeypatch):
    """As it stands in docs/pairs.md, but for sizes that a test has time for."""
    guide = (Path(__file__).parents[2] / "docs" / "pairs.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^`(willis synthesize .*--volume.*)`$", guide, re.M)
    monkeypatch.chdir(release.folder.parent)
    words = line.replace("96x96x64", "8x12x9").replace("--out vols", f"--out {tmp_path / 'vols'}").split()
    done = CliRunner().invoke(willis, words[1:])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "vols" / "Dataset901_Tiny" / "imagesTr").iterdir())) == 3


def test_bids_and_json(release, drawn, tmp_path):
    done = run(release, tmp_path / "out", "--format", "bids", "--json", *VOLUME, "--overlap", "0.5")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["n"], answer["volume"], answer["format"]) == (2, [12, 16, 20], "bids")
    assert answer["overlap"] == 0.5
    said = "2 volumes of 12 x 16 x 20 drawn with seed 3 by overlapping patches of 8 x 12 x 8 (overlap 0.5)"
    assert said in (tmp_path / "out" / "README").read_text()
    file = tmp_path / "out" / "sub-syn000001" / "anat" / "sub-syn000001_FLAIR.nii.gz"
    assert np.array_equal(nibabel.Nifti1Image.from_filename(file).get_fdata(dtype=np.float32), drawn[1, 0])


def test_npz(release, drawn, tmp_path):
    assert run(release, tmp_path / "out", "--format", "npz", *VOLUME).exit_code == 0
    with np.load(tmp_path / "out" / "pairs.npz") as found:
        assert np.array_equal(found["images"], drawn[:, :1])
        assert np.array_equal(found["labels"], drawn[:, 1] > 0)


@pytest.mark.parametrize(("given", "overlap"), [((), 0.5), (("--overlap", "0.75"), 0.75)])
def test_another_overlap_keeps_the_labels_and_is_told(release, drawn, tmp_path, given, overlap):
    done = run(release, tmp_path / "out", "--format", "npz", "--json", *VOLUME, *given)
    assert json.loads(done.stdout)["overlap"] == overlap
    with np.load(tmp_path / "out" / "pairs.npz") as found:
        assert np.array_equal(found["labels"], drawn[:, 1] > 0)
        assert f"(overlap {overlap})" in json.loads(str(found["about"]))["description"]


def test_a_disk_that_fills_leaves_nothing(release, tmp_path):
    with small_disk(150):
        done = run(release, tmp_path / "out", "--format", "nnunet", *VOLUME)
    assert done.exit_code == 2
    assert "nothing was left there" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_volumes_that_no_disk_holds_are_called_volumes(release, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10**4))
    done = run(release, tmp_path / "out", "--format", "nnunet", *VOLUME)
    assert done.exit_code == 2
    assert re.search(r"2 volumes take some .* \(stream_volumes\)", " ".join(done.stderr.split()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--format", "npz", "--volume", "96x96"),
            "must be three whole numbers, such as 96x96x64, got '96x96'",
        ),
        (("--format", "npz", "--volume", "-8x12x8"), "got '-8x12x8'"),
        (("--format", "npz", "--volume", "8x12x7"), "size must be at least the patch's along each axis"),
        (("--format", "npz", "--volume", "512x512x512"), "16777216 voxels"),
        (("--format", "npz", *VOLUME, "--overlap", "0.1"), "0.25<=x<=0.875"),
        (("--format", "npz", "--overlap", "0.5"), "--overlap goes with --volume, and there is none"),
        (("--format", "npz", *VOLUME, "--batch", "8"), "--volume draws one volume at a time"),
        (("--format", "png", *VOLUME), "png holds 2-D pairs and this release draws 12 x 16 x 20"),
    ],
)
def test_options_that_do_not_fit(release, tmp_path, more, said):
    done = run(release, tmp_path / "out", *more)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_release_of_2_d_patches_is_refused(tmp_path):
    flat = write(tmp_path / "release")
    done = run(flat, tmp_path / "out", "--format", "npz", *VOLUME)
    assert done.exit_code == 2
    assert "whole volumes are made of 3-D patches, and this release draws 2-D ones of 16 x 16" in done.stderr
    assert not (tmp_path / "out").exists()
