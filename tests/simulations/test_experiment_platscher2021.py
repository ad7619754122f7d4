"""Platscher 2021 end to end at its tiny size: every row of the paper's table, with and without a database."""

import json

import pytest
import torch

from willis.simulations.experiments import platscher2021
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.lesion_cohort import write_lesion_cohort
from willis.simulations.experiments.lesion_cohort_masks import find_masks
from willis.simulations.experiments.lesion_cohort_study import odd_masks, open_lesions
from willis.simulations.experiments.platscher2021 import FEDERATED, TRANSLATORS, Plan, training_sets
from willis.simulations.experiments.runner import run_experiment
from willis.simulations.experiments.sizes import read_size
from willis.simulations.progress import Show


def setting(folder, **named) -> Setting:
    values = {"size": "tiny", "data": None, "cohort": None, "second": None, "folder": folder}
    return Setting(**values | named, show=Show(quiet=True))


def tiny() -> Plan:
    return read_size(platscher2021._SIZES, "tiny", Plan)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_experiment("platscher2021", setting(tmp_path_factory.mktemp("platscher") / "run"))


def test_every_row_of_the_comparison_is_there(run):
    rows = {row.system: row.values for row in run.result.rows}
    told = ("real, 4 subjects", "real, all subjects")
    wanted = {*told, *(f"{one} + {name}" for one in told for name in TRANSLATORS), FEDERATED}
    assert set(rows) == wanted | {f"{name} alone" for name in TRANSLATORS}
    assert "epsilon 8" in rows[FEDERATED]["privacy"]
    assert all(0 <= values["DSC, held out"] <= 1 for values in rows.values())
    for name in (f"{one} alone" for one in TRANSLATORS):
        assert rows[name]["patches"] == 16
        assert rows[name]["masks not binary"] == 0
        assert "empty masks" in rows[name]


def test_the_folder_holds_a_grid_of_each_and_the_curve(run):
    told = json.loads((run.folder / "table.json").read_text())
    assert {f"{name}.png" for name in ("gain", "real", "federated", *TRANSLATORS)} == set(told["figures"])
    assert "semi-synthetic" in told["data"]
    assert any("Degenerate masks among 16 drawn" in line for line in told["readings"])
    assert (
        "67.3" in (run.folder / "index.html").read_text()
        or "0.673" in (run.folder / "index.html").read_text()
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    here = setting(tmp_path_factory.mktemp("cohort") / "run")
    return open_lesions(here, tiny(), name="some", channels=("first",))


def test_sets_have_one_size_and_hold_half_of_a_database(cohort):
    database = torch.full((16, 2, 32, 32), 0.5)
    sets = training_sets(cohort, {"pix2pix": database}, (2, 1000))
    assert set(sets) == {
        "real, 2 subjects", "real, 2 subjects + pix2pix", "real, all subjects",
        "real, all subjects + pix2pix", "pix2pix alone",
    }  # fmt: skip
    assert {tuple(one.shape) for one in sets.values()} == {(16, 2, 32, 32)}
    mixed = sets["real, 2 subjects + pix2pix"]
    assert (mixed[:8] == 0.5).all()
    assert torch.equal(mixed[8:], sets["real, 2 subjects"][:8])


def test_a_few_subjects_are_a_few(cohort):
    assert cohort.training_subjects == 8
    assert len(cohort.tests["held out"]) == 4
    each = cohort.data.study.patch.per_subject
    few = cohort.patches(subjects=2)
    assert len(few) == 2 * each
    assert len(few.flatten(1).unique(dim=0)) <= 2 * each
    assert len(cohort.patches()) == 8 * each


def test_a_users_own_cohort_of_one_sequence(tmp_path):
    slabs = find_masks(None, subjects=8, slices=2, seed=5).slabs
    own = write_lesion_cohort(slabs, tmp_path / "own", seed=5)
    cohort = open_lesions(setting(tmp_path / "run", cohort=own), tiny(), name="own", channels=("first",))
    assert cohort.slabs == ()
    assert set(cohort.tests) == {"held out"}
    assert cohort.told.startswith("Subjects of cohort.csv.")


def test_odd_masks_by_hand():
    patches = torch.full((4, 2, 8, 8), -1.0)
    patches[1, 1] = 1
    patches[2, 1, 0, :3] = 1
    patches[3, 1, :4] = 1
    patches[3, 1, 7, 7] = 0.2
    assert odd_masks(patches) == {
        "patches": 4, "empty masks": 1, "full masks": 1, "masks under 8 px": 1, "masks not binary": 1,
    }  # fmt: skip


@pytest.mark.parametrize("size", ["tiny", "quick", "full"])
def test_sizes_fit(size):
    plan = read_size(platscher2021._SIZES, size, Plan)
    assert plan.numbers == tuple(sorted(plan.numbers))
