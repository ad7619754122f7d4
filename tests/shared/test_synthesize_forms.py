"""``willis synthesize`` in every form: the same pairs, the privacy sentence beside them, clear refusals."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from harness.made_release import study_of, write
from harness.written_pairs import small_disk
from PIL import Image

from willis.shared.command import willis
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.release import GeneratorRelease
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> GeneratorRelease:
    arrays = {name: 3 * value for name, value in arrays_of(build_generator(study_of())).items()}
    return write(tmp_path_factory.mktemp("forms") / "release", arrays=arrays)


@pytest.fixture(scope="module")
def drawn(release) -> np.ndarray:
    return draw_pairs(release, n=5, seed=3, device="cpu").numpy()


def run(release: GeneratorRelease, out: Path, *more: str):
    words = ["synthesize", str(release.folder), "--n", "5", "--seed", "3", "--device", "cpu"]
    return CliRunner().invoke(willis, [*words, "--out", str(out), *more])


def voxels(path: Path) -> np.ndarray:
    return nibabel.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)[..., 0]


@pytest.mark.parametrize(("more", "suffix"), [((), "angio"), (("--bids-suffix", "T2w"), "T2w")])
def test_bids(release, drawn, tmp_path, more, suffix):
    done = run(release, tmp_path / "out", "--format", "bids", *more)
    assert done.exit_code == 0, done.output
    for i in range(5):
        stem = f"sub-syn{i:06d}/anat/sub-syn{i:06d}"
        assert np.array_equal(voxels(tmp_path / "out" / f"{stem}_{suffix}.nii.gz"), drawn[i, 0])
        label = voxels(tmp_path / "out" / "derivatives" / "labels" / f"{stem}_dseg.nii.gz")
        assert np.array_equal(label, drawn[i, 1] > 0)
    described = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert described["Privacy"] == release.spent.sentence()
    readme = (tmp_path / "out" / "README").read_text()
    assert release.spent.sentence() in readme
    assert f"release: {release.digest}" in readme


@pytest.mark.parametrize(("more", "white"), [((), 255), (("--png-bits", "16"), 65535)])
def test_png(release, drawn, tmp_path, more, white):
    done = run(release, tmp_path / "out", "--format", "png", "--json", *more)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["format"] == "png"
    assert answer["privacy_sentence"] in (tmp_path / "out" / "privacy.txt").read_text()
    with (Path(answer["path"]) / "index.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 5
    for row, patch in zip(rows, drawn, strict=True):
        with Image.open(tmp_path / "out" / row["image"]) as picture:
            values = np.asarray(picture) / white * 2 - 1
        assert float(np.abs(values - patch[0]).max()) <= 1 / white + 1e-9
        with Image.open(tmp_path / "out" / row["label"]) as picture:
            assert np.array_equal(np.asarray(picture) == 255, patch[1] > 0)


def test_nnunet_has_its_data_list(release, tmp_path):
    assert run(release, tmp_path / "out", "--format", "nnunet").exit_code == 0
    listed = json.loads((tmp_path / "out" / "Dataset901_TinyStudy" / "datalist.json").read_text())
    assert len(listed["training"]) == 5
    assert listed["privacy"] == release.spent.sentence()


def test_png_of_volumes_is_refused(tmp_path):
    values = study_of().model_dump(mode="json")
    values["patch"]["size"] = [8, 16, 8]
    study = Study.model_validate(values)
    solid = write(tmp_path / "release", study=study, arrays=arrays_of(build_generator(study)))
    done = run(solid, tmp_path / "out", "--format", "png")
    assert done.exit_code == 2
    assert "willis: png holds 2-D pairs and this release draws 8 x 16 x 8; take nnunet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize("form", ["nnunet", "bids", "npz", "png"])
def test_a_disk_that_fills_is_told_and_nothing_is_left(release, tmp_path, form):
    with small_disk(150):
        done = run(release, tmp_path / "out", "--format", form)
    assert done.exit_code == 2
    assert "free some disk or name another place, nothing was left there" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--format", "nnunet", "--png-bits", "16"),
            "--png-bits goes with --format png, and --format is nnunet",
        ),
        (("--format", "npz", "--bids-suffix", "T1w"), "--bids-suffix goes with --format bids"),
        (("--format", "png", "--png-bits", "12"), "12"),
        (("--format", "bids", "--bids-suffix", "CT"), "CT"),
        (("--format", "nrrd"), "nrrd"),
        (("--format", "png", "--n", "0"), "0"),
        (("--format", "bids", "--n", "-1"), "-1"),
        (("--format", "nnunet", "--n", "10000001"), "10000001"),
    ],
)
def test_options_that_do_not_fit(release, tmp_path, more, said):
    done = run(release, tmp_path / "out", *more)
    assert done.exit_code == 2
    assert said in done.output
    assert list(tmp_path.iterdir()) == []
