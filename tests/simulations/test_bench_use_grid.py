"""A grid file: its cells counted by hand, the study of each, and every fault refused with its value."""

import math
from pathlib import Path

import pytest

from willis.shared.errors import StudyError
from willis.shared.privacy import PrivacyUnit
from willis.simulations.benchmarks.use.cells import Cell, cells_of, data_of, study_of
from willis.simulations.benchmarks.use.cohorts import base_study
from willis.simulations.benchmarks.use.grid import changed, read_grid, shipped_grid

GRID = """
title = "Tiny"
tested_on = "held-out"
epsilons = [3]
seeds = [1]
workers = 1
use = { unet_steps = 7 }
[data.pictures]
label = "Pictures"
study = "study.toml"
cohort = "cohort.csv"
[data.phantoms]
label = "Phantoms"
study = "study.toml"
virtual = 9
[rows.prior]
label = "prior"
kind = "prior"
[rows.gan]
label = "dp-wgan, local"
kind = "recipe"
epsilons = [3, 8, "inf"]
real_subjects = [2, 4]
real_epsilons = [8]
null = "null"
data = ["pictures"]
[rows.null]
label = "null"
kind = "null"
data = ["pictures"]
[rows.few]
label = "real"
kind = "real"
real_subjects = [1]
data = ["pictures"]
[rows.kossen]
label = "Kossen 2022"
kind = "recipe"
data = ["pictures"]
changes = { privacy = { unit = "patch", sampling_rate = 0.5 }, training = { optimiser = "rmsprop" } }
on = { pictures = { training = { rounds = 2 } } }
"""


@pytest.fixture
def grid_file(tmp_path, tiny_study_file) -> Path:
    tiny_study_file()
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


def test_cells_are_counted_by_hand(grid_file):
    grid = read_grid(grid_file)
    cells = cells_of(grid, {name: base_study(grid, name, grid_file) for name in grid.data})
    # prior on two data sets; gan: three alone and two with real subjects at 8; null, few, kossen.
    assert len(cells) == 2 + (3 + 2) + 3
    assert len({cell.key for cell in cells}) == len(cells)
    assert Cell("pictures", "gan", 8.0, PrivacyUnit.SUBJECT, 1, 4) in cells
    assert [cell.real_subjects for cell in cells][-3:] == [2, 4, 1], "after those whose generator they share"
    assert [cell.row for cell in cells if cell.unit is PrivacyUnit.PATCH] == ["kossen"]
    assert {cell.epsilon for cell in cells if cell.row == "prior"} == {0.0}
    assert {cell.epsilon for cell in cells if cell.row == "few"} == {math.inf}
    assert data_of(grid, only=["*/gan"]) == ["pictures"]
    assert data_of(grid) == ["pictures", "phantoms"]
    with pytest.raises(StudyError, match=r"like mri/\*; it has pictures/prior"):
        cells_of(grid, {}, only=["mri/*"])


def test_a_cells_study_is_the_data_sets_with_the_rows_changes(grid_file):
    grid = read_grid(grid_file)
    base = base_study(grid, "pictures", grid_file)
    study = study_of(grid, Cell("pictures", "kossen", 3.0, PrivacyUnit.PATCH, 7), base)
    assert (study.seed, study.privacy.epsilon, study.training.optimiser) == (7, 3.0, "rmsprop")
    assert (study.training.rounds, base.training.rounds) == (2, 3)
    assert base.use.unet_steps == 7
    assert [site.subjects for site in base_study(grid, "phantoms", grid_file).federation.sites] == [9, 9]
    assert (
        study_of(grid, Cell("pictures", "few", math.inf, PrivacyUnit.SUBJECT, 7), base).privacy
        == base.privacy
    )


def test_a_recipe_is_replaced_whole_and_other_tables_are_mixed():
    values = {"recipe": {"name": "a", "key": 1}, "training": {"rounds": 2, "ema": 0.5}}
    out = changed(values, {"recipe": {"name": "b"}, "training": {"rounds": 3}})
    assert out == {"recipe": {"name": "b"}, "training": {"rounds": 3, "ema": 0.5}}
    assert values["training"]["rounds"] == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epsilons = [3]", "epsilons = [0]", "each above 0"),
        ("seeds = [1]", "seeds = [1, 1]", "seeds must be different"),
        ('null = "null"', 'null = "prior"', 'must name a row of kind "null"'),
        ('kind = "prior"', 'kind = "prior"\nepsilons = [3]', "has no epsilon to choose"),
        ('kind = "prior"', 'kind = "prior"\ndata = ["mri"]', "names the data set 'mri'"),
        ('kind = "null"', 'kind = "null"\nreal_subjects = [1]', "are for kinds real and recipe"),
        ("real_subjects = [1]", "real_subjects = [0]", "at least 1"),
        ('cohort = "cohort.csv"', "", "either a cohort or virtual"),
        ("unet_steps = 7", "held_out = 0.5", "fixed before any bench"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused_with_its_value(grid_file, old, new, said):
    assert old in GRID
    grid_file.write_text(GRID.replace(old, new, 1))
    with pytest.raises(StudyError, match=said):
        read_grid(grid_file)


@pytest.mark.parametrize("name", ["quick", "full"])
def test_shipped_grids_are_sound(name):
    path = shipped_grid(name)
    grid = read_grid(path)
    bases = {data: base_study(grid, data, path) for data in grid.data}
    cells = cells_of(grid, bases)
    for cell in [cell for cell in cells if cell.seed == grid.seeds[0]]:
        assert study_of(grid, cell, bases[cell.data]).use.held_out == bases[cell.data].use.held_out
    assert {"real", "prior"} <= {grid.rows[cell.row].kind for cell in cells}
    if name == "full":
        assert len(grid.seeds) >= 3
        assert {1, 3, 8, "inf"} == set(grid.epsilons)
        assert grid.tested_on == "held-out"


def test_a_grid_that_nobody_ships_is_refused():
    with pytest.raises(ValueError, match="known: quick, short, full"):
        shipped_grid("huge")
