"""`willis bench run use` on a tiny grid: every kind of row, resumed, and refused where it does not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from willis.shared.errors import StateError
from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family
from willis.shared.privacy import PrivacyUnit
from willis.simulations.benchmarks.use import runner
from willis.simulations.benchmarks.use.runner import run_use

STUDY = """
name = "tiny"
seed = 1
patch = { size = [16, 16], per_subject = 4 }
prior = { family = "vessels" }
networks = { latent = 8, generator_width = 4, critic_width = 4, depth = 2 }
privacy = { unit = "subject", epsilon = 8.0, delta = 1e-3, sampling_rate = 1.0 }
training = { rounds = 2, critic_steps = 1, patches_per_bag = 2, fakes = 4, device = "cpu" }
use = { synthetic_pairs = 16, held_out = 0.2, unet_steps = 2, unet_batch = 4, unet_width = 4 }
federation = { quorum = 2, deadline_s = 60, sites = [
    { name = "site-a", subjects = 6 }, { name = "site-b", subjects = 6 } ] }
"""
GRID = """
title = "Tiny"
tested_on = "held-out"
epsilons = [3]
seeds = [1]
workers = 1
[data.pictures]
label = "Pictures"
study = "study.toml"
cohort = "cohort.csv"
[rows]
real = { label = "real", kind = "real" }
prior = { label = "prior", kind = "prior" }
pooled-null = { label = "dp-wgan, null", kind = "null", changes = { training = { protocol = "pooled" } } }
start = { label = "start", kind = "start" }
few = { label = "real", kind = "real", real_subjects = [1] }
wgan-gp = { label = "WGAN-GP-SN", kind = "non-private-gan", steps = 1 }
[rows.gan]
label = "dp-wgan, local"
kind = "recipe"
epsilons = [3, "inf"]
real_subjects = [2]
changes = { training = { protocol = "local" } }
[rows.pooled]
label = "dp-wgan, pooled"
kind = "recipe"
epsilons = [3, "inf"]
null = "pooled-null"
changes = { training = { protocol = "pooled" } }
[rows.secure]
label = "dp-wgan, secure aggregation"
kind = "recipe"
changes = { training = { protocol = "pooled" }, federation = { secure = { colluders = 1 } } }
[rows.kossen]
label = "Kossen 2022"
kind = "recipe"
[rows.kossen.changes]
privacy = { unit = "patch", sampling_rate = 0.5, fake_centred = false }
networks = { constraint = "weight-clip" }
training = { protocol = "local", optimiser = "rmsprop" }
[rows.private-unet]
label = "private U-net"
kind = "private-unet"
epsilons = [3, "inf"]
changes = { training = { protocol = "pooled" } }
[rows.private-finetune]
label = "private fine-tuning"
kind = "private-finetune"
trained = ["layers.final_conv"]
changes = { training = { protocol = "pooled" } }
"""


def write_data(folder: Path, *, subjects: int = 8) -> Path:
    """Write study, grid and a cohort of pictures; returns the grid."""
    lines = ["subject,site,image,label"]
    for number in range(2 * subjects):
        image, label = draw_subject(Family.VESSELS, size=(24, 24), generator=np.random.default_rng(number))
        Image.fromarray(np.clip(image, 0, 65535).astype(np.uint16)).save(folder / f"p{number}_image.png")
        Image.fromarray(label).save(folder / f"p{number}_label.png")
        lines.append(f"p{number},site-{'ab'[number % 2]},p{number}_image.png,p{number}_label.png")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    (folder / "study.toml").write_text(STUDY)
    (folder / "grid.toml").write_text(GRID)
    return folder / "grid.toml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> runner.Outcome:
    folder = tmp_path_factory.mktemp("bench")
    return run_use(write_data(folder), out=folder / "out", data=folder, page=folder / "docs")


def test_every_kind_of_row_leaves_one_line_with_all_that_it_needs(finished):
    assert finished.failed == {}
    lines = {line.key: line for line in finished.lines}
    assert len(lines) == 17
    for line in lines.values():
        assert line.scores.n_subjects == 4, "2 of 8 are held out at each site"
        assert line.training_subjects == 12
        assert list(line.scores.per_subject) == sorted(line.scores.per_subject, reverse=True)
        assert line.machine["torch"]
        assert line.tested_on == "held-out"
        in_order = json.loads((finished.folder / "cells" / line.key / "subjects.json").read_text())
        assert np.mean(in_order) == pytest.approx(line.scores.dice)
    by_privacy = {
        what: {line.row for line in lines.values() if line.privacy == what}
        for what in ("public", "private", "not private")
    }
    assert by_privacy == {
        "public": {"prior", "start", "pooled-null"},
        "private": {"gan", "pooled", "secure", "kossen", "private-unet", "private-finetune"},
        "not private": {"real", "few", "wgan-gp", "gan", "pooled", "private-unet"},
    }


def test_what_was_spent_is_the_cells_epsilon_and_names_its_unit(finished):
    for line in finished.lines:
        if line.privacy != "private":
            assert (line.sites, line.network) == ({}, None)
            continue
        assert line.network is not None
        assert set(line.sites) == {"site-a", "site-b"}
        assert 0.99 * 3 < line.network.epsilon <= 3 * (1 + 1e-6)
        assert f"at delta 0.001, unit {line.unit.value}, neighbours add-or-remove-one" in line.sentence()
    [kossen] = [line for line in finished.lines if line.row == "kossen"]
    assert kossen.unit is PrivacyUnit.PATCH
    assert kossen.network is not None
    assert kossen.network.patient_epsilon is not None
    assert kossen.network.patient_epsilon > 3
    assert "NOT a patient's privacy" in kossen.sentence()


def test_what_a_figure_assumes_stands_in_its_sentence(finished):
    assumes = {line.row: line.network.assumes for line in finished.lines if line.network is not None}
    assert assumes["secure"]
    assert not any(told for row, told in assumes.items() if row != "secure")
    [secure] = [line for line in finished.lines if line.row == "secure"]
    assert "ASSUMING" in secure.sentence()
    assert "ASSUMING" in (finished.folder / "use.md").read_text()


def test_no_page_is_written_over_an_epsilon_that_does_not_follow_from_the_ledgers(finished, tmp_path):
    folder = finished.folder.parent
    copied = shutil.copytree(finished.folder, tmp_path / "out", symlinks=True)
    (copied / "use.md").unlink()
    lines = [json.loads(text) for text in (copied / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["row"] == "pooled" and line["privacy"] == "private":
            line["sites"]["site-a"]["epsilon"] = 0.5
    (copied / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StateError, match="no page is written") as caught:
        run_use(folder / "grid.toml", out=copied, data=folder)
    assert len(caught.value.problems) == 1
    assert "pooled/eps-3/subject/seed-1: site-a: the line says epsilon 0.5" in caught.value.problems[0]
    assert not (copied / "use.md").exists()


@pytest.mark.slow
def test_phantoms_of_any_number_run_in_two_processes(tmp_path):
    grid_file = write_data(tmp_path)
    virtual = "".join(
        f'[data.phantoms-{n}]\nlabel = "P"\nstudy = "study.toml"\nvirtual = {n}\ntest_virtual = 3\n'
        'family = "P"\n'
        for n in (4, 8)
    )
    text = GRID.replace("workers = 1", "workers = 2").replace("[rows]", virtual + "[rows]", 1)
    grid_file.write_text(text)
    out = grid_file.parent / "out"
    only = ("phantoms-*/prior", "phantoms-*/pooled")
    outcome = run_use(grid_file, out=out, only=only)
    assert outcome.failed == {}
    assert {line.data: line.training_subjects for line in outcome.lines} == {
        "phantoms-4": 8,
        "phantoms-8": 16,
    }
    assert {line.scores.n_subjects for line in outcome.lines} == {6}
    tables = [(out / "data" / f"phantoms-{n}" / "test" / "cohort.csv").read_bytes() for n in (4, 8)]
    assert tables[0] == tables[1], "the same subjects are tested on, however many train"
    images = [
        (out / "data" / f"phantoms-{n}" / "test/site-a/site-a-00000_image.png").read_bytes() for n in (4, 8)
    ]
    assert images[0] == images[1]
    assert images[0] != (out / "data/phantoms-4/virtual/site-a/site-a-00000_image.png").read_bytes()
    assert "how many subjects does it take?" in (out / "use.html").read_text()


def test_a_row_with_real_subjects_shares_the_generator_and_says_who_is_unprotected(finished):
    lines = {line.key: line for line in finished.lines}
    alone = lines["pictures/gan/eps-3/subject/seed-1"]
    mixed = lines["pictures/gan+2-real/eps-3/subject/seed-1"]
    assert mixed.release == alone.release != ""
    assert mixed.sentence() == alone.sentence() + "; 2 real subjects unprotected"


def test_table_and_page_hold_every_row_and_no_outside_address(finished):
    table, page = ((finished.folder / name).read_text() for name in ("use.md", "use.html"))
    assert table.count("\n| ") == 2 + len(finished.lines), "a head, the line below it, and the rows"
    assert "not private (no bound for any unit)" in table
    assert page.count("<tr") == 1 + len(finished.lines)
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image/svg+xml" in page
    docs = finished.folder.parent / "docs"
    assert {path.name for path in docs.iterdir()} == {"use.md", "use.html", "use.jsonl"}


def test_running_it_again_trains_nothing(finished, monkeypatch):
    def nobody(job):
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "run_cell", nobody)
    folder = finished.folder.parent
    again = run_use(folder / "grid.toml", out=finished.folder, data=folder)
    assert again.lines == finished.lines
