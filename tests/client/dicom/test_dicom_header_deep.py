"""Headers read the fast way are what pydicom makes of them, value for value; deep ones end soon."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from harness.made_dicom import seg, series
from pydicom import dcmread

from willis.client.ingest.dicom.header import read_instance
from willis.client.ingest.dicom.header_text import plain_text, text_of
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance, Left
from willis.client.ingest.dicom.mask_fault import MaskRefused
from willis.client.ingest.dicom.seg_file import read_seg

PSEUDONYMS = Pseudonyms(b"k" * 32)
PLACE = b"\x10\0\x10\0PN"  # PatientName
LENGTHS = pytest.mark.parametrize("told", [True, False], ids=["told lengths", "open lengths"])


def test_text_is_what_pydicom_converts(real_data: Path):
    paths = sorted(one for one in (real_data / "dicom_export_aera15T").rglob("*") if one.is_file())
    for path in paths[::20]:
        raw, known = dcmread(path, stop_before_pixels=True), dcmread(path, stop_before_pixels=True)
        keywords = [one.keyword for one in known if one.keyword and one.VR != "SQ"]
        told = {keyword: plain_text(raw, keyword) for keyword in keywords}
        assert sum(text is not None for text in told.values()) > 40
        assert {k: v for k, v in told.items() if v is not None} == {
            k: text_of(known, k) for k, v in told.items() if v is not None
        }, "known is converted by now, so its texts are pydicom's"


def deep(depth: int, *, told: bool) -> bytes:
    """Return a sequence within a sequence within a sequence."""
    tag, item, open_length = b"\x08\0\x40\x11SQ\0\0", b"\xfe\xff\0\xe0", b"\xff" * 4
    if not told:
        ends = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        return (tag + open_length + item + open_length) * depth + ends * depth
    inner = b""
    for _ in range(depth):
        inner = item + struct.pack("<L", len(inner)) + inner
        inner = tag + struct.pack("<L", len(inner)) + inner
    return inner


@LENGTHS
@pytest.mark.parametrize("depth", [300, 3000])
def test_a_deep_header_ends_soon(tmp_path: Path, depth: int, told: bool):
    image = series(tmp_path / "image", shape=(2, 20, 24))
    mask = np.zeros((2, 20, 24), np.uint8)
    mask[1, 5:9, 5:9] = 1
    for path in (image.paths[0], seg(tmp_path / "seg", image, mask)):
        path.write_bytes(path.read_bytes().replace(PLACE, deep(depth, told=told) + PLACE, 1))
    begun = time.perf_counter()
    found = read_instance(image.paths[0], "file", pseudonyms=PSEUDONYMS)
    if told:
        assert isinstance(found, Instance)
        assert "identity-depth" in found.faults
        assert read_seg(path, PSEUDONYMS).rows == 20
    else:
        assert found == Left("file", "damaged")
        with pytest.raises(MaskRefused, match="damaged or breaks its own standard"):
            read_seg(path, PSEUDONYMS)
    assert time.perf_counter() - begun < 5
