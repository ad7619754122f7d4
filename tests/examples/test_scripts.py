"""The scripts of docs/examples, run small: with real subjects where there are some, and what they refuse.

Bounds on Dice are those of chance: calling all foreground scores about 0.1 on these scans, nothing 0.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness.fetched_release import STUDIES, called, vessels_release
from PIL import Image

from willis.shared.processes import script
from willis.shared.release import read_release

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NO_LEDGER = "no ledger paid for them"
APART = "none of them is in"

pytestmark = [pytest.mark.examples, pytest.mark.timeout(560)]


@pytest.fixture(scope="module")
def table(real_data: Path) -> Path:
    """The real subjects of the study hippocampus."""
    found = real_data / "hippocampus_msd" / "cohort.csv"
    if not found.is_file():
        pytest.skip(f"{found} is not there: set WILLIS_DATA to the folder of real data")
    return found


@pytest.fixture(scope="module")
def simulated(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which four sites of real subjects trained a release, with its tables of who trained."""
    run = tmp_path_factory.mktemp("hippocampus") / "run"
    study = ["simulate", str(STUDIES / "hippocampus.toml"), "--cohort", str(table)]
    called(script("willis"), *study, "--out", str(run), "--no-evaluate")
    return run


def given(run: Path) -> list[str]:
    """Name a run's release and its tables."""
    tables = ["--training", str(run / "training.csv"), "--test", str(run / "held_out.csv")]
    return ["--release", str(run / "release"), *tables]


def run(name: str, out: Path, *options: str) -> tuple[str, dict]:
    """Run a script; return what it said, and its scores."""
    said = called(sys.executable, str(EXAMPLES / name), "--out", str(out), *options)
    return said, json.loads((out / "scores.json").read_text())


def test_nnunet_on_synthetic(simulated: Path, tmp_path: Path) -> None:
    shape = ["--pairs", "60", "--epochs", "3", "--iterations", "30", "--subjects", "4", "--processes", "1"]
    said, scores = run("nnunet_on_synthetic.py", tmp_path / "nnunet", *given(simulated), *shape)
    assert read_release(simulated / "release").spent.sentence() in said
    assert "verify_dataset_integrity Done" in said
    sheet = json.loads((tmp_path / "nnunet/raw/Dataset901_Hippocampus/dataset.json").read_text())
    assert sheet["description"].startswith("Synthetic: 60 pairs drawn with seed 1")
    assert sheet["release"] == read_release(simulated / "release").digest
    assert NO_LEDGER in said
    assert APART in said
    assert scores["covered_by_epsilon"] is False
    assert scores["n_scans"] == 4
    assert 0.2 < scores["dice"] <= 1
    kept = tmp_path / "nnunet/results/Dataset901_Hippocampus/nnUNetTrainer__nnUNetPlans__2d"
    assert (kept / "fold_all/checkpoint_final.pth").is_file()  # for nnUNetv2_predict
    named = [path.name for path in (tmp_path / "nnunet/test").rglob("*") if path.is_file()]
    assert named
    assert not any("hippocampus_" in name for name in named)  # no pseudonym becomes a name of a file


def test_monai_fine_tuning(simulated: Path, tmp_path: Path) -> None:
    shape = ["--pairs", "320", "--steps", "80", "--fine-steps", "40", "--subjects", "4"]
    said, scores = run("monai_fine_tuning.py", tmp_path / "monai", *given(simulated), *shape)
    assert read_release(simulated / "release").spent.sentence() in said
    assert NO_LEDGER in said
    assert APART in said
    assert (scores["real_subjects"], scores["scans"], scores["covered_by_epsilon"]) == (10, 4, False)
    rows = {name: scores[name] for name in ("synthetic alone", "real alone", "synthetic, then real")}
    assert all(0.15 < row["dice"] <= 1 for row in rows.values()), rows
    assert all(row["interval"][0] <= row["dice"] <= row["interval"][1] for row in rows.values())
    with Image.open(tmp_path / "monai" / "test.png") as picture:
        assert picture.width > 900
        assert np.asarray(picture.convert("L")).std() > 20


def test_torchio_augmentation(simulated: Path, tmp_path: Path) -> None:
    shape = ["--pairs", "64", "--steps", "60", "--subjects", "4"]
    said, scores = run("torchio_augmentation.py", tmp_path / "torchio", *given(simulated), *shape)
    assert NO_LEDGER in said
    assert APART in said
    assert (scores["on_real_subjects"], scores["covered_by_epsilon"]) == (True, False)
    assert all(0.15 < scores[name]["dice"] <= 1 for name in ("as drawn", "augmented"))
    assert scores["as drawn"]["dice"] != scores["augmented"]["dice"]


def test_torchio_without_real_subjects(tmp_path: Path) -> None:
    made = vessels_release(tmp_path / "release")
    shape = ["--release", str(made.folder), "--pairs", "64", "--steps", "80", "--subjects", "8"]
    said, scores = run("torchio_augmentation.py", tmp_path / "torchio", *shape)
    assert made.spent.sentence() in said
    assert NO_LEDGER not in said
    assert "tells nothing about patients" in said
    assert (scores["on_real_subjects"], scores["covered_by_epsilon"]) == (False, True)
    assert all(0.3 < scores[name]["dice"] <= 1 for name in ("as drawn", "augmented"))


@pytest.fixture(scope="module")
def vessels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that no patient has seen."""
    return vessels_release(tmp_path_factory.mktemp("vessels") / "release").folder


def refused(name: str, *options: str) -> str:
    """Run a script that must refuse; return its sentence."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options], capture_output=True, text=True, timeout=280
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("name", "release", "said"),
    [
        ("nnunet_on_synthetic.py", "mistyped", "mistyped"),
        ("monai_fine_tuning.py", "release", "16 test subjects train too"),
        ("torchio_augmentation.py", "mistyped", "mistyped"),
    ],
)
def test_what_cannot_be_used_is_said_and_leaves_nothing(
    name: str, release: str, said: str, vessels: Path, phantom_cohort: Callable[..., Path], tmp_path: Path
) -> None:
    table, out = phantom_cohort(), tmp_path / "out"
    given = ["--release", str(vessels.with_name(release)), "--test", str(table), "--training", str(table)]
    assert said in refused(name, *given, "--out", str(out))
    assert not out.exists()


def test_a_folder_that_holds_something_is_refused_and_an_empty_one_is_taken(
    vessels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shape = ["--release", str(vessels), "--pairs", "16", "--steps", "1", "--subjects", "2"]
    _, scores = run("torchio_augmentation.py", out, *shape)
    assert scores["as drawn"]["scans"] == 2
    before = (out / "scores.json").read_bytes()
    said = refused("torchio_augmentation.py", "--out", str(out), *shape)
    assert "already holds something" in said
    assert (out / "scores.json").read_bytes() == before
