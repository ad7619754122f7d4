"""`willis evaluate`: what rows are trained on, who may be tested on, and the command from end to end."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from willis.client import evaluation_rows
from willis.client.cli import _ROWS, evaluate
from willis.client.cohort import Cohort, read_cohort, split
from willis.client.evaluation_rows import ROWS, check_apart, judge, real_patches, training_patches
from willis.shared.command import willis
from willis.shared.errors import CohortError, StateError
from willis.shared.metrics.sheet import read_scores
from willis.shared.metrics.table import score_lines
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.prior_draws import draw_prior
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.release import write_release
from willis.shared.synthesis import draw_pairs

SPENT = PrivacySpent(
    epsilon=2.5, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)


@pytest.fixture
def release(tmp_path, tiny_study):
    study = tiny_study(use={"synthetic_pairs": 17})
    return write_release(
        tmp_path / "release",
        study=study,
        arrays=arrays_of(build_generator(study)),
        run="tiny-00",
        rounds=3,
        network=SPENT,
        spent={"site-a": SPENT},
        ledger_heads={"site-a": "ab"},
    )


@pytest.fixture
def tables(phantom_cohort, tmp_path):
    """Two tables: subjects to train on, and others to test on."""
    lines = phantom_cohort(subjects=3).read_text().splitlines()
    train, test = tmp_path / "export" / "train.csv", tmp_path / "export" / "test.csv"
    train.write_text("\n".join(lines[:5]) + "\n")
    test.write_text("\n".join([lines[0], *lines[5:]]) + "\n")
    return train, test


def test_every_row_has_as_many_patches_and_says_what_it_is(release, tables):
    train = read_cohort(tables[0])
    rows = training_patches(release, ("mixed", "real", "prior", "synthetic"), train=train)
    assert list(rows) == ["mixed", "real", "prior", "synthetic"]
    assert {patches.shape for patches in rows.values()} == {(17, 2, 16, 16)}
    assert torch.equal(rows["synthetic"], draw_pairs(release, n=17, seed=release.study.seed + 1))
    assert torch.equal(rows["prior"], draw_prior(release.study, 17, purpose="evaluation"))
    assert torch.equal(rows["real"], real_patches(train, release.study))
    # 17 // 2 = 8 synthetic ones, then 9 real ones.
    assert torch.equal(rows["mixed"][:8], rows["synthetic"][:8])
    assert torch.equal(rows["mixed"][8:], rows["real"][:9])


def test_a_mixed_row_needs_no_other_row(release, tables):
    rows = training_patches(release, ("mixed",), train=read_cohort(tables[0]))
    assert {name: len(patches) for name, patches in rows.items()} == {"mixed": 17}


def test_no_more_subjects_are_cut_than_patches_are_wanted(release, tables, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation_rows, "build_store", lambda cohort, *_, **__: asked.append(cohort))
    few = release.study.model_copy(
        update={"use": release.study.use.model_copy(update={"synthetic_pairs": 3})}
    )
    train = read_cohort(tables[0])
    with pytest.raises(AttributeError):  # the planted store has no patches
        real_patches(train, few)
    assert len(train) == 4
    assert len(asked[0]) == 3


@pytest.mark.parametrize(("rows", "told"), [((), "got none"), (("real", "unreal"), "got unreal")])
def test_unknown_rows_are_refused(release, rows, told):
    with pytest.raises(ValueError, match=told):
        training_patches(release, rows, train=None)


@pytest.mark.parametrize("row", ["real", "mixed"])
def test_a_real_row_needs_real_subjects(release, row):
    with pytest.raises(ValueError, match="need real training subjects"):
        training_patches(release, (row,), train=None)


def test_nobody_may_train_and_be_tested_on(phantom_cohort):
    everyone = read_cohort(phantom_cohort(subjects=3))
    train, test = split(everyone, 0.4, seed=1)
    check_apart(train, test)
    twice = test.subjects[0]
    with pytest.raises(CohortError, match=rf"1 test subjects train too.*\n.*{twice.name}: in both tables"):
        check_apart(Cohort((*train.subjects, twice)), test)


def test_a_file_under_two_names_is_seen(phantom_cohort):
    train, test = split(read_cohort(phantom_cohort(subjects=3)), 0.4, seed=1)
    renamed = replace(test.subjects[0], name="other-pseudonym")
    with pytest.raises(CohortError, match=f"{test.subjects[0].name}: a file of it is in both tables"):
        check_apart(Cohort((*train.subjects, renamed)), test)


def test_the_number_of_seeds_can_be_changed_and_nothing_else(release, tables, tmp_path):
    told = []
    sheet = judge(
        release,
        ("prior",),
        test=read_cohort(tables[1]),
        train=None,
        out=tmp_path / "scores.json",
        seeds=2,
        progress=lambda *what: told.append(what[0]),
    )
    assert sheet.row("prior").seeds == 2
    assert {"training prior (1 of 2)", "training prior (2 of 2)", "testing"} == set(told)
    assert sheet.privacy.per_site == {"site-a": SPENT}


def test_a_folder_that_is_not_there_is_seen_before_training(release, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_rows, "run_rows", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(StateError, match="there is no folder"):
        judge(release, ("prior",), test=read_cohort(tables[1]), train=None, out=tmp_path / "no" / "s.json")


def run(*words: object):
    return CliRunner().invoke(willis, ["evaluate", *(str(word) for word in words)])


def test_the_command_trains_tests_and_prints_a_table(release, tables, tmp_path):
    out = tmp_path / "scores.json"
    result = run(release.folder, "--test", tables[1], "--train", tables[0], "--out", out)
    assert result.exit_code == 0, result.output
    sheet = read_scores(out)
    assert [row.name for row in sheet.rows] == ["synthetic", "prior", "real", "mixed"]
    assert [row.n_subjects for row in sheet.rows] == [2, 2, 2, 2]
    for line in [*score_lines(sheet), f"Release: {SPENT.sentence()}", f"Scores: {out}"]:
        assert line in result.stdout


def test_the_command_answers_json_and_keeps_the_order_of_rows(release, tables, tmp_path):
    out = tmp_path / "scores.json"
    result = run(
        release.folder, "--test", tables[1], "--rows", "prior, synthetic,prior", "--out", out, "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [row["name"] for row in told["rows"]] == ["prior", "synthetic"]
    assert told == json.loads(out.read_text())
    assert told["covered_by_epsilon"] is False
    assert result.stderr == ""


@pytest.mark.parametrize("rows", ["real", "synthetic,mixed"])
def test_real_rows_without_real_subjects_end_with_2(release, tables, tmp_path, rows):
    result = run(release.folder, "--test", tables[1], "--rows", rows, "--out", tmp_path / "s.json")
    assert result.exit_code == 2
    assert "give --train COHORT.csv" in result.stderr


@pytest.mark.parametrize("rows", ["synthetik", ","])
def test_an_unknown_row_ends_with_2(release, tables, tmp_path, rows):
    result = run(release.folder, "--test", tables[1], "--rows", rows, "--out", tmp_path / "s.json")
    assert result.exit_code == 2
    assert "unknown row" in result.stderr


def test_the_same_subjects_in_both_tables_end_with_2(release, tables, tmp_path):
    result = run(
        release.folder,
        "--test",
        tables[1],
        "--train",
        tables[1],
        "--out",
        tmp_path / "s.json",
        "--rows",
        "real",
    )
    assert result.exit_code == 2
    assert "2 test subjects train too" in result.stderr
    assert not (tmp_path / "s.json").exists()


def test_a_damaged_release_ends_with_2(release, tables, tmp_path):
    shutil.copytree(release.folder, tmp_path / "copy")
    (tmp_path / "copy" / "models" / "model.safetensors").write_bytes(b"")
    assert run(tmp_path / "copy", "--test", tables[1], "--out", tmp_path / "s.json").exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_ends_with_3(release, tables, tmp_path):
    result = run(release.folder, "--test", tables[1], "--out", tmp_path / "s.json", "--device", "cuda")
    assert result.exit_code == 3
    assert '--device is "cuda"' in result.stderr


def test_the_command_knows_the_same_rows():
    assert _ROWS == ROWS
    assert all(row in (evaluate.help or "") for row in ROWS)


def test_a_difference_that_shows_no_gain_says_so(release, tables, tmp_path):
    sheet = judge(
        release, ("synthetic", "prior"), test=read_cohort(tables[1]), train=None, out=tmp_path / "s.json"
    )
    pair = sheet.differences[0]
    none = sheet.model_copy(
        update={"differences": (pair.model_copy(update={"dice": 0.1, "interval": (0.0, 0.2)}),)}
    )
    some = sheet.model_copy(
        update={"differences": (pair.model_copy(update={"dice": 0.1, "interval": (0.05, 0.2)}),)}
    )
    assert score_lines(none)[-1] == "  synthetic minus prior: +0.100 (+0.000 to +0.200): no gain shown"
    assert score_lines(some)[-1] == "  synthetic minus prior: +0.100 (+0.050 to +0.200)"


def test_prior_draws_are_named_by_their_purpose(tiny_study):
    study = tiny_study()
    some, same = draw_prior(study, 3, purpose="a"), draw_prior(study, 2, purpose="a")
    assert torch.equal(some[:2], same)
    assert not np.allclose(some, draw_prior(study, 3, purpose="b"))
    assert not np.allclose(some, draw_prior(tiny_study(seed=2), 3, purpose="a"))


def test_a_simulated_release_gets_the_scores_of_its_simulation(tiny_study_file, phantom_cohort, tmp_path):
    study, cohort, out = tiny_study_file(), phantom_cohort(subjects=8), tmp_path / "run"
    words = ["simulate", study, "--cohort", cohort, "--out", out, "--json"]
    simulated = CliRunner().invoke(willis, [str(word) for word in words])
    assert simulated.exit_code == 0, simulated.output
    scores = tmp_path / "again.json"
    tables = ("--test", out / "held_out.csv", "--train", out / "training.csv")
    result = run(out / "release", *tables, "--rows", "real,synthetic,prior", "--out", scores)
    assert result.exit_code == 0, result.output
    assert read_scores(scores) == read_scores(out / "scores.json")
    assert json.loads(simulated.stdout)["scores"] == json.loads(scores.read_text())
