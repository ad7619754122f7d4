"""BIDS: images as a data set of their own, labels as derivatives; named, described, whole or not at all."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from harness.written_pairs import ABOUT, FLAT, SOLID, patches_of, small_disk

from willis.shared.errors import StateError
from willis.shared.export.bids import write_bids
from willis.shared.patch import LabelledPatches, PatchSpec

TWO = PatchSpec.model_validate({"size": (8, 9, 10), "channels": ("first", "second")})


def bids(folder: Path, spec: PatchSpec = FLAT, n: int = 3) -> LabelledPatches:
    patches = patches_of(n, spec)
    where = write_bids(
        iter(patches.split(2)),
        folder,
        spec=spec,
        name="my-study",
        foreground="vessels",
        about=ABOUT,
        suffix="angio",
    )
    assert where == folder
    return patches


def voxels(path: Path) -> np.ndarray:
    return nibabel.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_files_by_name(tmp_path):
    bids(tmp_path / "out", n=2)
    described = {"README", "dataset_description.json"}
    images = {f"sub-syn00000{i}/anat/sub-syn00000{i}_angio.nii.gz" for i in (0, 1)}
    labels = {f"sub-syn00000{i}/anat/sub-syn00000{i}_dseg.nii.gz" for i in (0, 1)}
    inner = {f"derivatives/labels/{name}" for name in labels | described | {"dseg.tsv", "dseg.json"}}
    told = {"participants.tsv", "participants.json", "angio.json"}
    assert files(tmp_path / "out") == images | inner | described | told


@pytest.mark.parametrize("spec", [FLAT, SOLID])
def test_voxels_are_the_patches(tmp_path, spec):
    patches = bids(tmp_path / "out", spec).numpy()
    for i in range(3):
        image = voxels(tmp_path / "out" / f"sub-syn{i:06d}/anat/sub-syn{i:06d}_angio.nii.gz")
        label = voxels(
            tmp_path / "out/derivatives/labels" / f"sub-syn{i:06d}/anat/sub-syn{i:06d}_dseg.nii.gz"
        )
        assert np.array_equal(image.reshape(spec.size), patches[i, 0])
        assert np.array_equal(label.reshape(spec.size), patches[i, 1] > 0)


def test_a_slice_is_one_mm_thick_and_other_spacing_is_the_studys(tmp_path):
    bids(tmp_path / "out")
    header = nibabel.Nifti1Image.from_filename(
        tmp_path / "out/sub-syn000001/anat/sub-syn000001_angio.nii.gz"
    ).header
    assert header.get_zooms() == (0.5, 0.25, 1.0)
    assert header.get_xyzt_units()[0] == "mm"


def test_channels_have_their_names(tmp_path):
    patches = bids(tmp_path / "out", TWO).numpy()
    anat = tmp_path / "out" / "sub-syn000002" / "anat"
    assert files(anat) == {f"sub-syn000002_acq-{name}_angio.nii.gz" for name in ("first", "second")}
    assert np.array_equal(voxels(anat / "sub-syn000002_acq-second_angio.nii.gz"), patches[2, 1])
    assert json.loads((tmp_path / "out" / "angio.json").read_text())["SpacingKnown"] is False


def test_descriptions_say_who_made_it_and_what_it_cost(tmp_path):
    bids(tmp_path / "out")
    for folder, kind in (("", "raw"), ("derivatives/labels", "derivative")):
        described = json.loads((tmp_path / "out" / folder / "dataset_description.json").read_text())
        assert described["DatasetType"] == kind
        assert described["GeneratedBy"][0]["Name"] == "Willis"
        assert described["Privacy"] == ABOUT["privacy"]
        assert f"privacy: {ABOUT['privacy']}\n" in (tmp_path / "out" / folder / "README").read_text()
    table = (tmp_path / "out/derivatives/labels/dseg.tsv").read_text()
    assert table == "index\tname\n0\tbackground\n1\tvessels\n"
    rows = (tmp_path / "out/participants.tsv").read_text().splitlines()
    assert rows == ["participant_id\tpair", "sub-syn000000\t0", "sub-syn000001\t1", "sub-syn000002\t2"]


def test_a_contrast_that_bids_does_not_know(tmp_path):
    with pytest.raises(ValueError, match=r"suffix must be one of T1w, .*, got 'CT'"):
        write_bids(
            [],
            tmp_path / "out",
            spec=FLAT,
            name="a",
            foreground="b",
            about={},
            suffix="CT",  # pyright: ignore[reportArgumentType]
        )


def test_a_full_disk_leaves_nothing(tmp_path):
    with small_disk(200), pytest.raises(StateError, match=r"cannot write .*free some disk"):
        bids(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(StateError, match="already holds something"):
        bids(tmp_path / "out")
    assert files(tmp_path) == {"out/mine"}


def test_same_patches_same_bytes(tmp_path):
    for name in ("a", "b"):
        bids(tmp_path / name)
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
