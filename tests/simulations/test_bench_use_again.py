"""The bench interrupted, told wrong, or called from the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from willis.shared.errors import CohortError, StateError, WillisError
from willis.simulations.benchmarks.use import runner
from willis.simulations.benchmarks.use.command import use
from willis.simulations.benchmarks.use.results import read_lines
from willis.simulations.benchmarks.use.runner import run_use

GRID = """
title = "Tiny"
tested_on = "held-out"
epsilons = [3, "inf"]
seeds = [1]
workers = 1
[data.pictures]
label = "Pictures"
study = "study.toml"
cohort = "export/cohort.csv"
[rows]
real = { label = "real", kind = "real" }
prior = { label = "prior", kind = "prior" }
[rows.pooled]
label = "pooled"
kind = "recipe"
changes = { training = { protocol = "pooled", critic_steps = 1 } }
"""


@pytest.fixture
def grid_file(tmp_path, tiny_study_file, phantom_cohort) -> Path:
    tiny_study_file()
    phantom_cohort(subjects=8)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


def test_a_bench_stopped_in_a_cell_goes_on_and_a_torn_line_is_cut(grid_file, monkeypatch):
    only = ("*/prior", "*/pooled", "*/real")
    out, judge = grid_file.parent / "out", runner.judge

    def pulled(name, *rest):
        if name == "pooled":
            raise KeyboardInterrupt
        return judge(name, *rest)

    monkeypatch.setattr(runner, "judge", pulled)
    with pytest.raises(KeyboardInterrupt):
        run_use(grid_file, out=out, data=grid_file.parent, only=only)
    kept = read_lines(out / "results.jsonl")
    assert [line.row for line in kept] == ["real", "prior"]
    ledger = out / "cells/pictures/pooled/eps-3/subject/seed-1/sites/site-a/ledger.sqlite"
    before = ledger.stat().st_mtime_ns
    with (out / "results.jsonl").open("a") as file:
        file.write('{"key": "pictures/poo')
    monkeypatch.setattr(runner, "judge", judge)
    outcome = run_use(grid_file, out=out, data=grid_file.parent, only=only)
    assert outcome.lines[:2] == tuple(kept)
    assert [line.row for line in outcome.lines] == ["real", "prior", "pooled", "pooled"]
    assert ledger.stat().st_mtime_ns == before, "the rounds that had ended were not paid for again"


def test_a_cell_that_fails_is_told_of_and_the_others_go_on(grid_file, monkeypatch):
    judge = runner.judge

    def broken(name, *rest):
        if name == "real":
            raise ValueError("out of luck")
        return judge(name, *rest)

    monkeypatch.setattr(runner, "judge", broken)
    outcome = run_use(
        grid_file, out=grid_file.parent / "out", data=grid_file.parent, only=("*/real", "*/prior")
    )
    assert outcome.failed == {"pictures/real/eps-inf/subject/seed-1": "ValueError: out of luck"}
    assert [line.row for line in outcome.lines] == ["prior"]
    assert "out of luck" in (outcome.folder / "use.html").read_text()


def test_results_of_another_grid_under_the_same_name_are_refused(grid_file, tiny_study_file):
    options = {"out": grid_file.parent / "out", "data": grid_file.parent, "only": ("*/prior",)}
    run_use(grid_file, **options)
    grid_file.write_text(
        GRID.replace('kind = "prior"', 'kind = "prior", changes = { use = { unet_steps = 3 } }')
    )
    with pytest.raises(StateError, match="results of other studies"):
        run_use(grid_file, **options)
    tiny_study_file(seed=2)
    with pytest.raises(StateError, match="was prepared for another study or split"):
        run_use(grid_file, **options)


def test_development_never_meets_those_held_out(grid_file):
    options = {"data": grid_file.parent, "only": ("*/prior",)}
    run_use(grid_file, out=grid_file.parent / "held-out", **options)
    grid_file.write_text(GRID.replace('"held-out"', '"development"'))
    outcome = run_use(grid_file, out=grid_file.parent / "development", **options)

    def names(folder: str, table: str) -> set[str]:
        rows = (grid_file.parent / folder / "data" / "pictures" / table).read_text().splitlines()[1:]
        return {row.split(",")[0] for row in rows}

    held_out = names("held-out", "held_out.csv")
    tuned_on = names("development", "held_out.csv")
    assert len(held_out) == len(tuned_on) == 4
    assert not held_out & (tuned_on | names("development", "training.csv"))
    assert tuned_on < names("held-out", "training.csv")
    assert "not a result to quote" in (outcome.folder / "use.md").read_text()


def test_without_a_folder_of_data_real_cohorts_are_refused(grid_file, monkeypatch):
    monkeypatch.delenv("WILLIS_DATA", raising=False)
    with pytest.raises(CohortError, match="--data or WILLIS_DATA"):
        run_use(grid_file, out=grid_file.parent / "out", only=("*/prior",))
    monkeypatch.setenv("WILLIS_DATA", str(grid_file.parent))
    assert run_use(grid_file, out=grid_file.parent / "out", only=("*/prior",)).lines


def test_the_command_prints_where_the_page_is_or_json_and_ends_in_1_where_a_cell_failed(
    grid_file, monkeypatch
):
    words = ["--grid", grid_file, "--data", grid_file.parent, "--only", "*/prior"]
    words = [str(word) for word in words]
    out = str(grid_file.parent / "out")
    result = CliRunner().invoke(use, [*words, "--out", out])
    assert result.exit_code == 0, result.output
    assert "use.html" in result.stdout
    result = CliRunner().invoke(use, [*words, "--out", out, "--json"])
    assert json.loads(result.stdout)["lines"][0]["key"] == "pictures/prior/eps-0/subject/seed-1"

    def broken(*_):
        raise ValueError("out of luck")

    monkeypatch.setattr(runner, "judge", broken)
    result = CliRunner().invoke(use, [*words, "--out", out + "2"])
    assert isinstance(result.exception, WillisError)
    assert "1 cells have no result" in str(result.exception)
    assert CliRunner().invoke(use, ["--quick", *words]).exit_code == 2
