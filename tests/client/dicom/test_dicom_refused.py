"""Dirty exports that no volume can be trusted of: a refusal names series and reason."""

import math
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness.made_dicom import compress, encode, enhanced, made_uid, seg, series
from harness.made_scan import PAT, PSEUDONYMS, SERIES, Scanned, change, only_refused
from pydicom import Dataset, dcmread, uid


def at(*chosen: int) -> Callable[[Any, Any], Callable[[int], Any]]:
    """Return a tag's value by slice: one for the chosen, another for the rest."""
    return lambda value, other: lambda k: value if k in chosen else other


def test_copies_that_differ(tmp_path):
    made = series(tmp_path / "a")
    shutil.copy(made.paths[4], tmp_path / "copy.dcm")
    change(tmp_path / "copy.dcm", PixelData=bytes(960))
    only_refused(tmp_path, "copies-differ")


def test_two_pictures_at_a_place(tmp_path):
    made = series(tmp_path / "a")
    shutil.copy(made.paths[4], tmp_path / "copy.dcm")
    change(tmp_path / "copy.dcm", PixelData=bytes(960), SOPInstanceUID=made_uid("other"))
    only_refused(tmp_path, "two-images-a-place")


@pytest.mark.parametrize("lost", [(5,), (1, 2), (3, 8)])
def test_lost_slices(tmp_path, lost):
    made = series(tmp_path)
    for k in lost:
        made.paths[k].unlink()
    only_refused(tmp_path, "lost-slice")


def _position(change_of: Callable[[int], tuple[float, float, float]]) -> Callable[[int], list[str]]:
    def at_slice(k: int) -> list[str]:
        dx, dy, dz = change_of(k)
        return [f"{-10 + dx:g}", f"{-20 + dy:g}", f"{-30 + 0.7 * k + dz:g}"]

    return at_slice


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"ImagePositionPatient": _position(lambda k: (0, 0, 0.2 if k == 6 else 0))}, "uneven-spacing"),
        ({"ImagePositionPatient": _position(lambda k: (0, 0, 0.05 * k * k))}, "uneven-spacing"),
        ({"ImagePositionPatient": _position(lambda k: (0, 0.1 * k, 0))}, "sheared"),
        ({"ImagePositionPatient": ["0", "0", "0"]}, "two-images-a-place"),
        ({"ImagePositionPatient": ["1e300", "0", "0"]}, "two-images-a-place"),
        ({"ImagePositionPatient": lambda k: ["0", "0", str(k * 100000)]}, "absurd-geometry"),
        ({"ImagePositionPatient": None}, "no-geometry"),
        ({"ImagePositionPatient": at(5)(None, ["0", "0", "0"])}, "no-geometry"),
        ({"ImageOrientationPatient": None}, "no-geometry"),
        ({"PixelSpacing": None}, "no-geometry"),
        ({"PixelSpacing": ["0", "0"]}, "absurd-geometry"),
        ({"PixelSpacing": ["0.5", "-0.4"]}, "absurd-geometry"),
        ({"PixelSpacing": ["0.5", "1e9"]}, "absurd-geometry"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0.1", "1", "0"]}, "crooked-cosines"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "crooked-cosines"),
        ({"ImageOrientationPatient": ["0", "0", "0", "0", "0", "0"]}, "crooked-cosines"),
        ({"ImageOrientationPatient": ["2", "0", "0", "0", "2", "0"]}, "crooked-cosines"),
        ({"FrameOfReferenceUID": lambda k: made_uid("frame", k // 6)}, "two-frames-of-reference"),
        ({"LossyImageCompression": "01"}, "lossy"),
        ({"LossyImageCompression": at(5)("01", "00")}, "lossy"),
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "photometric"),
        ({"PatientBirthDate": lambda k: f"196{k // 6}0102"}, "conflicting-births"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1"}, "absurd-rescale"),
        ({"RescaleSlope": "-1", "RescaleIntercept": "1"}, "absurd-rescale"),
        ({"RescaleSlope": "1e38", "RescaleIntercept": "1"}, "not-finite"),
        ({"BitsStored": 4, "HighBit": 3}, "stray-bits"),
        ({"HighBit": 15}, "stray-bits"),
        ({"NumberOfFrames": 2}, "frames-without-place"),
        ({"Rows": 40000, "Columns": 40000}, "too-large"),
        ({"Rows": 21}, "truncated"),
        ({"PixelData": bytes(100)}, "truncated"),
    ],
)
def test_a_header_or_values_that_cannot_be_trusted(tmp_path, tags, code):
    series(tmp_path, **tags)
    only_refused(tmp_path, code)


@pytest.mark.parametrize("value", ["NaN", "inf", "abc"])
def test_geometry_that_is_no_number(tmp_path, value):
    made = series(tmp_path)
    for path in made.paths:
        raw = path.read_bytes()
        assert raw.count(b"0.5\\0.4 ") == 1
        path.write_bytes(raw.replace(b"0.5\\0.4 ", f"0.5\\{value}".ljust(8).encode()[:8]))
    volumes, refused = Scanned(tmp_path).outcome()
    assert volumes == {}
    assert set(refused) == {SERIES}


def test_pixel_spacing_that_changes(tmp_path):
    series(tmp_path, PixelSpacing=lambda k: ["0.5", "0.4" if k < 6 else "0.6"])
    volumes, refused = Scanned(tmp_path).outcome()
    assert volumes == {}
    assert set(refused.values()) == {"too-few-slices"}


def test_directions_that_turn_from_slice_to_slice(tmp_path):
    def turned(k: int) -> list[str]:
        angle = k * 9e-5
        return [
            f"{x:.8f}" for x in (math.cos(angle), math.sin(angle), 0, -math.sin(angle), math.cos(angle), 0)
        ]

    series(tmp_path, ImageOrientationPatient=turned)
    only_refused(tmp_path, "mixed-orientation")


@pytest.mark.parametrize("n", [1, 2, 7])
def test_too_few_slices(tmp_path, n):
    series(tmp_path, shape=(n, 20, 24))
    only_refused(tmp_path, "too-few-slices")


def test_two_patients_in_one_series(tmp_path):
    series(tmp_path, PatientID=lambda k: f"PAT-{k % 2 + 1}")
    volumes, refused = Scanned(tmp_path).outcome()
    assert volumes == {}
    other = PSEUDONYMS.subject("PAT-2")
    assert refused == {SERIES: "two-patients", f"{other}/study-1/series-3": "two-patients"}


def test_no_patient_at_all(tmp_path):
    series(tmp_path, PatientID=None)
    only_refused(tmp_path, "no-patient", name="unknown-patient/study-1/series-3")


def test_an_identified_header_under_the_strict_policy(tmp_path):
    series(tmp_path, deidentified=False)
    volumes, refused = Scanned(tmp_path, deid="require").outcome()
    assert volumes == {}
    assert set(refused) == {SERIES}
    assert refused[SERIES].startswith("identity-")


def test_a_lossy_syntax(tmp_path):
    compress(series(tmp_path).paths, uid.JPEG2000)
    only_refused(tmp_path, "lossy")


def test_a_file_cut_off(tmp_path):
    made = series(tmp_path)
    made.paths[3].write_bytes(made.paths[3].read_bytes()[:-100])
    only_refused(tmp_path, "truncated")


@pytest.mark.parametrize(
    "syntax",
    [uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless],
    ids=["rle", "57", "70", "jpeg-ls", "j2k"],
)
@pytest.mark.parametrize("cut", [40, 200])
def test_a_compressed_frame_cut_short(tmp_path, syntax, cut):
    made = series(tmp_path)
    encode(made.paths, syntax)
    item = dcmread(made.paths[3])
    frame = item.PixelData[8 + int.from_bytes(item.PixelData[4:8], "little") :]
    length = int.from_bytes(frame[4:8], "little") - cut
    short = frame[:4] + length.to_bytes(4, "little") + frame[8 : 8 + length]
    item.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + short + b"\xfe\xff\xdd\xe0\0\0\0\0"
    item.save_as(made.paths[3], enforce_file_format=True)
    volumes, refused = Scanned(tmp_path).outcome()
    assert volumes == {}
    assert set(refused) == {SERIES}


def test_two_echoes_in_one_enhanced_file(tmp_path):
    enhanced(tmp_path, echoes=(3.0, 5.0))
    only_refused(tmp_path, "mixed-frames")


def test_enhanced_frames_with_a_lost_one(tmp_path):
    enhanced(tmp_path, order=[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    only_refused(tmp_path, "lost-slice")


def test_enhanced_frames_twice_at_a_place(tmp_path):
    enhanced(tmp_path, order=[0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11])
    only_refused(tmp_path, "two-images-a-place")


def test_enhanced_frames_without_a_place(tmp_path):
    def without_place(groups: Dataset, index: int) -> None:
        if index == 5:
            del groups.PlanePositionSequence

    enhanced(tmp_path, frame=without_place)
    only_refused(tmp_path, "no-geometry")


def test_two_enhanced_files_of_one_kind(tmp_path):
    made = enhanced(tmp_path)
    shutil.copy(made.paths[0], tmp_path / "part.dcm")
    change(tmp_path / "part.dcm", SOPInstanceUID=made_uid("part"))
    only_refused(tmp_path, "several-multi-frame")


def test_a_segmentation_is_no_image(tmp_path):
    made = series(tmp_path / "a")
    seg(tmp_path / "b", made, (made.voxels > 2000).astype(np.uint8))
    volumes, refused = Scanned(tmp_path).outcome()
    assert list(volumes) == [SERIES]
    assert refused == {f"{PAT}/study-1/series-99": "no-image"}


def test_names_in_paths_are_in_no_sentence(tmp_path):
    made = series(tmp_path / "Musterfrau_Erika_19610203", deidentified=False, PatientComments="Geheim")
    made.paths[5].unlink()
    for one in Scanned(tmp_path).found():
        shown = f"{one!r} {one}"
        assert re.search("Muster|Erika|1961|Geheim|PAT-1|TOF", shown) is None
        assert made.series not in shown
