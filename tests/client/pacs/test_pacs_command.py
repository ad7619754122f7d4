"""The commands as a hospital types them: real processes, real exit codes, and no name in what they print."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.living_pacs import by_uid, dcmtk, living_pacs, need
from harness.made_dicom import made_uid, series
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from willis.shared.processes import free_port, script

pytestmark = pytest.mark.pacs

PLANTED = "PLANTEDNAME"
_TEXT = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "CS", "AE"}


def _plant(paths) -> None:
    """Write the name into every text tag that there is, into more, and into a private one."""
    for path in paths:
        item = dcmread(path)
        for element in list(item):
            if element.VR in _TEXT and keyword_for_tag(element.tag) not in (
                "SpecificCharacterSet",
                "Modality",
                "PhotometricInterpretation",
            ):
                element.value = PLANTED
        item.PatientComments = item.StudyDescription = item.ImageComments = f"{PLANTED} again"
        item.StationAETitle, item.InstitutionName, item.DeviceSerialNumber = PLANTED, PLANTED, PLANTED
        item.private_block(0x0029, PLANTED, create=True).add_new(0x01, "LO", PLANTED)
        item.save_as(path.with_name(f"{PLANTED}-{path.name[-8:]}"))
        path.unlink()


def _site(folder: Path, *, port: int, pacs: int, web: str) -> Path:
    folder.mkdir()
    (folder / "site.toml").write_text(
        f"""
name = "north"
cohort = "cohort.csv"
state = "state"
epsilon_cap = 8.0
delta = 1e-3

[pacs]
ae_title = "WILLIS"
port = {port}
spool = "spool"
callers = [{{ ae_title = "SENDER", host = "127.0.0.1" }}, {{ ae_title = "PACS" }}]
watermark_bytes = 0
silence_s = 0.5

[pacs.source]
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}

[pacs.web]
url = "{web}"
"""
    )
    return folder


def _willis(*words: str | Path) -> tuple[str, ...]:
    return (script("willis"), "site", *map(str, words))


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_willis(*words), capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def _receiving(site: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(_willis("receive", site, "--json"), stdout=out, stderr=err, text=True)
        try:
            until = time.monotonic() + 60
            while "listens" not in (folder / "err").read_text():
                assert process.poll() is None, (folder / "err").read_text()
                assert time.monotonic() < until
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def _names_in(folder: Path) -> str:
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_receive_tells_counts_and_no_name(tmp_path: Path):
    need()
    made = series(tmp_path / PLANTED, shape=(3, 20, 24), patient=PLANTED, deidentified=False)
    _plant(made.paths)
    paths = sorted((tmp_path / PLANTED).iterdir())
    other = dcmread(paths[0])
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "other.dcm")
    port = free_port()
    site = _site(tmp_path / "north", port=port, pacs=free_port(), web="http://127.0.0.1:9/dicom-web")
    address = ("-aec", "WILLIS", "127.0.0.1", str(port))
    with _receiving(site, tmp_path):
        assert dcmtk("storescu", "-xe", "-aet", "SENDER", *address, *paths).returncode == 0
        dcmtk("storescu", "-xe", "-aet", "SENDER", *address, tmp_path / "other.dcm")
        assert dcmtk("storescu", "-xe", "-aet", PLANTED, *address, *paths).returncode != 0
        time.sleep(2.5)
    told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [(one["event"], one.get("instances")) for one in told] == [("study", 3), ("stopped", None)]
    assert told[-1]["counts"] == {"new": 3, "other-bytes": 1, "unknown-caller": 1}
    spool = site / "spool"
    assert by_uid((spool / "instances").iterdir()) == by_uid(paths)
    printed = (tmp_path / "out").read_text() + (tmp_path / "err").read_text()
    printed += (spool / "complete.jsonl").read_text() + _names_in(site)
    for secret in (PLANTED, made.study, made.series, str(other.SOPInstanceUID)):
        assert secret not in printed
    locks = {"spool.lock", "receive.lock"}  # empty
    assert [
        one.name for one in spool.rglob("*") if one.stat().st_mode & 0o077 and one.name not in locks
    ] == []


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_fetch_and_its_exit_codes(tmp_path: Path, by: str):
    need(orthanc=True)
    made = series(tmp_path / PLANTED, shape=(3, 20, 24), patient=PLANTED, deidentified=False)
    _plant(made.paths)
    paths = sorted((tmp_path / PLANTED).iterdir())
    port = free_port()
    printed = ""
    with living_pacs(tmp_path / "pacs", site_port=port) as pacs:
        pacs.store(paths)
        site = _site(tmp_path / "north", port=port, pacs=pacs.dicom, web=pacs.url)
        studies = tmp_path / "studies.txt"
        studies.write_text(f"# {PLANTED}\n{made.study}  # {PLANTED}\n")
        done = _run("fetch", site, "--studies", studies, "--by", by, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fetched"] == 3
        studies.write_text(f"{made.study}\n{made_uid('nobody')}\n")
        lacking = _run("fetch", site, "--studies", studies, "--by", by)
        assert lacking.returncode == 1
        assert "lines of the list that are not known to the PACS: 2" in lacking.stderr
        printed += done.stdout + done.stderr + lacking.stdout + lacking.stderr
    assert by_uid((site / "spool" / "instances").iterdir()) == by_uid(paths)
    printed += _names_in(site)
    for secret in (PLANTED, made.study, made.series, made_uid("nobody")):
        assert secret not in printed


def test_fetch_from_nobody_and_with_a_wrong_list(tmp_path: Path):
    site = _site(tmp_path / "north", port=free_port(), pacs=free_port(), web="http://127.0.0.1:9/dicom-web")
    studies = tmp_path / "studies.txt"
    studies.write_text(f"{made_uid('secret')}\n")
    gone = _run("fetch", site, "--studies", studies, "--by", "web")
    assert gone.returncode == 3
    assert "run it again to go on" in gone.stderr
    studies.write_text(f"1.2.3\n{PLANTED}\n")
    wrong = _run("fetch", site, "--studies", studies)
    assert wrong.returncode == 2
    assert "line 2" in wrong.stderr
    assert made_uid("secret") not in gone.stdout + gone.stderr
    assert PLANTED not in wrong.stdout + wrong.stderr


def test_a_site_without_pacs(tmp_path: Path):
    site = _site(tmp_path / "north", port=free_port(), pacs=1, web="http://127.0.0.1:9/dicom-web")
    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text[: text.index("[pacs]")])
    told = _run("receive", site)
    assert told.returncode == 2
    assert "has no [pacs]" in told.stderr
    assert os.listdir(site) == ["site.toml"]
