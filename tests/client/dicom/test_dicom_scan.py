"""Walking an export: every file once, nothing written, no link followed, unchanged files not read again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.made_dicom import dicomdir, series

from willis.client.ingest.dicom import scan as scanning
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.index import Index
from willis.client.ingest.dicom.instance import Instance, Left
from willis.client.ingest.dicom.scan import locate, scan
from willis.shared.errors import CohortError

PSEUDONYMS = Pseudonyms(b"k" * 32)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two patients, with what lies in exports besides."""
    folder = tmp_path / "export"
    series(folder / "MEIER_ANNA", shape=(3, 8, 8))
    series(folder / "ünï" / "deep", shape=(2, 8, 8), patient="PAT-2", study="other")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" * 200)
    (folder / "empty").touch()
    (folder / "loop").symlink_to(folder)
    return folder


def scanned(export: Path, **options) -> Index:
    return scan(export, export.parent / "index", pseudonyms=options.pop("pseudonyms", PSEUDONYMS), **options)


def test_every_file_is_an_instance_or_left_with_a_code(export: Path):
    told: list[tuple[int, int | None]] = []
    with scanned(export, progress=lambda done, total: told.append((done, total))) as index:
        found = list(index.instances())
        assert (len(found), len(index), index.n_read) == (5, 5, 8)
        assert index.left() == {"link": 1, "not-dicom": 2}
        assert told == [(k, 8) for k in range(1, 9)]
        assert found == sorted(found, key=lambda one: (one.subject, one.study, one.series, one.file))
        assert index.subjects() == sorted({PSEUDONYMS.subject("PAT-1"), PSEUDONYMS.subject("PAT-2")})
        assert len(list(index.instances(subject=PSEUDONYMS.subject("PAT-2")))) == 2
        places = locate(export, [one.file for one in found], pseudonyms=PSEUDONYMS)
    assert {path.parent.name for path in places.values()} == {"MEIER_ANNA", "deep"}
    assert len(places) == 5


def test_the_index_holds_no_name_and_is_private(export: Path):
    scanned(export, patterns=("tof",)).close()
    for path in export.parent.glob("index*"):
        data = path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
        assert not any(word in data for word in (b"MEIER", b"PAT-", b"TOF", b"1.2.826", b".dcm", b"2024"))


def test_a_second_scan_reads_what_changed_and_lets_go_what_is_gone(export: Path):
    scanned(export).close()
    with scanned(export) as index:
        assert index.n_read == 0
        assert len(index) == 5
    first, second, _ = sorted((export / "MEIER_ANNA").iterdir())
    first.unlink()
    second.write_bytes(b"changed")
    with scanned(export) as index:
        assert (index.n_read, len(index), index.left()["not-dicom"]) == (1, 3, 3)


@pytest.mark.parametrize("change", [{"patterns": ("a",)}, {"deid": "site-local"}, {"mapping": {"1.2": "A"}}])
def test_another_rule_key_or_mapping_reads_everything_anew(export: Path, change: dict):
    scanned(export).close()
    with scanned(export, **change) as index:
        assert index.n_read == 8
    with scanned(export, pseudonyms=Pseudonyms(b"z" * 32)) as index:
        assert index.n_read == 8
        assert len(index) == 5


def test_a_scan_that_dies_goes_on(export: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def dying(path: Path, file: str, **options) -> Instance | Left:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(file)
        return real(path, file, **options)

    real: Callable = scanning.read_instance
    monkeypatch.setattr(scanning, "KEEP_EVERY", 1)
    monkeypatch.setattr(scanning, "read_instance", dying)
    with pytest.raises(KeyboardInterrupt):
        scanned(export)
    monkeypatch.setattr(scanning, "read_instance", real)
    with scanned(export) as index:
        assert len(index) == 5
        assert index.n_read < 8


def test_several_processes_find_what_one_finds(export: Path, monkeypatch: pytest.MonkeyPatch):
    with scanned(export, workers=1) as index:
        alone = list(index.instances())
    monkeypatch.setattr(scanning, "FEW", 2)
    monkeypatch.setattr(scanning, "BATCH", 2)
    with scan(export, export.parent / "index-2", pseudonyms=PSEUDONYMS, workers=2) as index:
        assert list(index.instances()) == alone
        assert index.left() == {"link": 1, "not-dicom": 2}


def test_a_dicomdir_is_left_and_its_files_are_found(tmp_path: Path):
    made = series(tmp_path / "made", shape=(2, 8, 8))
    dicomdir(tmp_path / "export", made.paths)
    with scanned(tmp_path / "export") as index:
        assert index.left() == {"dicomdir": 1}
        assert len(index) == 2


def test_nothing_of_the_export_changes(export: Path):
    before = {path: path.lstat().st_mtime_ns for path in export.rglob("*")}
    scanned(export).close()
    assert {path: path.lstat().st_mtime_ns for path in export.rglob("*")} == before


def test_an_export_that_nothing_can_come_from_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export = tmp_path / "export"
    with pytest.raises(CohortError, match="no folder"):
        scanned(export)
    export.mkdir()
    with pytest.raises(CohortError, match="no file"):
        scanned(export)
    (export / "file").touch()
    with pytest.raises(CohortError, match="lies in the export"):
        scan(export, export / "index", pseudonyms=PSEUDONYMS)
    (tmp_path / "index").write_bytes(b"no index at all" * 100)
    with pytest.raises(CohortError, match="cannot use the index"):
        scanned(export)

    def closed(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(CohortError, match="Permission denied"):
        scanned(export)
