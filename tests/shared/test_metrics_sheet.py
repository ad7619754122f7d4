"""What may be declared of an evaluation, and the file that declares it."""

import json
import os

import pytest

from willis.shared.errors import StateError
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.metrics.sheet import Evaluation, read_scores, write_scores
from willis.shared.metrics.table import score_lines
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation


def scores(**changes) -> SegmentationScores:
    values = {
        "name": "synthetic", "dice": 0.75, "dice_interval": (0.6, 0.9), "hd95": 2.5, "hd95_unit": "mm",
        "cldice": 0.7, "n_subjects": 2, "n_empty_truths": 0, "n_empty_predictions": 1, "seeds": 3,
        "per_subject": (0.9, 0.6),
    }  # fmt: skip
    return SegmentationScores.model_validate(values | changes)


def spent(epsilon: float = 2.9) -> PrivacySpent:
    return PrivacySpent(
        epsilon=epsilon,
        delta=1e-3,
        unit=PrivacyUnit.SUBJECT,
        relation=Relation.ADD_OR_REMOVE,
        accountant="pld",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_subject": (0.6, 0.9)}, "who is who"),
        ({"per_subject": (0.9,)}, "must hold 2"),
        ({"dice_interval": (0.9, 0.6)}, "must rise"),
        ({"hd95": float("nan")}, "finite"),
        ({"hd95_unit": "cm"}, "'mm' or 'pixels'"),
        ({"hd95_mm": 2.5}, "Extra inputs"),
        ({"spacing_known": False}, "Extra inputs"),
    ],
)
def test_scores_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        scores(**changes)


def test_the_sheet_says_what_is_not_covered(tmp_path):
    path = tmp_path / "scores.json"
    sheet = write_scores(path, Evaluation(rows=(scores(),)), privacy=spent(), per_site={"a": spent(1.5)})
    written = json.loads(path.read_text())
    assert written["covered_by_epsilon"] is False
    assert "nothing was paid" in written["note"]
    assert {
        "name",
        "dice",
        "dice_interval",
        "hd95",
        "hd95_unit",
        "cldice",
        "n_subjects",
        "n_empty_predictions",
        "seeds",
    } <= set(written["rows"][0])
    assert not {"hd95_mm", "spacing_known"} & set(written["rows"][0])
    privacy = written["privacy"]
    assert (privacy["epsilon"], privacy["unit"], privacy["per_site"]["a"]["epsilon"]) == (2.9, "subject", 1.5)
    assert read_scores(path) == sheet
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(("spacing_known", "unit"), [(True, "mm"), (False, "pixels")])
def test_a_sheet_of_0_1_0_is_read_with_the_unit_that_it_meant(tmp_path, spacing_known, unit):
    path = tmp_path / "scores.json"
    write_scores(path, Evaluation(rows=(scores(),)), privacy=spent())
    old = json.loads(path.read_text())
    del old["rows"][0]["hd95"], old["rows"][0]["hd95_unit"]
    old["rows"][0] |= {"hd95_mm": 2.5, "spacing_known": spacing_known}
    path.write_text(json.dumps(old))
    row = read_scores(path).rows[0]
    assert (row.hd95, row.hd95_unit, row.hd95_mm) == (2.5, unit, 2.5)
    assert row == scores(hd95_unit=unit)


def test_the_unit_stands_beside_every_distance_in_the_table():
    found = Evaluation(rows=(scores(), scores(name="prior", hd95=31.25, hd95_unit="pixels")))
    lines = score_lines(found)
    assert [line[:53].split()[-2:] for line in lines[2:]] == [["2.50", "mm"], ["31.25", "px"]]
    assert len({len(line) for line in lines[1:]}) == 1


def test_a_full_disk_leaves_the_earlier_sheet(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_scores(path, Evaluation(rows=(scores(),)), privacy=spent())
    before = path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        write_scores(path, Evaluation(rows=(scores(dice=0.7),)), privacy=spent())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]


def test_a_sheet_that_is_none_is_refused(tmp_path):
    with pytest.raises(StateError, match="cannot read"):
        read_scores(tmp_path / "scores.json")
    (tmp_path / "scores.json").write_text('{"rows": []}')
    with pytest.raises(StateError, match="no sheet of scores"):
        read_scores(tmp_path / "scores.json")
    with pytest.raises(KeyError):
        Evaluation(rows=(scores(),)).row("prior")
