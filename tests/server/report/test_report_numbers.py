"""Every number of the report is the input's, every epsilon has its unit."""

import re

import pytest
from harness.made_report import EVALUATION, make_run, page_of, record_of, spent_of

from willis.server.checkpoint import add_metrics


def test_the_numbers_of_the_scores_are_those_of_the_file(pages):
    _, page = pages
    lines = page.tables["scores"][1:]
    assert [line[0] for line in lines] == ["real", "synthetic", "prior"]
    for line, exact, row in zip(lines, page.exact["scores"][1:], EVALUATION.rows, strict=True):
        assert exact == [row.dice, *row.dice_interval, row.hd95, row.cldice]
        shown = [float(number) for number in re.findall(r"-?\d+\.?\d*", " ".join(line[1:]))]
        counts = [row.n_subjects, row.n_empty_truths, row.n_empty_predictions, row.seeds]
        assert shown == pytest.approx([*exact, *counts], abs=0.005)
        assert line[2].endswith(row.hd95_unit)


def test_differences_say_what_is_shown(pages):
    words = pages[1].told()
    assert "synthetic minus prior: +0.033 Dice (+0.010 to +0.050), 2 subjects: a gain is shown." in words
    assert "synthetic minus real: -0.070 Dice (-0.100 to -0.040), 2 subjects: a loss is shown." in words
    assert "mixed minus real: +0.001 Dice (-0.020 to +0.020), 2 subjects: no difference is shown." in words


def test_scores_are_marked_as_not_covered_and_no_subject_s_own_is_told(pages):
    assert "Covered by epsilon: no." in pages[1].words
    shown = {float(number) for number in re.findall(r"\d+\.\d+", pages[0])}
    for row in EVALUATION.rows:
        assert row.dice in shown
        assert not {*row.per_subject, *(round(own, 3) for own in row.per_subject)} & shown


def test_the_numbers_of_the_rounds_are_those_of_the_records(pages):
    _, page = pages
    lines = zip(page.tables["table-rounds"][1:], page.exact["table-rounds"][1:], strict=True)
    for number, (line, exact) in enumerate(lines, start=1):
        record = record_of(number)
        assert exact == [record.norms["north"], record.norms["south"], record.seconds]
        assert line[:2] == [str(number), "yes"]
        assert line[2] == f"north {record.norms['north']:.3g}, south 0.5"
        assert line[3:] == ["none", "none", f"{record.seconds:.1f}"]


def test_the_ledger_tells_every_site_after_every_round(pages):
    _, page = pages
    assert page.tables["ledger"] == [
        ["Round", "north", "south", "Merged"],
        ["1", "1.11", "0.50", "yes"],
        ["2", "2.22", "1.00", "yes"],
        ["3", "3.33", "1.50", "yes"],
        ["Budget", "8.00", "8.00", ""],
    ]
    assert "as in the agreed budget: epsilon 8 at delta 0.0001, unit subject, neighbours" in page.told()


def test_the_way_from_the_floor_to_the_ceiling_is_told(pages):
    # (0.74321 - 0.70987) / (0.81234 - 0.70987) = 0.03334 / 0.10247 = 0.3254
    assert "From the floor to the ceiling, synthetic patches went 33 % of the way in Dice." in pages[1].told()


def test_refusals_and_strangers_are_listed_by_code(tmp_path):
    run = make_run(tmp_path / "run", rounds=0, released=False, scored=False)
    changes = {"merged": False, "answered": (), "norms": {}, "spent": {}}
    refused = {"south": "budget", "north": "deadline"}
    add_metrics(run / "metrics.jsonl", record_of(1, refused=refused, strangers={"other-name": 2}, **changes))
    line = page_of(run)[1].tables["table-rounds"][1]
    assert line[1:5] == ["no", "none", "north (deadline), south (budget)", "2 (other-name)"]


@pytest.mark.parametrize("unit", ["subject", "patch"])
@pytest.mark.parametrize("released", [True, False])
def test_an_epsilon_is_always_followed_by_delta_unit_and_relation(tmp_path, unit, released):
    _, page = page_of(make_run(tmp_path / "run", unit=unit, released=released))
    north, south = (line[1] for line in page.tables["sites"][1:])
    assert (north, south) == (spent_of(3.33, unit).sentence(), spent_of(1.5, unit).sentence())
    full = rf"epsilon [\d.]+ at delta 0.0001, unit {unit}, neighbours add-or-remove-one"
    patient, free = r"per patient epsilon \d+; over 4 patches", r"(costs?|at) epsilon 0\b(?!\.\d)"
    text, n = re.subn(full, "", page.told(), flags=re.IGNORECASE)
    # Two sites, the budget three times, the network or what the scores name; the card: network and two sites.
    assert n == (9 if released else 6)
    text, n = re.subn(patient, "", text)
    assert (n > 0) == (unit == "patch")
    assert not re.search(r"epsilon\W{0,4}\d", re.sub(free, "", text), re.IGNORECASE)
    assert ("is a patient's privacy, unless" in text) == (unit == "patch")
