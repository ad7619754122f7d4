"""The figures that docs/simulate.md tells are those of the records in docs/examples/results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "examples" / "results"
ROWS = {
    "nnU-Net: 400 synthetic pairs": ("nnunet", None),
    "MONAI: 2000 synthetic pairs": ("monai_ten", "synthetic alone"),
    "MONAI: ten real subjects": ("monai_ten", "real alone"),
    "MONAI: synthetic pairs, then the ten": ("monai_ten", "synthetic, then real"),
    "MONAI: one real subject": ("monai_one", "real alone"),
    "MONAI: synthetic pairs, then the one": ("monai_one", "synthetic, then real"),
}


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def told() -> dict[str, str]:
    """Return the page's table: figure by what was trained on."""
    page = (DOCS / "simulate.md").read_text(encoding="utf-8")
    table = page.partition("| trained on | Dice |\n| --- | --- |\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| (.*) \| (.*) \|$", table, re.M))


def test_every_figure_has_a_record_and_every_record_is_told():
    assert list(told()) == list(ROWS)
    assert {path.stem for path in RESULTS.iterdir()} == {name for name, _ in ROWS.values()}


@pytest.mark.parametrize("row", ROWS)
def test_the_page_tells_what_was_measured(row):
    name, network = ROWS[row]
    scores = record(name)["scores"]
    dice, (low, high) = (
        (scores["dice"], scores["dice_interval"])
        if network is None
        else (scores[network]["dice"], scores[network]["interval"])
    )
    assert low < dice < high
    assert told()[row] == f"{dice:.3f} ({low:.3f} to {high:.3f})"


@pytest.mark.parametrize(
    ("name", "scans"), [("nnunet", "n_scans"), ("monai_ten", "scans"), ("monai_one", "scans")]
)
def test_a_record_tells_how_it_came_about(name, scans):
    found = record(name)
    assert (DOCS / "examples" / found["script"]).is_file()
    assert {"machine", "date", "versions", "release", "study_digest", "note"} <= set(found)
    assert found["privacy"].startswith("epsilon 8.00")
    assert found["scores"][scans] == found["options"]["subjects"] == 40
    assert found["scores"]["covered_by_epsilon"] is False
    assert found["scores"].get("real_subjects") == found["options"].get("real")


def test_the_options_of_a_record_are_the_scripts_defaults_but_for_the_one():
    assert record("monai_one")["options"] == record("monai_ten")["options"] | {"real": 1}
    for name in ("nnunet", "monai_ten"):
        found = record(name)
        files = (DOCS / "examples" / file for file in (found["script"], "command_line.py"))
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        defaults = dict(re.findall(r'add(?:_argument)?\("--([a-z-]+)",[^\n]*?default="?(\w+)', code))
        assert {key.replace("-", "_"): value for key, value in defaults.items()} == {
            key: str(value) for key, value in found["options"].items()
        }
