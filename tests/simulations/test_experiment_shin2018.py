"""Shin 2018 end to end at its tiny size; edited labels; T1 to tissue."""

import json

import numpy as np
import pytest
import torch

from willis.shared.game_plans import EditPlan
from willis.shared.networks.translator import Translator
from willis.shared.patch import check_patches
from willis.shared.prior.brain import Matter
from willis.simulations.experiments import shin2018
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.lesion_cohort import draw_brain_patches, write_lesion_cohort
from willis.simulations.experiments.lesion_cohort_masks import find_masks
from willis.simulations.experiments.lesion_cohort_study import open_lesions
from willis.simulations.experiments.runner import run_experiment
from willis.simulations.experiments.shin2018 import FEDERATED, ROWS, TISSUE, Plan
from willis.simulations.experiments.shin2018_edits import edited_maps, freed_brains, simulated_brains
from willis.simulations.experiments.shin2018_tissue import (
    TissuePlan,
    as_channels,
    real_tissue,
    tissue_dice,
    tissue_of,
    train_tissue,
)
from willis.simulations.experiments.sizes import read_size
from willis.simulations.progress import Show


def setting(folder, **named) -> Setting:
    values = {"size": "tiny", "data": None, "cohort": None, "second": None, "folder": folder}
    return Setting(**values | named, show=Show(quiet=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_experiment("shin2018", setting(tmp_path_factory.mktemp("shin") / "run"))


def test_every_row_is_there_and_says_its_privacy(run):
    rows = {row.system: row.values for row in run.result.rows}
    assert set(rows) == {TISSUE, *ROWS}
    assert "epsilon 8" in rows[FEDERATED]["privacy"]
    assert "unit subject" in rows[FEDERATED]["privacy"]
    assert "delta 0.001" in rows[FEDERATED]["privacy"]
    assert all("privacy" in values for values in rows.values())
    for name in ROWS:
        assert 0 <= rows[name]["DSC, held out"] <= 1
        assert f"{'epsilon' if name == FEDERATED else 'none'}" in rows[name]["privacy"]
    assert {f"Dice, {tissue}" for tissue in ("fluid", "grey", "white")} <= set(rows[TISSUE])


def test_the_folder_holds_table_page_and_pictures_that_tell_what_the_subjects_are(run):
    page = (run.folder / "index.html").read_text()
    told = json.loads((run.folder / "table.json").read_text())
    assert "semi-synthetic" in told["data"]
    assert "semi-synthetic" in page
    assert "procedural prior" in told["data"]
    assert {"real.png", "edited.png", "federated.png", "tissue.png"} <= set(told["figures"])
    for name in told["figures"]:
        assert (run.folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_second_run_takes_up_what_is_done(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.glob("parts/**/*.npz")}
    assert before
    again = run_experiment("shin2018", setting(run.folder))
    assert again.result.rows == run.result.rows
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_users_own_cohort_of_two_sequences(tmp_path):
    slabs = find_masks(None, subjects=12, slices=2, seed=5).slabs
    own = write_lesion_cohort(slabs[:8], tmp_path / "own", seed=5)
    other = write_lesion_cohort(slabs[8:], tmp_path / "other", seed=6)
    here, plan = setting(tmp_path / "run", cohort=own, second=other), read_size(shin2018._SIZES, "tiny", Plan)
    cohort = open_lesions(here, plan, name="own", channels=("first", "second"))
    assert cohort.told.startswith("Subjects of cohort.csv.")
    assert {name: len(test) for name, test in cohort.tests.items()} == {"held out": 4, "second": 4}
    made = shin2018._synthetic(here, plan, cohort)
    assert made.shape == (16, 3, 32, 32)
    check_patches(made, cohort.data.study.patch)
    network = Translator(dimensions=2, inputs=2, outputs=4, width=4)
    shown = real_tissue(network, cohort.tests["second"], cohort.data.study.patch, shown=2)
    assert shown.shape == (8, 3, 80, 96)
    assert set(shown[:, 2].unique().tolist()) == {-1.0, 1.0}


def test_edited_maps_leave_out_what_is_not_allowed():
    masks = find_masks(None, subjects=3, slices=2, seed=2).slabs
    ill = draw_brain_patches(4, side=32, seed=2, masks=masks)
    healthy = simulated_brains(5, side=32, levels=4, blur=1.0, seed=9)
    assert (healthy.maps[:, 1] == -1).all()
    maps = torch.cat([healthy.maps[:4, :1], ill.patches[:, -1:]], dim=1)
    plan = EditPlan(moved=0.2, scaled=(0.7, 1.3), mirrored=True)
    made = edited_maps(maps, healthy, n=24, plan=plan, seed=1)
    assert made.shape == (24, 2, 32, 32)
    assert set(made[:, 1].unique().tolist()) <= {-1.0, 1.0}
    assert (made[:, 1] > 0).any()
    for one in made[1::2]:
        home = next(at for at, level in enumerate(healthy.maps[:, 0]) if torch.equal(level, one[0]))
        assert not ((one[1] > 0) & ~healthy.allowed[home]).any()
    assert torch.equal(edited_maps(maps, healthy, n=6, plan=plan, seed=1), made[:6])
    assert not torch.equal(edited_maps(maps, healthy, n=24, plan=plan, seed=2), made)


def test_allowed_is_grey_and_white_matter_and_freed_brains_hold_no_lesion():
    healthy = simulated_brains(3, side=32, levels=4, blur=0.0, seed=4)
    matter = torch.from_numpy(draw_brain_patches(3, side=32, seed=4).matter)
    assert torch.equal(healthy.allowed, matter >= int(Matter.GREY))
    maps = torch.tensor([[[[-1.0, 1.0]], [[-1.0, 1.0]]]])
    freed = freed_brains(maps)
    assert freed.maps.tolist() == [[[[-1.0, 1.0]], [[-1.0, -1.0]]]]
    assert freed.allowed.tolist() == [[[False, True]]]


def test_tissue_dice_by_hand():
    truth = np.array([[[0, 1, 2, 3], [3, 3, 3, 3]]], np.uint8)
    found = torch.tensor([[[0, 1, 3, 3], [3, 3, 2, 2]]])
    # Fluid is right; grey has no pixel right; white has 3 right of 5 and 4: 2 x 3 / 9.
    assert tissue_dice(found, truth) == pytest.approx({"fluid": 1.0, "grey": 0.0, "white": 6 / 9})
    assert as_channels(found)[0, :, 0, 2].tolist() == [-1, -1, -1, 1]


def test_tissue_is_learned_and_global_dice_are_left_alone():
    train = draw_brain_patches(24, side=32, seed=1)
    plan = TissuePlan(brains=24, tested=8, steps=60, batch=8, width=8, rate=2e-3)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    network = train_tissue(train.patches[:, 1:2], train.matter, plan, seed=1, advance=lambda done, of: None)
    assert torch.equal(torch.random.get_rng_state(), before)
    test = draw_brain_patches(8, side=32, seed=2)
    found = tissue_dice(tissue_of(network, test.patches[:, 1:2]), test.matter)
    # Guessing white everywhere reaches 0.69 there, and 0 for grey.
    assert found["white"] > 0.85
    assert found["grey"] > 0.3


@pytest.mark.parametrize("size", ["tiny", "quick", "full"])
def test_sizes_fit(size):
    plan = read_size(shin2018._SIZES, size, Plan)
    assert plan.study["patch"]["size"][0] <= 80
