"""Measurements run and are kept with their machine; how fast is not a test's to say."""

import json

from willis.simulations.benchmarks import critic_step
from willis.simulations.benchmarks.catalogue import BENCHES
from willis.simulations.benchmarks.report import as_markdown, write


def test_the_critic_step_is_measured_beside_its_peers(tmp_path, monkeypatch):
    monkeypatch.setattr(critic_step, "_SUBJECTS", 2)
    monkeypatch.setattr(critic_step, "_BAG", 2)
    result = BENCHES["critic-step"].run(True)
    ways = {row[2] for row in result.rows}
    assert {"non-private", "Willis", "Opacus hooks", "Opacus ghost clipping", "functorch per patch"} == ways
    assert {row[1] for row in result.rows} == {64, 96}
    assert all(row[4] > 0 for row in result.rows)
    assert [row[5] for row in result.rows if row[2] == "non-private"] == [1.0, 1.0]
    write(result, tmp_path)
    kept = json.loads((tmp_path / "critic-step.json").read_text())
    assert kept["machine"]["processor"]
    assert kept["rows"] == result.rows
    assert as_markdown(result).count("\n| 8 |") == len(result.rows)
