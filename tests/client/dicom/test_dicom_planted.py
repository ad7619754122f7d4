"""A name in every text tag, file name and private tag of an export: in nothing that an intake leaves."""

import base64
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness.made_dicom import rtstruct, seg, series
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from willis.client.node.ingest_command import ingest as command
from willis.shared.command import willis

FAMILY, GIVEN, BORN, NUMBER = "KOWALCZYK", "ANTONINA", "19480317", "PAT4471182"
PLANTED = (FAMILY, GIVEN, BORN, NUMBER)
NAME = f"{FAMILY}^{GIVEN} {NUMBER}"
TEXT = {"AE": 16, "LO": 64, "LT": 1000, "PN": 64, "SH": 16, "ST": 1000, "UC": 1000, "UT": 1000}
KEPT = {"SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate"}
SITE = """name = "site-a"
cohort = "cohort.csv"
state = "state"
epsilon_cap = 8.0
delta = 1e-4
[intake]
deid = "site-local"
[intake.image]
description = "kowal"
[intake.label]
segments = []
"""
KEYWORDS = (
    "SeriesDescription", "StudyDescription", "ProtocolName", "SequenceName", "PatientComments",
    "ImageComments",
    "InstitutionName", "ReferringPhysicianName", "OperatorsName", "AccessionNumber", "StudyID", "StationName",
    "OtherPatientNames", "PatientAddress", "RequestedProcedureDescription", "ContentLabel", "SegmentLabel",
    "DeviceSerialNumber", "PerformedProcedureStepDescription", "RetrieveAETitle", "Manufacturer",
)  # fmt: skip


def plant(path: Path) -> Path:
    """Put the name into every text of a file, add those that lack, a private tag, and rename it."""
    item = dcmread(path)
    item.PatientID, item.PatientName, item.PatientBirthDate = NUMBER, f"{FAMILY}^{GIVEN}", BORN
    item.PatientIdentityRemoved = "NO"
    for keyword in KEYWORDS:
        if keyword != "SegmentLabel" and keyword not in item:
            setattr(item, keyword, "")
    item.walk(_write)
    block = item.private_block(0x0029, f"{FAMILY} HEADER", create=True)
    block.add_new(0x10, "LO", NAME)
    block.add_new(0x20, "UN", f"\0{NAME}\0{BORN}".encode())
    target = path.with_name(f"{FAMILY}_{GIVEN}_{path.stem[-12:]}.dcm")
    path.unlink()
    item.save_as(target)
    return target


def _write(dataset: Dataset, element) -> None:
    if element.keyword in KEPT or element.VR not in TEXT or element.tag.is_private:
        return
    words = f"{FAMILY} {GIVEN} {BORN} {NUMBER}"
    element.value = words[: TEXT[dictionary_VR(element.tag)]] if element.keyword != "SequenceName" else FAMILY


@pytest.fixture
def place(tmp_path) -> Path:
    """An export of good and of bad files, all of them of one named patient, and a site."""
    export = tmp_path / "export" / f"{FAMILY}, {GIVEN} ({BORN})"
    made = series(export / NUMBER, patient="X", number=1)
    seg(export / NUMBER, made, (made.voxels > np.quantile(made.voxels, 0.9)).astype(np.uint8))
    gap = series(export / "gap", patient="X", series="gap", number=2)
    gap.paths[4].unlink()
    series(export / "short", patient="X", series="short", number=3, shape=(4, 20, 24))
    rtstruct(export / "rt", made)
    series(export / "late", patient="X", study="late", number=1, seed=3)
    files = [path for path in export.rglob("*") if path.is_file()]
    planted = [plant(path) for path in files]
    for number, path in enumerate(planted[:5]):  # damaged in five ways, each named
        whole = path.read_bytes()
        harmed = (whole[:900], whole[: len(whole) // 2], whole[:132] + whole[140:], NAME.encode() * 40, b"")[
            number
        ]
        path.with_name(f"{FAMILY}-{number}").write_bytes(harmed)
    (export / f"{NAME}.txt").write_text(NAME)
    (export / f"link {FAMILY}").symlink_to(planted[0])
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.toml").write_text(SITE)
    return tmp_path


def found_in(text: bytes) -> list[str]:
    small = text.lower()
    forms = {word: (word.lower().encode(), word.encode().hex().encode()) for word in PLANTED}
    coded = {word: base64.b64encode(word.encode()).rstrip(b"=")[:-1].lower() for word in PLANTED}
    return [word for word in PLANTED if any(form in small for form in (*forms[word], coded[word]))]


def test_the_export_names_the_patient_everywhere(place):
    texts = [path.read_bytes() for path in (place / "export").rglob("*.dcm")]
    assert len(texts) > 30
    assert all(found_in(text) == list(PLANTED) for text in texts)


@pytest.mark.parametrize("deid", ["site-local", "require"])
def test_nothing_that_an_intake_leaves_names_the_patient(place, deid, caplog, capfd):
    site = place / "site" / "site.toml"
    site.write_text(SITE.replace("site-local", deid).replace('"kowal"', '"(?i)k[o]walczyk"'))
    words = [str(place / "export"), "--out", str(place / "cohort"), "--site", str(place / "site")]
    with caplog.at_level(logging.DEBUG):
        for last in ("--explain", "--json"):
            ended = CliRunner().invoke(command, [*words, last])
            assert ended.exit_code == 0, ended.exception
            assert found_in(ended.output.encode()) == []
    told = json.loads(ended.stdout)
    assert told["scans"] == (1 if deid == "site-local" else 0)
    assert len(told["series"]) >= 4
    assert told["refusals"]
    assert sum(told["left"].values()) >= 5

    assert found_in(caplog.text.encode()) == []
    assert found_in("".join(capfd.readouterr()).encode()) == []
    left = [path for folder in ("cohort", "site") for path in (place / folder).rglob("*") if path.is_file()]
    assert len(left) > 5
    for path in left:
        assert found_in(str(path.relative_to(place)).encode()) == []
        assert found_in(_inflated(path)) == [], path


def _inflated(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.parametrize("harm", ["no export", "an index that is none", "a mapping that is none", "no key"])
def test_errors_name_nobody(place, harm):
    folder = place / "export" / f"{FAMILY}, {GIVEN} ({BORN})"
    site, export = place / "site", folder
    if harm == "no export":
        export = next(folder.rglob("*.dcm")).parent / "nothing"
    elif harm == "an index that is none":
        words = ["site", "ingest", str(export), "--out", str(place / "cohort"), "--site", str(site)]
        assert CliRunner().invoke(willis, words).exit_code == 0
        (index,) = (site / "state" / "intake").glob("*/index.sqlite")
        index.write_bytes(NAME.encode() * 999)
    elif harm == "no key":
        (site / "pseudonym.key").write_bytes(NAME.encode())
    else:
        (place / "patients.csv").write_text(f"study,patient\n{NAME}\n")
        (site / "site.toml").write_text(SITE.replace("[intake]", '[intake]\nmapping = "../patients.csv"'))
    ended = CliRunner().invoke(
        willis, ["site", "ingest", str(export), "--out", str(place / "cohort"), "--site", str(site)]
    )
    assert ended.exit_code != 0
    said = f"{ended.output}{ended.exception}".replace(str(export), "")  # what the user wrote is said back
    assert found_in(said.encode()) == []
    assert re.search(r"\w", said)
