"""One file's header: every encoding, what speaks against it, and any bytes at all."""

import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness.made_dicom import enhanced, rtstruct, seg, series
from pydicom import dcmread, uid

from willis.client.ingest.dicom.header import read_instance
from willis.client.ingest.dicom.header_file import UnfitFileError, pixel_digest
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance, Left

PSEUDONYMS = Pseudonyms(b"k" * 32)


def read(path: Path, **options) -> Instance | Left:
    return read_instance(path, "file", pseudonyms=PSEUDONYMS, **options)


def instance(path: Path, **options) -> Instance:
    found = read(path, **options)
    assert isinstance(found, Instance), found
    return found


def test_a_classic_header_is_numbers_codes_and_digests(tmp_path: Path):
    made = series(tmp_path, shape=(2, 20, 24))
    found = instance(made.paths[1], patterns=("tof", "flair", "^TOF 3D$", "(?!)"))
    assert (found.rows, found.columns, found.frames, found.instance_number, found.series_number) == (
        20,
        24,
        1,
        2,
        3,
    )
    assert found.position == pytest.approx((-10.0, -20.0, -29.3))
    assert found.spacing == (0.5, 0.4)
    assert (found.kind, found.modality, found.sequence, found.echo_time, found.phase) == (
        "mr",
        "MR",
        ("GR",),
        7.0,
        "M",
    )
    assert (found.matches, found.faults) == (0b101, ())
    assert found.subject == PSEUDONYMS.subject("PAT-1")
    assert found.series == PSEUDONYMS.of("series", made.series)


def test_of_dates_only_order_and_differences_are_kept(tmp_path: Path):
    def day(patient: str, when: str) -> int:
        made = series(
            tmp_path / patient / when, patient=patient, study=when, shape=(1, 20, 24), StudyDate=when
        )
        return instance(made.paths[0]).study_day

    days = {who: [day(who, when) for when in ("20240102", "20240112")] for who in ("A", "B", "C")}
    assert all(second - first == 10 for first, second in days.values())
    assert len({first for first, _ in days.values()}) == 3, "two patients of one day do not share it"
    assert day("A", "") == 0


@pytest.mark.parametrize(
    "syntax",
    [
        uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless,
        uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.JPEGLSLossless,
    ],
)  # fmt: skip
def test_every_lossless_syntax_reads_the_same(tmp_path: Path, syntax: str):
    plain = instance(series(tmp_path / "plain", shape=(1, 20, 24)).paths[0])
    path = series(tmp_path / "coded", shape=(1, 20, 24), syntax=syntax).paths[0]
    found = instance(path)
    stored = found.syntax
    assert replace(found, syntax="") == replace(plain, syntax="")
    assert stored == syntax
    assert len(pixel_digest(path)) == 64


def test_implicit_reads_the_same(tmp_path: Path):
    path = series(tmp_path, shape=(1, 20, 24)).paths[0]
    before, item = instance(path), dcmread(path)
    item.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    item.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=True)
    assert instance(path) == replace(before, syntax=uid.ImplicitVRLittleEndian)


def test_a_file_without_preamble_is_read(tmp_path: Path):
    path = series(tmp_path, shape=(1, 20, 24)).paths[0]
    before = instance(path)
    path.write_bytes(path.read_bytes()[132:])
    assert instance(path) == before


def test_enhanced_segmentation_and_structures(tmp_path: Path):
    made = enhanced(tmp_path / "enhanced", shape=(4, 20, 24))
    found = instance(made.paths[0])
    assert (found.kind, found.frames, found.echo_time, found.faults) == ("enhanced-mr", 4, 7.0, ())
    assert found.position is not None
    assert found.orientation is not None
    assert found.spacing == (0.5, 0.4)
    image = series(tmp_path / "image", shape=(4, 20, 24))
    mask = np.zeros((4, 20, 24), np.uint8)
    mask[1, 5:9, 5:9] = 1
    label = instance(seg(tmp_path / "seg", image, mask))
    assert (label.kind, label.references) == ("seg", (PSEUDONYMS.of("series", image.series),))
    assert instance(rtstruct(tmp_path, image)).kind == "rtstruct"


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"LossyImageCompression": "01"}, "lossy"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]}, "projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary-capture"),
        ({"PhotometricInterpretation": "RGB"}, "photometric"),
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
        ({"ImagePositionPatient": None}, "no-geometry"),
        ({"PatientID": ""}, "no-patient"),
    ],
)
def test_what_speaks_against_a_file_is_a_code(tmp_path: Path, tags: dict, fault: str):
    assert fault in instance(series(tmp_path, shape=(1, 20, 24), **tags).paths[0]).faults


def test_a_missing_patient_is_taken_from_the_mapping_and_only_then(tmp_path: Path):
    made = series(tmp_path / "without", shape=(1, 20, 24), PatientID="")
    found = instance(made.paths[0], mapping={made.study: "MEIER"})
    assert found.subject == PSEUDONYMS.subject("MEIER")
    assert "no-patient" not in found.faults
    made = series(tmp_path / "with", shape=(1, 20, 24))
    assert instance(made.paths[0], mapping={made.study: "MEIER"}).subject == PSEUDONYMS.subject("PAT-1")


@pytest.mark.parametrize(("old", "keyword"), [(b"7.0", "EchoTime"), (b"0.5\\0.4", "PixelSpacing")])
def test_numbers_that_are_none_are_faults_and_say_nothing(
    tmp_path: Path,
    old: bytes,
    keyword: str,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
):
    path = series(tmp_path, shape=(1, 20, 24)).paths[0]
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, b"MEIERMEIER"[: len(old)]).replace(b"ISO_IR 192", b"ISO_MEIER!"))
    assert f"no-number-{keyword}" in instance(path).faults
    assert not recwarn.list
    assert not caplog.records


def test_files_that_are_no_header(tmp_path: Path):
    path = series(tmp_path / "made", shape=(1, 20, 24)).paths[0]
    whole, file = path.read_bytes(), tmp_path / "file"
    for data, code in [
        (b"", "not-dicom"), (b"hello", "not-dicom"), (random.Random(1).randbytes(5000), "not-dicom"),
        (whole[:140], "damaged"), (whole[:700], "damaged"),
    ]:  # fmt: skip
        file.write_bytes(data)
        assert read(file) == Left("file", code)
    file.write_bytes(whole[:-100])
    assert "truncated" in instance(file).faults
    with pytest.raises(UnfitFileError):
        pixel_digest(file)
    (tmp_path / "link").symlink_to(path)
    assert read(tmp_path / "link") == Left("file", "unreadable") == read(tmp_path / "none")


def test_a_huge_length_takes_no_memory_and_is_damaged(tmp_path: Path):
    path = series(tmp_path, shape=(1, 20, 24)).paths[0]
    item = dcmread(path)
    item.add_new(0x00104010, "OB", b"12345678")
    item.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"\x08\0\0\x0012345678", b"\xf0\xff\xff\xff12345678"))
    assert read(path) == Left("file", "damaged")


def test_mutated_bytes_never_escape(tmp_path: Path):
    made = [
        series(tmp_path / "a", shape=(1, 8, 8)).paths[0],
        enhanced(tmp_path / "b", shape=(3, 8, 8)).paths[0],
    ]
    made.append(series(tmp_path / "c", shape=(1, 8, 8), syntax=uid.DeflatedExplicitVRLittleEndian).paths[0])
    dice, file = random.Random(3), tmp_path / "file"
    sources = [path.read_bytes() for path in made]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(400):
            data = bytearray(dice.choice(sources))
            for _ in range(dice.randint(1, 12)):
                data[dice.randrange(128, len(data))] = dice.randrange(256)
            file.write_bytes(data[: dice.randint(100, len(data))] if dice.random() < 0.2 else data)
            assert isinstance(read(file, patterns=("tof",)), Instance | Left)
