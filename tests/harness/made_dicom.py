"""Small real DICOM files, the same at every run: series, enhanced multi-frame, SEG, RTSTRUCT, a DICOMDIR."""

from harness.made_dicom_objects import ANATOMY, ARTERY, dicomdir, enhanced, rtstruct, seg
from harness.made_dicom_series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Made, encode, made_uid, save, series
from harness.made_dicom_syntax import big_endian, compress, deflate

__all__ = (
    "ANATOMY", "ARTERY", "AXIAL", "CORONAL", "OBLIQUE", "SAGITTAL", "Made", "big_endian", "compress",
    "deflate", "dicomdir", "encode", "enhanced", "made_uid", "rtstruct", "save", "seg", "series",
)  # fmt: skip
