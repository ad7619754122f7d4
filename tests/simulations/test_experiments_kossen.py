"""The experiments of Kossen in their tiny form: rows and files, going on after a kill, honest epsilons."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from willis.shared.accounting import epsilon
from willis.shared.errors import CohortError
from willis.shared.networks.build import public_generator
from willis.shared.recipes.catalogue import recipe_of
from willis.simulations.experiments import kossen2021, open_training
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.judging import compared_over
from willis.simulations.experiments.kossen2022 import study_at
from willis.simulations.experiments.open_training import train_openly
from willis.simulations.experiments.patch_accounting import RUNS, cells_of, per_patient
from willis.simulations.experiments.runner import run_experiment
from willis.simulations.progress import Show

SYSTEMS = ["real", "prior", "DCGAN", "WGAN-GP", "WGAN-GP-SN"]


def setting(folder: Path) -> Setting:
    return Setting("tiny", None, None, None, folder, Show(quiet=True))


@pytest.fixture(scope="module")
def finished_2021(tmp_path_factory):
    return run_experiment("kossen2021", setting(tmp_path_factory.mktemp("2021") / "run"))


@pytest.fixture(scope="module")
def finished_2022(tmp_path_factory):
    return run_experiment("kossen2022", setting(tmp_path_factory.mktemp("2022") / "run"))


def test_2021_has_every_row_and_file(finished_2021):
    rows = {row.system: row.values for row in finished_2021.result.rows}
    assert list(rows) == SYSTEMS
    for values in rows.values():
        assert {"privacy", "DSC, first", "DSC, second", "HD95 (pixels), first"} <= set(values)
    alike, moved = finished_2021.result.more
    assert [row.system for row in alike.rows] == SYSTEMS
    for row in alike.rows:
        assert {"fd[randconv2ch], N = 25", "fd[morpho13], real against real"} <= set(row.values)
        assert any(name.startswith("empty masks of") for name in row.values)
    assert rows["prior"]["privacy"] == "epsilon 0: meets no patient"
    assert {values["privacy"] for name, values in rows.items() if name != "prior"} == {"not private"}
    assert [row.system.split(",")[0] for row in moved.rows] == [
        "pre-trained on synthetic",
        "no pre-training",
    ] * 2
    files = {path.name for path in finished_2021.folder.iterdir()}
    assert {"index.html", "table.csv", "table.json", "transfer.png", "samples-4.png"} <= files
    assert not list(finished_2021.folder.glob("*.checkpoint"))
    assert finished_2021.result.data.startswith("VIRTUAL patients")
    assert len(finished_2021.result.readings) == 5


def test_2021_real_against_real_is_the_same_in_every_row(finished_2021):
    name = "fd[randconv2ch], real against real"
    rows = finished_2021.result.more[0].rows
    values = {row.values[name] for row in rows}
    assert values == {rows[0].values["fd[randconv2ch], N = 25"]}


def test_2021_goes_on_after_a_kill(finished_2021, tmp_path, monkeypatch):
    honest, trained = train_openly, []

    def killed_at_the_second(study, patches, **rest):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(study.recipe.name)
        return honest(study, patches, **rest)

    folder = tmp_path / "run"
    monkeypatch.setattr(open_training, "train_openly", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_experiment("kossen2021", setting(folder))
    assert not (folder / "index.html").exists()
    kept = folder / "parts" / "systems" / "DCGAN.npz"
    written = kept.stat().st_mtime_ns
    monkeypatch.setattr(open_training, "train_openly", honest)
    again = run_experiment("kossen2021", setting(folder))
    assert kept.stat().st_mtime_ns == written
    assert again.values["rows"] == finished_2021.values["rows"]
    assert again.values["more"] == finished_2021.values["more"]


def test_2022_prints_both_epsilons_of_the_same_run(finished_2022):
    rows = {row.system: row.values for row in finished_2022.result.rows}
    assert list(rows) == [
        "real",
        "prior",
        "DP-WGAN, epsilon 1 per patch",
        "DP-WGAN, epsilon 10 per patch",
        "DP-WGAN, noise off",
    ]
    for wanted in (1, 10):
        values = rows[f"DP-WGAN, epsilon {wanted} per patch"]
        per_patch, per_patient = values["epsilon per patch"], values["epsilon per patient"]
        assert isinstance(per_patch, float)
        assert isinstance(per_patient, float)
        assert 0.9 * wanted < per_patch <= wanted
        assert per_patient > per_patch
        assert "NOT a patient's privacy" in str(values["privacy"])
        assert "at delta" in str(values["privacy"])
    assert rows["DP-WGAN, noise off"]["privacy"] == "not private: no bound"
    assert rows["real"]["epsilon per patch"] is None
    assert {"epsilon.png", "samples-4.png", "index.html"} <= {
        path.name for path in finished_2022.folder.iterdir()
    }
    claim = finished_2022.result.readings[-1]
    assert "epsilon 3.612 per patch is claimed" in claim
    assert "14.986 by the same accountant" in claim
    assert "NOT a patient" in (finished_2022.folder / "index.html").read_text()


def test_2022_taken_up_again_trains_nothing_and_says_the_same(finished_2022):
    ledger = finished_2022.folder / "training" / "epsilon-1" / "sites" / "first" / "ledger.sqlite"
    before = ledger.stat().st_mtime_ns
    again = run_experiment("kossen2022", setting(finished_2022.folder))
    assert ledger.stat().st_mtime_ns == before
    assert json.dumps(again.values["rows"]) == json.dumps(finished_2022.values["rows"])


def test_the_released_code_claims_less_than_its_run_costs():
    claimed, true, fresh = RUNS.values()
    # 50 epochs of 41,000 // 32 = 1,281 batches; five critic steps, each with a real and a fake pass.
    assert (claimed.steps, true.steps, fresh.steps) == (640_500, 64_050, 320_250)
    told = cells_of(claimed)
    assert told["epsilon per patch, RDP"] == pytest.approx(3.6, abs=0.02)
    assert cells_of(true)["epsilon per patch, RDP"] == pytest.approx(14.9, abs=0.1)
    # The patient's bound is about a thousand patches' worth and more: no guarantee at all.
    patient = per_patient(true)["epsilon per patient"]
    assert isinstance(patient, float)
    assert patient > 1e4


def test_five_uses_of_one_gaussian_answer_are_one_with_a_fifth_of_its_variance():
    used = next(run for name, run in RUNS.items() if name.startswith("what it does"))
    assert used.noise_multiplier == pytest.approx(1 / math.sqrt(5))
    once = replace(used, sampling_rate=1.0, steps=1)
    five = replace(once, noise_multiplier=1.0, steps=5)
    assert epsilon([once], delta=1e-5) == pytest.approx(epsilon([five], delta=1e-5), rel=1e-3)


def test_a_difference_over_few_subjects_is_a_tendency():
    few = compared_over("a", [0.5, 0.6, 0.7], "b", [0.4, 0.5, 0.6])
    assert few == (
        "a (DSC 0.600) tends to lie above b (0.500): difference +0.100 (+0.100 to +0.100) over 3 subjects"
    )
    many = compared_over("a", [0.4] * 6, "b", [0.5] * 6)
    assert "is below b" in many
    assert "is not told apart from" in compared_over("a", [0.4, 0.6], "b", [0.6, 0.4])


def test_rate_and_delta_follow_from_the_patches(tiny_study):
    one = {"sites": [{"name": "first", "subjects": 5}], "quorum": 1}
    study = study_at(tiny_study(federation=one, privacy={"unit": "patch"}), 3.0, batch=4)
    assert study.privacy.sampling_rate == 4 / 20
    assert study.privacy.delta == pytest.approx(0.999 / 20)
    assert study.privacy.epsilon == 3.0


def test_a_cohort_alone_or_twice_is_refused(phantom_cohort, tmp_path):
    table = phantom_cohort(subjects=4)
    alone = replace(setting(tmp_path / "run"), cohort=table)
    with pytest.raises(CohortError, match="name its table by --second"):
        run_experiment("kossen2021", alone)
    with pytest.raises(CohortError, match="test subjects train too"):
        run_experiment("kossen2021", replace(alone, second=table))
    with pytest.raises(CohortError, match="name the folder of the public cohorts"):
        run_experiment("kossen2021", replace(setting(tmp_path / "other"), data=tmp_path))


def test_a_users_real_patches_are_not_put_into_the_page(tmp_path):
    sets = {name: torch.zeros(1, 2, 8, 8) for name in ("real", "DCGAN")}
    own = replace(setting(tmp_path), cohort=tmp_path / "cohort.csv")
    assert list(kossen2021.public_sets(sets, own)) == ["DCGAN"]
    assert list(kossen2021.public_sets(sets, setting(tmp_path))) == ["real", "DCGAN"]


@pytest.fixture
def gan(tiny_study):
    return tiny_study(
        patch={"size": [16, 16]},
        recipe={"name": "wgan-gp"},
        training={"protocol": "pooled", "rounds": 4, "critic_steps": 1, "critic_per_generator": 2},
    )


def patches(n: int) -> torch.Tensor:
    drawn = torch.rand(n, 2, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    drawn[:, -1] = torch.where(drawn[:, -1] > 0, 1.0, -1.0)
    return drawn


def test_open_training_is_the_recipes_own_rounds_without_noise(gan):
    pool = patches(6)
    found = train_openly(gan, pool, rounds=2, batch=4)
    recipe = recipe_of(gan)
    state = recipe.start()
    for number in (1, 2):
        dice = public_generator(gan.seed, "open training", number)
        batch = pool[torch.randint(6, (4,), generator=dice)]
        for axis in (2, 3):
            turned = torch.rand(4, generator=dice) < 0.5
            batch[turned] = batch[turned].flip(axis)
        vector = recipe.question(recipe.order(state, number=number), number=number).vector(batch)
        mean = open_training.PooledMean(mean=vector.numpy(), std=0.0, units=1.0)
        state = recipe.learn(state, mean, number=number)
    wanted = recipe.released(state)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def test_open_training_goes_on_from_its_checkpoint_bit_for_bit(gan, tmp_path, monkeypatch):
    monkeypatch.setattr(open_training, "_EVERY", 2)
    whole = train_openly(gan, patches(6), rounds=5, batch=4)

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    file, told = tmp_path / "x.checkpoint", []
    with pytest.raises(KeyboardInterrupt):
        train_openly(gan, patches(6), rounds=5, batch=4, progress=stop, checkpoint=file)
    found = train_openly(
        gan, patches(6), rounds=5, batch=4, progress=lambda done, of: told.append(done), checkpoint=file
    )
    assert told == [3, 4, 5]
    assert all(np.array_equal(found[key], whole[key]) for key in whole)


def test_open_training_refuses_what_cannot_train(gan):
    with pytest.raises(ValueError, match="got 0, 4 and 6"):
        train_openly(gan, patches(6), rounds=0, batch=4)
    with pytest.raises(ValueError, match="must have shape"):
        train_openly(gan, torch.zeros(6, 2, 8, 8), rounds=1, batch=4)
