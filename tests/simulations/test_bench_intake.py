"""An export of a measurement is sound DICOM of nobody, and every way reads all of it."""

import json
import shutil
from collections import Counter
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from click.testing import CliRunner
from pydicom import dcmread

from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.scan import scan
from willis.simulations.benchmarks import intake
from willis.simulations.benchmarks.intake_export import attributes, make_export
from willis.simulations.benchmarks.intake_ways import AGAIN, DCM2NIIX, PYDICOM, SCANS, walk
from willis.simulations.cli import run_bench


def test_an_export_is_series_of_nobody_without_a_fault(tmp_path: Path):
    make_export(tmp_path / "export", 620)
    with scan(tmp_path / "export", tmp_path / "index", pseudonyms=Pseudonyms(b"k" * 32), workers=1) as index:
        found = list(index.instances())
        assert not index.left()
    assert {one.faults for one in found} == {()}
    assert len({one.uid for one in found}) == 620
    assert sorted(Counter(one.series for one in found).values()) == [20, *[100] * 6]
    assert sorted(Counter(one.subject for one in found).values()) == [120, 500]
    places = {(one.series, one.instance_number, one.position) for one in found}
    assert len(places) == len({(series, number) for series, number, _ in places}) == 620


def test_a_file_of_an_export_is_as_rich_as_a_scanner_writes_it(tmp_path: Path):
    make_export(tmp_path / "export", 2)
    path = next(one for one in sorted((tmp_path / "export").rglob("*")) if one.is_file())
    item = dcmread(path)
    assert len(path.relative_to(tmp_path / "export").parts) == 4
    assert attributes() == len(item) >= 100
    assert sum(one.tag.is_private for one in item) >= 40
    assert item.pixel_array.shape == (64, 64)
    assert item.file_meta.MediaStorageSOPInstanceUID == item.SOPInstanceUID


def test_a_way_that_fails_is_told(tmp_path: Path):
    with pytest.raises(CalledProcessError):
        walk(next(iter(SCANS)), tmp_path / "absent", tmp_path / "index")


def test_every_way_is_measured_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("dcm2niix", reason="dcm2niix is not installed")
    monkeypatch.setattr(intake, "_QUICK", ((30, 1), (300, 1)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(run_bench, ["intake", "--quick", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "intake.json").read_text())["rows"]
    assert [row[:2] for row in rows] == [
        [size, way] for size in (30, 300) for way in (*SCANS, AGAIN, PYDICOM, DCM2NIIX)
    ]
    assert all(row[2] > 0 and row[3] > 0 for row in rows)
    workers = {row[1]: row[5] for row in rows if row[0] == 300}
    assert workers["Willis, 2 processes"] > 10, "its workers read, and their memory is seen"
    shutil.rmtree(tmp_path / "out")
    assert not list(tmp_path.iterdir())
