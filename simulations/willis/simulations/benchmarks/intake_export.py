"""An export of many small MR instances, made fast: one header of pydicom's, patched at fixed places per file.

Nested as PACS write them: patient, study, series, then files without suffix. A header has some hundred
attributes, private ones, sequences and a vendor's block among them, and is de-identified (PS3.15).
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

SLICES = 100  # of a series
SERIES = 5  # of a study
SIDE = 64
_ROOT = "1.2.826.0.1.3680043.8.498."
_BLOCK = 4096  # bytes that a vendor writes of its own
_NOTES = 40  # private attributes

_EMPTY = (
    "AccessionNumber ReferringPhysicianName PatientBirthDate PatientSex PatientAge InstitutionName "
    "StationName StudyID PositionReferenceIndicator StudyTime SeriesTime AcquisitionTime ContentTime "
    "OperatorsName PerformingPhysicianName DeviceSerialNumber"
)
_TOLD = {
    "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "Modality": "MR",
    "StudyDate": "20240102", "SeriesDate": "20240102", "AcquisitionDate": "20240102",
    "ContentDate": "20240102", "Manufacturer": "MADE", "ManufacturerModelName": "Made 1.5T",
    "StudyDescription": "head", "SeriesDescription": "TOF 3D multislab", "ProtocolName": "TOF 3D multislab",
    "BodyPartExamined": "HEAD", "ScanningSequence": "GR", "SequenceVariant": ["SP", "OSP"],
    "ScanOptions": "PFP", "MRAcquisitionType": "3D", "SequenceName": "*fl3d1r", "AngioFlag": "Y",
    "SliceThickness": "0.7", "RepetitionTime": "21", "EchoTime": "7.0", "NumberOfAverages": "1",
    "ImagingFrequency": "63.68", "ImagedNucleus": "1H", "EchoNumbers": "1", "MagneticFieldStrength": "1.5",
    "SpacingBetweenSlices": "0.7", "NumberOfPhaseEncodingSteps": "200", "EchoTrainLength": "1",
    "PercentSampling": "80", "PercentPhaseFieldOfView": "75", "PixelBandwidth": "100",
    "SoftwareVersions": "made 1", "TransmitCoilName": "Body", "AcquisitionMatrix": [0, 256, 200, 0],
    "InPlanePhaseEncodingDirection": "ROW", "FlipAngle": "25", "VariableFlipAngleFlag": "N", "SAR": "0.03",
    "dBdt": "0", "PatientPosition": "HFS", "AcquisitionNumber": "1", "SamplesPerPixel": 1,
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"], "PhotometricInterpretation": "MONOCHROME2",
    "Rows": SIDE, "Columns": SIDE, "PixelSpacing": ["0.39", "0.39"], "BitsAllocated": 16, "BitsStored": 12,
    "HighBit": 11, "PixelRepresentation": 0, "SmallestImagePixelValue": 0, "LargestImagePixelValue": 999,
    "WindowCenter": "300", "WindowWidth": "600", "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "made for a measurement", "LongitudinalTemporalInformationModified": "MODIFIED",
    "PerformedProcedureStepStartDate": "20240102", "PerformedProcedureStepDescription": "head",
}  # fmt: skip
_PLACES = {
    "patient": "PAT9182736", "study": f"{_ROOT}191827364501", "series": f"{_ROOT}291827364502",
    "own": f"{_ROOT}391827364503", "frame": f"{_ROOT}491827364504", "z": "-918273.65", "k": "918274",
    "number": "918275",
}  # fmt: skip  # values of the template that occur in it nowhere else; each is as long as what replaces it


def make_export(folder: Path, instances: int) -> None:
    """Write an export.

    Args:
        folder: Made; nothing may be there.
        instances: Files.
    """
    whole, places = _template()
    for first in range(0, instances, SLICES):
        series = first // SLICES
        study = series // SERIES
        here = folder / f"P{study:07d}" / f"ST{study:06d}" / f"SE{series:06d}"
        here.mkdir(parents=True)
        fixed = {
            "patient": f"PAT{study:07d}", "study": f"{_ROOT}1{study:011d}", "frame": f"{_ROOT}4{study:011d}",
            "series": f"{_ROOT}2{series:011d}", "number": f"{1 + series % SERIES:06d}",
        }  # fmt: skip
        for k in range(min(SLICES, instances - first)):
            own = {"own": f"{_ROOT}3{first + k:011d}", "z": f"{-35 + 0.7 * k:010.5f}", "k": f"{k + 1:06d}"}
            for name, told in (fixed | own).items():
                for at in places[name]:
                    whole[at : at + len(told)] = told.encode()
            (here / f"IM{k:06d}").write_bytes(whole)


def attributes() -> int:
    """Return how many attributes a header has, those within sequences not counted."""
    return len(_header())


def _template() -> tuple[bytearray, dict[str, list[int]]]:
    """Return a file's bytes, and where each of what differs between files stands in them."""
    whole = bytearray(_written(_header()))
    places = {name: _found(bytes(whole), told.encode()) for name, told in _PLACES.items()}
    return whole, places


def _found(whole: bytes, told: bytes) -> list[int]:
    found, at = [], whole.find(told)
    while at >= 0:
        found.append(at)
        at = whole.find(told, at + 1)
    return found


def _header() -> Dataset:
    item = Dataset()
    for keyword in _EMPTY.split():
        setattr(item, keyword, "")
    for keyword, told in _TOLD.items():
        setattr(item, keyword, told)
    item.PatientID = item.PatientName = _PLACES["patient"]
    item.SOPClassUID, item.SOPInstanceUID = uid.MRImageStorage, _PLACES["own"]
    item.StudyInstanceUID, item.SeriesInstanceUID = _PLACES["study"], _PLACES["series"]
    item.FrameOfReferenceUID = _PLACES["frame"]
    item.InstanceNumber, item.SeriesNumber = _PLACES["k"], _PLACES["number"]
    item.SliceLocation, item.ImagePositionPatient = _PLACES["z"], ["-12.48", "-12.48", _PLACES["z"]]
    item.DeidentificationMethodCodeSequence = Sequence([_code("113100"), _code("113111")])
    item.ReferencedImageSequence = Sequence([_reference(k) for k in range(3)])
    item.ProcedureCodeSequence = Sequence([_code("24727-0")])
    for group in (0x0019, 0x0051):
        block = item.private_block(group, "MADE VENDOR", create=True)
        for k in range(_NOTES // 2):
            block.add_new(k, "LO", f"value {k} of a vendor")
    block = item.private_block(0x0029, "MADE VENDOR", create=True)
    block.add_new(0x10, "OB", bytes(range(256)) * (_BLOCK // 256))
    values = np.random.default_rng(0).integers(0, 1000, (SIDE, SIDE))
    item.PixelData = values.astype("<u2").tobytes()
    return item


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "made"
    return item


def _reference(k: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = uid.MRImageStorage, f"{_ROOT}5.{k}"
    return item


def _written(item: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = item.SOPClassUID, item.SOPInstanceUID
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    item.file_meta = meta
    file = BytesIO()
    item.save_as(file, enforce_file_format=True)
    return file.getvalue()
