"""The site's ledger: it counts before it draws, replays for nothing, refuses what is beyond the cap."""

import math
import re
import tempfile
import time
from pathlib import Path

import pytest
from harness.made_ledger import COST, DELTA, RUN, opened, reserved
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.accounting import MechanismRun, epsilon
from willis.shared.errors import BudgetExhausted, StateError
from willis.shared.privacy import PrivacyUnit


def test_a_reservation_counts_at_once_and_after_reopening(path):
    with opened(path) as ledger:
        assert ledger.spent().epsilon == 0
        first = reserved(ledger)
        assert (first.id, first.replayed, len(first.key)) == (1, False, 32)
        assert ledger.spent().epsilon == pytest.approx(COST)
    with opened(path) as again:
        assert again.spent().epsilon == pytest.approx(COST)
        (row,) = again.rows()
        assert (row.study, row.purpose, row.inputs, row.run) == ("s", "run/round-1", "i", RUN)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", row.at)


def test_equal_runs_compose_as_one_longer_run(ledger):
    for number in range(4):
        ledger.settle(reserved(ledger, f"run/round-{number}").id)
    reserved(ledger, "run/round-4")
    together = epsilon([MechanismRun(0.25, 4.0, 5 * RUN.steps)], delta=DELTA)
    assert ledger.spent().epsilon == together < 5 * COST


def test_work_redone_has_the_same_key_and_costs_nothing(path):
    with opened(path) as ledger:
        first = reserved(ledger)
    with opened(path) as ledger:
        again = reserved(ledger)
        assert (again.id, again.replayed, again.key) == (first.id, True, first.key)
        assert len(ledger.rows()) == 1
        assert ledger.spent().epsilon == pytest.approx(COST)


OTHER = [
    {"purpose": "run/round-2"},
    {"inputs": "j"},
    *({"run": MechanismRun(0.25, s, 21)} for s in (4.0, 4.1)),
]


@pytest.mark.parametrize("other", OTHER)
def test_other_work_is_charged_and_has_a_key_of_its_own(ledger, other):
    first, second = reserved(ledger), reserved(ledger, **other)
    assert (second.id, second.replayed) == (2, False)
    assert second.key != first.key
    assert ledger.spent().epsilon > COST


def test_settled_work_is_not_replayed_and_its_key_is_gone(path):
    with opened(path) as ledger:
        first = reserved(ledger)
        files = list(path.parent.glob("*"))
        assert any(first.key in file.read_bytes() for file in files)
        assert repr(first) == "Reservation(id=1, replayed=False)"
        head = ledger.head()
        ledger.settle(first.id)
        ledger.settle(first.id)
        assert ledger.verify() == head
        assert ledger.rows()[0].settled
        assert ledger.spent().epsilon == pytest.approx(COST)
        assert not any(first.key in file.read_bytes() for file in path.parent.glob("*"))
        with pytest.raises(StateError, match="settled and its key wiped: send the stored answer"):
            reserved(ledger)


def test_a_row_that_is_not_there_is_not_settled(ledger):
    reserved(ledger)
    for row in (0, 2, -1):
        with pytest.raises(StateError, match=f"has no row {row}"):
            ledger.settle(row)


def test_the_cap_is_kept_and_the_refusal_has_the_figures(path):
    two, three = (epsilon([MechanismRun(0.25, 4.0, n * 20)], delta=DELTA) for n in (2, 3))
    with opened(path, cap=two) as ledger:
        reserved(ledger, "run/round-1")
        reserved(ledger, "run/round-2")  # lands on the cap: affordable
        head = ledger.head()
        with pytest.raises(BudgetExhausted) as refusal:
            reserved(ledger, "run/round-3")
        costs = f"epsilon {two:.4g} is spent, this run costs {three - two:.4g} more, so {three:.4g}; "
        assert costs + f"the cap is {two:g} (delta 1e-05, unit subject)" in str(refusal.value)
        assert (len(ledger.rows()), ledger.head()) == (2, head)
        assert reserved(ledger, "run/round-2").replayed  # still free


def test_a_hair_above_the_cap_and_tiny_noise_are_refused(path, ledger):
    with opened(path, cap=COST * (1 - 1e-4)) as tight, pytest.raises(BudgetExhausted):
        reserved(tight)
    with pytest.raises(BudgetExhausted, match="stop, or agree on a new cap"):
        reserved(ledger, run=MechanismRun(1.0, 0.01, 10**9))


def test_two_cohorts_have_two_ledgers(path):
    opened(path).close()
    with pytest.raises(StateError, match='is of cohort "cohort-a", not "cohort-b"'):
        opened(path, cohort="cohort-b")
    with pytest.raises(StateError, match='is of unit "subject", not "patch"'):
        opened(path, unit=PrivacyUnit.PATCH)
    with opened(path.with_name("b"), cohort="cohort-b") as other, opened(path) as first:
        reserved(first)
        assert other.spent().epsilon == 0
        assert other.head() != first.head()


def test_patch_unit_tells_the_patient_s_figure(path):
    with opened(path, unit=PrivacyUnit.PATCH, patches_per_patient=4) as ledger:
        reserved(ledger)
        spent = ledger.spent()
    assert spent.patient_epsilon is not None
    assert spent.patient_epsilon > spent.epsilon


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_cap_is_refused_and_makes_no_file(path, cap):
    with pytest.raises(ValueError, match=f"got {cap}"):
        opened(path, cap=cap)
    with pytest.raises(ValueError, match=r"delta must lie in .* got 0"):
        opened(path, delta=0.0)
    assert not path.exists()


def test_a_reservation_is_quick(ledger):
    reserved(ledger)
    slowest = 0.0
    for number in range(2, 12):
        started = time.perf_counter()
        reserved(ledger, f"run/round-{number}")
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 1


mechanisms = st.sampled_from([RUN, MechanismRun(0.5, 6.0, 3), MechanismRun(1.0, 9.0, 1)])


@settings(max_examples=5, deadline=None)
@given(st.lists(mechanisms, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(runs, dice):
    shuffled = dice.sample(runs, len(runs))
    figures = []
    for order in (runs, shuffled):
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "ledger") as ledger:
            for number, run in enumerate(order):
                reserved(ledger, str(number), run=run)
            figures.append(ledger.spent().epsilon)
    assert figures[0] == figures[1] == epsilon(runs, delta=DELTA)


def test_what_a_payment_assumes_is_told_with_every_figure(ledger):
    reserved(ledger, "run/round-1")
    assert "ASSUMING" not in ledger.spent().sentence()
    ledger.reserve(study="s", purpose="p", inputs="i", run=RUN, assumes="two honest sites")
    assert ledger.spent().sentence().endswith("(ASSUMING two honest sites)")
    assert [row.assumes for row in ledger.rows()] == ["", "two honest sites"]
