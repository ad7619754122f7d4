"""The frame of the experiments: folders, parts, tables, pages and the command, with an experiment by hand."""

import base64
import csv
import io
import json
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from willis.shared.command import willis
from willis.shared.errors import CohortError, StateError, StudyError
from willis.simulations.experiments import catalogue, command, runner
from willis.simulations.experiments.experiment import (
    NOT_COVERED,
    Experiment,
    Figure,
    Result,
    Row,
    Setting,
    Table,
)
from willis.simulations.experiments.figures import Curve, curves, sample_grid
from willis.simulations.experiments.page import page_of
from willis.simulations.experiments.parts import kept_values
from willis.simulations.experiments.runner import run_experiment
from willis.simulations.experiments.sizes import merged
from willis.simulations.experiments.table import as_csv, as_text, columns_of, shown
from willis.simulations.progress import Show

FIGURE = sample_grid("grid", "A grid", "Two patches.", torch.zeros(2, 2, 8, 8))
RESULT = Result(
    rows=(Row("one", {"DSC": 0.5, "masks": 3}), Row("two", {"DSC": None, "privacy": "not private"})),
    figures=(FIGURE,),
    data="Nobody <real>",
    seeds=(1, 2),
    readings=("one is above two",),
    more=(Table("Beside", (Row("three", {"draws": 7}),)),),
)


def by_hand(setting: Setting) -> Result:
    assert kept_values(setting.folder, "some/part", lambda: {"size": setting.size}) == {"size": setting.size}
    return RESULT


EXPERIMENT = Experiment(
    name="by-hand",
    title="By hand",
    citation="Nobody 2026",
    did=("Did this.",),
    paper=(Row("theirs", {"DSC": 0.9, "HD95": 25}),),
    differences=("All.",),
    own_data="Write a table.",
    run=by_hand,
)


@pytest.fixture
def listed(monkeypatch, tmp_path):
    """Put the experiment into the catalogue as a module with sizes beside it."""
    module = types.ModuleType("willis_by_hand")
    module.EXPERIMENT = EXPERIMENT  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "willis_by_hand", module)
    names = {"by-hand": "willis_by_hand"}
    monkeypatch.setattr(catalogue, "EXPERIMENTS", names)
    monkeypatch.setattr(runner, "EXPERIMENTS", names)
    sizes = tmp_path / "willis_by_hand.toml"
    sizes.write_text("[tiny]\n")
    monkeypatch.setattr(runner, "_HERE", tmp_path)
    monkeypatch.delenv("WILLIS_DATA", raising=False)
    return sizes


def setting(folder: Path, **changes) -> Setting:
    return replace(Setting("tiny", None, None, None, folder, Show(quiet=True)), **changes)


def test_a_folder_holds_table_figures_and_page(listed, tmp_path):
    outcome = run_experiment("by-hand", setting(tmp_path / "run"))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"index.html", "table.csv", "table.json", "grid.png", "experiment.json", "parts"}
    held = json.loads((tmp_path / "run" / "table.json").read_text())
    assert held == outcome.values
    assert held["rows"][0] == {"system": "one", "DSC": 0.5, "masks": 3}
    assert held["more"] == {"Beside": [{"system": "three", "draws": 7}]}
    assert held["paper"][0]["DSC"] == 0.9
    assert (held["seeds"], held["size"], held["data"]) == ([1, 2], "tiny", "Nobody <real>")
    assert held["scores"] == NOT_COVERED
    assert held["machine"]["torch"] == torch.__version__
    assert held["machine"]["willis"]
    assert list(held["seconds"]) == ["some/part"]
    assert held["seconds"]["some/part"].keys() == {"clock", "processor"}


def test_the_csv_tells_ours_from_theirs():
    rows = list(csv.DictReader(io.StringIO(as_csv(EXPERIMENT, RESULT))))
    assert list(rows[0]) == ["source", "system", "DSC", "masks", "privacy", "draws", "HD95"]
    assert [row["source"] for row in rows] == ["here", "here", "here: Beside", "the paper, on other data"]
    assert [row["DSC"] for row in rows] == ["0.5", "", "", "0.9"]


def test_columns_come_once_in_the_order_of_the_rows():
    rows = (Row("a", {"x": 1, "y": 2}), Row("b", {"z": 3, "x": 4}))
    assert columns_of(rows) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (3, "3"),
        ("yes", "yes"),
        (0.12345, "0.123"),
        (1234.56, "1234.6"),
        (1e5, "1e+05"),
    ],
)
def test_values_as_a_reader_sees_them(value, text):
    assert shown(value) == text


def test_a_row_refuses_what_is_no_number():
    with pytest.raises(ValueError, match=r"got nan for DSC of odd"):
        Row("odd", {"DSC": float("nan")})
    assert "masks 3" in as_text(RESULT.rows)


def page() -> str:
    took = {"a": {"clock": 2.0, "processor": 1.25}, "b": {"clock": 1.0, "processor": 0.75}}
    return page_of(EXPERIMENT, RESULT, size="quick", machine={"cores": "2"}, seconds=took)


def test_the_page_has_every_row_and_what_must_be_said():
    text = page()
    for words in ("one", "two", "three", "theirs", "Beside", "one is above two", "Did this.", "All."):
        assert f">{words}<" in text
    assert NOT_COVERED in text
    assert "on other data" in text
    assert "not for quoting" in text
    assert "Nobody &lt;real&gt;" in text
    assert "willis experiment run by-hand --cohort" in text


def test_the_page_needs_no_network_and_every_picture_has_words():
    text = page()
    assert "http" not in text
    assert re.findall(r"(?:src|href)=\"([^\"]{0,30})", text) == ["data:image/png;base64,iVBORw0K"]
    pictures = re.findall(r"<img [^>]*>", text)
    assert len(pictures) == len(RESULT.figures)
    assert all('alt="A grid: Two patches."' in one for one in pictures)
    inline = re.findall(r"base64,([^\"]+)", text)
    assert base64.b64decode(inline[0]) == FIGURE.png
    assert text.count("<caption>") == text.count("<table>") == 3
    assert "prefers-color-scheme: dark" in text
    assert "3 s, 2 s of the processor" in text
    assert "width=device-width" in text
    heads = re.findall(r"<th [^>]*>|<th>", text)
    assert all("scope=" in head for head in heads)


def test_a_folder_of_another_run_is_refused(listed, tmp_path):
    run_experiment("by-hand", setting(tmp_path / "run"))
    run_experiment("by-hand", setting(tmp_path / "run"))
    with pytest.raises(StateError, match="holds another run") as caught:
        run_experiment("by-hand", setting(tmp_path / "run", size="quick"))
    assert caught.value.problems == ("size: tiny, now quick",)
    listed.write_text("[tiny]\nrounds = 2\n")
    with pytest.raises(StateError, match="holds another run"):
        run_experiment("by-hand", setting(tmp_path / "run"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    with pytest.raises(StateError, match="is not empty and holds no experiment"):
        run_experiment("by-hand", setting(tmp_path / "full"))


def test_a_folder_being_run_is_refused(listed, tmp_path, monkeypatch):
    def inside(own: Setting) -> Result:
        return run_experiment("by-hand", own).result

    module = sys.modules["willis_by_hand"]
    monkeypatch.setattr(module, "EXPERIMENT", replace(EXPERIMENT, run=inside))
    with pytest.raises(StateError, match="is being run already"):
        run_experiment("by-hand", setting(tmp_path / "run"))


def test_what_is_not_there_is_refused_before_anything_is_written(listed, tmp_path):
    table = tmp_path / "cohort.csv"
    with pytest.raises(StudyError, match="no experiment is called 'kossen'; known are by-hand"):
        run_experiment("kossen", setting(tmp_path / "run"))
    with pytest.raises(CohortError, match="there is no folder of cohorts"):
        run_experiment("by-hand", setting(tmp_path / "run", data=tmp_path / "nowhere"))
    with pytest.raises(CohortError, match="there is no table"):
        run_experiment("by-hand", setting(tmp_path / "run", cohort=table))
    table.touch()
    with pytest.raises(CohortError, match="name both"):
        run_experiment("by-hand", setting(tmp_path / "run", second=table))
    assert not (tmp_path / "run").exists()


def test_the_command_prints_json_or_lines(listed, tmp_path):
    words = ["experiment", "run", "by-hand", "--size", "tiny", "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(willis, [*words, "--json"])
    assert told.exit_code == 0, told.output
    held = json.loads(told.stdout)
    assert held["rows"][1]["privacy"] == "not private"
    assert held["folder"] == str(tmp_path / "run")
    lines = CliRunner().invoke(willis, words).stdout
    assert "one: DSC 0.500, masks 3" in lines
    assert "three: draws 7" in lines
    assert f"Page: {tmp_path / 'run' / 'index.html'}" in lines
    refused = CliRunner().invoke(willis, ["experiment", "run", "unknown", "--out", str(tmp_path / "other")])
    assert refused.exit_code == 2
    assert "no experiment is called 'unknown'" in refused.stderr
    both = CliRunner().invoke(willis, [*words, "--quick"])
    assert both.exit_code == 2


def test_the_list_names_what_the_catalogue_knows():
    assert list(command.LINES) == list(catalogue.EXPERIMENTS)
    listed = CliRunner().invoke(willis, ["experiment", "list"]).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(command.LINES)
    assert json.loads(CliRunner().invoke(willis, ["experiment", "list", "--json"]).stdout) == command.LINES


def test_a_grid_has_every_channel_above_the_label():
    patches = torch.stack([torch.full((8, 8), -1.0), torch.zeros(8, 8), torch.ones(8, 8)])[None].repeat(
        3, 1, 1, 1
    )
    figure = sample_grid("x", "t", "c", patches, columns=2)
    pixels = np.array(Image.open(io.BytesIO(figure.png)))
    scale = pixels.shape[1] // 20  # two columns of 8 + 2 pixels
    small = pixels[::scale, ::scale]
    assert small.shape == (60, 20)  # two rows of three channels
    assert [int(small[at, 0]) for at in (0, 10, 20)] == [0, 128, 255]
    assert int(small[35, 15]) == 96, "the fourth tile is blank"
    with pytest.raises(ValueError, match="at least one"):
        sample_grid("x", "t", "c", patches[:0])


def test_a_volume_is_shown_by_its_fullest_slice():
    patches = torch.full((1, 2, 4, 8, 8), -1.0)
    patches[0, :, 2, 3, 3] = 1.0
    pixels = np.array(Image.open(io.BytesIO(sample_grid("x", "t", "c", patches, columns=1).png)))
    assert int(pixels.max()) == 255


def test_curves_are_drawn_and_need_a_point():
    line = Curve("a", ((1, 0.5, 0.4, 0.6), (float("inf"), 0.7)))
    figure = curves("x", "t", "c", lines=[line], x="subjects", y="DSC", levels=[("real", 0.8)])
    assert isinstance(figure, Figure)
    assert Image.open(io.BytesIO(figure.png)).size[0] > 600
    with pytest.raises(ValueError, match="has no point"):
        curves("x", "t", "c", lines=[], x="subjects", y="DSC")


def test_sizes_are_merged_table_by_table():
    both = merged({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
    assert both == {"a": {"x": 1, "y": 3}, "b": [2]}
