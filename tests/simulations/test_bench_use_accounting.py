"""Every epsilon of the bench follows from its ledgers; a cell with too little noise is caught."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from willis.client.ledger import Ledger
from willis.shared import accounting
from willis.shared.accounting import MechanismRun, epsilon_prv, epsilon_rdp, noise_multiplier
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import Study
from willis.simulations.benchmarks.use.accounting_check import check_accounting
from willis.simulations.benchmarks.use.results import Line, add_line

SITES = ("site-a", "site-b")
EPSILON, DELTA, ROUNDS = 3.0, 1e-3, 2
HONEST = noise_multiplier(epsilon=EPSILON, delta=DELTA, sampling_rate=1.0, steps=ROUNDS)


@pytest.fixture
def study(tiny_study) -> Study:
    return tiny_study(
        privacy={"epsilon": EPSILON, "delta": DELTA, "sampling_rate": 1.0},
        training={"rounds": ROUNDS, "critic_steps": 1},
    )


def scores() -> SegmentationScores:
    return SegmentationScores(
        name="row",
        dice=0.5,
        dice_interval=(0.5, 0.5),
        hd95=1.0,
        cldice=0.5,
        n_subjects=1,
        n_empty_truths=0,
        n_empty_predictions=0,
        seeds=1,
        hd95_unit="mm",
        per_subject=(0.5,),
    )


@pytest.fixture
def bench(tmp_path: Path, study: Study) -> Callable[..., Path]:
    """Write the papers of one private cell: two sites, two rounds; returns the bench's folder."""

    def write(
        *, noise: float = HONEST, told: dict[str, Any] | None = None, rounds: int = ROUNDS, **line: Any
    ) -> Path:
        key = "pictures/gan/eps-3/subject/seed-1"
        cell = tmp_path / "cells" / key
        spent = {}
        for site in SITES:
            path = cell / "sites" / site / "ledger.sqlite"
            with Ledger.open(
                path, cohort=site, epsilon_cap=1000.0, delta=DELTA, unit=PrivacyUnit.SUBJECT
            ) as ledger:
                for number in range(1, rounds + 1):
                    run = MechanismRun(1.0, noise, 1)
                    row = ledger.reserve(
                        study=study.digest(), purpose=f"run/round-{number}", inputs="x", run=run
                    )
                    ledger.settle(row.id)
                spent[site] = ledger.spent().model_copy(update=told or {})
        (cell / "study.json").write_text(study.model_dump_json())
        (cell / "metrics.jsonl").write_text((json.dumps({"answered": SITES}) + "\n") * ROUNDS)
        fields = {
            "key": key,
            "data": "pictures",
            "row": "gan",
            "kind": "recipe",
            "epsilon": EPSILON,
            "unit": "subject",
            "seed": 1,
            "privacy": "private",
            "sites": spent,
            "network": spent["site-a"],
            "scores": scores(),
            "tested_on": "held-out",
            "training_subjects": 12,
            "study_digest": study.digest(),
            "train_s": 1.0,
            "wall_s": 1.0,
            "cpu_s": 1.0,
            "machine": {},
        }
        add_line(tmp_path / "results.jsonl", Line(**(fields | line)))
        return tmp_path

    return write


def test_an_honest_cell_is_found_sound_and_witnesses_agree(bench):
    assert check_accounting(bench()) == []
    runs = [MechanismRun(1.0, HONEST, 1)] * ROUNDS
    counted = accounting.epsilon(runs, delta=DELTA)
    assert counted == pytest.approx(EPSILON, rel=2e-3)
    assert epsilon_prv(runs, delta=DELTA) == pytest.approx(counted, rel=0.01)
    assert epsilon_rdp(runs, delta=DELTA) > counted


def test_too_little_noise_is_caught_where_the_line_tells_the_truth(bench):
    faults = check_accounting(bench(noise=0.5 * HONEST))
    assert len(faults) == 2
    assert all("its ledger counts epsilon" in fault and "the cell's is 3" in fault for fault in faults)


def test_too_little_noise_is_caught_where_the_line_claims_the_cells_epsilon(bench):
    faults = check_accounting(bench(noise=0.9 * HONEST, told={"epsilon": EPSILON}))
    assert sum("the line says epsilon 3, its ledger counts 3.4" in fault for fault in faults) == 2
    assert sum("the cell's is 3" in fault for fault in faults) == 2


def test_noise_lowered_by_a_part_in_a_hundred_is_caught(bench):
    assert check_accounting(bench(noise=0.99 * HONEST)) != []


def forge(path: Path, noise: float, *, chained: bool) -> None:
    """Write another noise into a ledger's first row; ``chained`` mends the hashes, as a forger would."""
    with sqlite3.connect(path) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE payment SET noise_multiplier = ? WHERE id = 1", (noise,))
        if chained:
            rehash(database)
    database.close()


def rehash(database: sqlite3.Connection) -> None:
    """Chain all rows anew; the ledger's own formula, written out a second time."""

    def digest(previous: str, content: list) -> str:
        return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()

    about = database.execute("SELECT name, value FROM about ORDER BY name").fetchall()
    previous = digest("", [list(pair) for pair in about])
    columns = [row[1] for row in database.execute("PRAGMA table_info(payment)")]
    content = ", ".join(name for name in columns if name not in ("hash", "state", "key"))
    for values in database.execute(f"SELECT {content} FROM payment ORDER BY id").fetchall():
        previous = digest(previous, list(values))
        database.execute("UPDATE payment SET hash = ? WHERE id = ?", (previous, values[0]))


def test_a_row_whose_noise_was_lowered_later_breaks_the_chain(bench):
    folder = bench()
    forge(next(folder.rglob("site-b/ledger.sqlite")), 0.5 * HONEST, chained=False)
    [fault] = check_accounting(folder)
    assert "site-b" in fault
    assert "was altered at row 1" in fault


def test_a_row_whose_noise_was_lowered_and_the_chain_mended_costs_more_than_the_line_says(bench):
    folder = bench()
    forge(next(folder.rglob("site-b/ledger.sqlite")), 0.5 * HONEST, chained=True)
    faults = check_accounting(folder)
    assert len(faults) == 2
    assert "site-b: the line says epsilon" in faults[0]
    assert "the cell's is 3" in faults[1]


def test_a_line_that_claims_less_than_its_ledger_is_caught(bench):
    faults = check_accounting(bench(told={"epsilon": 1.0}))
    assert len(faults) == 2
    assert "the line says epsilon 1, its ledger counts" in faults[0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"delta": 1e-6}, "at delta 1e-06"),
        ({"unit": PrivacyUnit.PATCH}, "unit patch"),
        ({"assumes": "two honest sites"}, "assumes 'two honest sites', its ledger 'nothing'"),
    ],
)
def test_a_figure_about_something_else_is_caught(bench, told, said):
    faults = check_accounting(bench(told=told))
    assert len(faults) == 2
    assert all(said in fault for fault in faults)


def test_a_round_that_was_answered_and_not_paid_for_is_caught(bench):
    faults = check_accounting(bench(rounds=1))
    assert [fault for fault in faults if "2 private draws were answered, 1 were paid for" in fault]


def test_a_network_that_is_better_off_than_its_worst_site_is_caught(bench):
    low = PrivacySpent(
        epsilon=1.0,
        delta=DELTA,
        unit=PrivacyUnit.SUBJECT,
        relation=Relation.ADD_OR_REMOVE,
        accountant=accounting.ACCOUNTANT,
    )
    [fault] = check_accounting(bench(network=low))
    assert "the network's epsilon is 1, the largest of its sites" in fault


def test_a_site_left_out_of_the_line_is_caught(bench):
    folder = bench()
    line = json.loads((folder / "results.jsonl").read_text())
    del line["sites"]["site-b"]
    (folder / "results.jsonl").write_text(json.dumps(line) + "\n")
    [fault] = check_accounting(folder)
    assert "site-b answered, and its spending is missing" in fault


def test_missing_papers_are_caught(bench):
    folder = bench()
    next(folder.rglob("site-a/ledger.sqlite")).unlink()
    [fault] = check_accounting(folder)
    assert "site-a: the line says it spent, and there is no ledger" in fault
    next(folder.rglob("study.json")).unlink()
    [fault] = check_accounting(folder)
    assert "holds no study.json" in fault


def test_another_study_than_the_lines_is_caught(bench):
    faults = check_accounting(bench(study_digest="0" * 64))
    assert len(faults) == 1
    assert "the line names 000000000000" in faults[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"privacy": "not private", "epsilon": "inf"}, "names spending of site-a, site-b"),
        ({"privacy": "public", "epsilon": 0.0, "sites": {}, "network": None}, "public, and has a ledger"),
        ({"privacy": "public", "epsilon": 3.0}, "public, and claims epsilon 3"),
        ({"privacy": "private", "sites": {}, "network": None}, "private, and names no spending"),
    ],
)
def test_what_is_not_paid_for_has_no_ledger_and_what_is_private_has_one(bench, line, said):
    assert [fault for fault in check_accounting(bench(**line)) if said in fault]


def test_without_results_there_is_nothing_to_find(tmp_path):
    assert check_accounting(tmp_path) == []
