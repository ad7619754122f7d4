"""Encode made DICOM files anew: compressed by gdcm, pydicom or pyjpegls; deflated; big endian."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

_gdcm: Any = gdcm
_BY_GDCM = {
    uid.JPEGLossless: "JPEGLosslessProcess14",
    uid.JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    uid.JPEG2000Lossless: "JPEG2000Lossless",
    uid.JPEG2000: "JPEG2000",
    uid.JPEGBaseline8Bit: "JPEGBaselineProcess1",
}


def compress(paths: Iterable[Path], syntax: str) -> None:
    """Compress files in place.

    Args:
        syntax: JPEG lossless (.57, .70), JPEG 2000 (.90, .91) and JPEG baseline (.50, 8 bits) by gdcm;
            RLE and JPEG-LS by pydicom and pyjpegls.
    """
    for path in paths:
        item = dcmread(path)
        if syntax in _BY_GDCM:
            encoded = _by_gdcm(path, _BY_GDCM[uid.UID(syntax)])
            item.PixelData = encoded.PixelData
            item["PixelData"].VR = "OB"
            item["PixelData"].is_undefined_length = True
            item.file_meta.TransferSyntaxUID = encoded.file_meta.TransferSyntaxUID
        else:
            item.compress(uid.UID(syntax), generate_instance_uid=False)
        item.save_as(path, enforce_file_format=True)


def _by_gdcm(path: Path, syntax: str):
    reader = _gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = _gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(_gdcm.TransferSyntax(getattr(_gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = _gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    with tempfile.TemporaryDirectory() as folder:
        writer.SetFileName(f"{folder}/encoded.dcm")
        assert writer.Write()
        return dcmread(f"{folder}/encoded.dcm")


def deflate(paths: Iterable[Path]) -> None:
    """Deflate whole data sets in place."""
    for path in paths:
        item = dcmread(path)
        item.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        item.save_as(path, enforce_file_format=True)


def big_endian(paths: Iterable[Path]) -> None:
    """Write uncompressed files in place as explicit VR big endian, the pixels too."""
    for path in paths:
        item = dcmread(path)
        item.decode()
        meta, item = item.file_meta, Dataset({element.tag: element for element in item})
        item.file_meta = meta
        if item.BitsAllocated == 16:
            item.PixelData = np.frombuffer(item.PixelData, "<u2").astype(">u2").tobytes()
        item["PixelData"].VR = "OW" if item.BitsAllocated == 16 else "OB"
        item.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
        item.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=False)
