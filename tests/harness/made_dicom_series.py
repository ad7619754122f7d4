"""Small real classic DICOM series, the same at every run.

Axes are told slowest first: slices, rows, columns. Geometry is DICOM's (LPS) but for ``Made.affine`` (RAS).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness.made_dicom_syntax import big_endian, compress, deflate
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)  # orthonormal: 3-4-5 and 7-24-25 triangles

_STORAGE = {"MR": uid.MRImageStorage, "CT": uid.CTImageStorage}


@dataclass(frozen=True)
class Made:
    """A series as it was made.

    Attributes:
        folder: Where its files are.
        paths: The files, in the order of slices along the normal (one file for an enhanced one).
        voxels: Stored values (slices, rows, columns).
        affine: From (column, row, slice) to mm in RAS.
        study: StudyInstanceUID; so ``series`` and ``frame_of_reference``.
    """

    folder: Path
    paths: tuple[Path, ...]
    voxels: np.ndarray
    affine: np.ndarray
    study: str
    series: str
    frame_of_reference: str

    def volume(self) -> np.ndarray:
        """Return the values as (column, row, slice), the axes of ``affine``."""
        return self.voxels.transpose(2, 1, 0)


def made_uid(*words: object) -> str:
    """Return the UID that belongs to words."""
    return uid.generate_uid(entropy_srcs=[str(word) for word in words])


def series(
    folder: Path, *,
    shape: tuple[int, int, int] = (12, 20, 24), spacing: tuple[float, float, float] = (0.7, 0.5, 0.4),
    direction: Sequence[float] = AXIAL, origin: tuple[float, float, float] = (-10.0, -20.0, -30.0),
    patient: str = "PAT-1", study: str = "study", series: str = "series", number: int = 3,
    description: str = "TOF 3D", modality: str = "MR", echo: float | None = 7.0, syntax: str | None = None,
    deidentified: bool = True, seed: int = 0, names: str = "uid", signed: bool = False, bits: int = 16,
    voxels: np.ndarray | None = None, **tags: Any,
) -> Made:  # fmt: skip
    """Write one classic series, a file a slice; InstanceNumber follows position.

    Args:
        folder: Made if absent; several series may share it when ``names`` is ``uid``.
        direction: ImageOrientationPatient: row, then column cosines. The normal is their cross product.
        names: ``uid`` (UID.dcm), ``flat`` (0001.dcm) or ``IM0001`` (no suffix).
        syntax: A transfer syntax to encode to; explicit little endian without.
        voxels: Stored values (slices, rows, columns), in place of what ``shape``, ``seed`` and ``bits`` make.
        tags: By keyword: a value for each file, None to leave the tag out, or a function of the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    voxels = _voxels(shape, seed=seed, bits=bits, signed=signed) if voxels is None else voxels
    whole = {"patient": patient, "study": study, "series": series}
    positions = _positions(len(voxels), spacing[0], direction, origin)
    paths = []
    for k, plane in enumerate(voxels):
        item = _instance(k, **whole, modality=modality, deidentified=deidentified)
        item.update(_described(number=number, description=description, modality=modality, echo=echo))
        item.update(_geometry(positions[k], direction, spacing))
        fill_pixels(item, plane)
        _override(item, tags, k)
        path = folder / _named(names, item, k)
        save(item, path)
        paths.append(path)
    if syntax is not None:
        encode(paths, syntax)
    return Made(
        folder, tuple(paths), voxels, _affine(spacing, direction, origin),
        made_uid(patient, study), made_uid(patient, study, series), made_uid(patient, study, "frame"),
    )  # fmt: skip


def encode(paths: Iterable[Path], syntax: str) -> None:
    """Encode files anew, in place, to any transfer syntax that the makers know."""
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        deflate(paths)
    elif syntax == uid.ExplicitVRBigEndian:
        big_endian(paths)
    else:
        compress(paths, syntax)


def _voxels(shape: tuple[int, int, int], *, seed: int, bits: int, signed: bool) -> np.ndarray:
    """Return a smooth, asymmetric ramp with noise: no flip or shift of it is equal to it."""
    k, i, j = np.meshgrid(*(np.linspace(0, 1, side) for side in shape), indexing="ij")
    noise = np.random.default_rng(seed).integers(0, 20, shape)
    values = (k * 0.2 + i * 0.3 + j * j * 0.4) * min(2**bits - 1, 4000) * 0.9 + noise * (bits > 8)
    values = values - (1000 if signed else 0)
    kind = {(8, False): np.uint8, (16, False): np.uint16, (16, True): np.int16, (12, False): np.uint16}
    return values.astype(kind[bits, signed])


def _positions(n: int, step: float, direction: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    normal = np.cross(direction[:3], direction[3:])
    return np.asarray(origin) + np.arange(n)[:, None] * step * normal


def _affine(spacing: Sequence[float], direction: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    row, column = np.asarray(direction[:3]), np.asarray(direction[3:])
    affine = np.eye(4)
    affine[:3] = np.stack(
        [row * spacing[2], column * spacing[1], np.cross(row, column) * spacing[0], np.asarray(origin)],
        axis=1,
    )
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _instance(k: int, *, patient: str, study: str, series: str, modality: str, deidentified: bool) -> Dataset:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.SOPClassUID = _STORAGE[modality]
    item.SOPInstanceUID = made_uid(patient, study, series, k)
    item.StudyInstanceUID = made_uid(patient, study)
    item.SeriesInstanceUID = made_uid(patient, study, series)
    item.FrameOfReferenceUID = made_uid(patient, study, "frame")
    item.PatientID = patient
    item.PatientName = patient if deidentified else "Musterfrau^Erika"
    item.PatientBirthDate = "" if deidentified else "19610203"
    item.PatientSex = "" if deidentified else "F"
    item.StudyDate, item.StudyTime, item.StudyID, item.AccessionNumber = "20240102", "", "", ""
    item.ReferringPhysicianName = "" if deidentified else "Arzt^Anna"
    item.PositionReferenceIndicator = ""
    if deidentified:
        item.PatientIdentityRemoved, item.DeidentificationMethod = "YES", "made for a test"
    item.InstanceNumber, item.AcquisitionNumber = k + 1, 1
    return item


def _described(*, number: int, description: str, modality: str, echo: float | None) -> Dataset:
    item = Dataset()
    item.Modality, item.SeriesNumber, item.SeriesDescription = modality, number, description
    item.Manufacturer = ""
    item.ImageType = ["ORIGINAL", "PRIMARY", "M" if modality == "MR" else "AXIAL"]
    if modality == "MR":
        item.ScanningSequence, item.SequenceVariant, item.ScanOptions = "GR", "NONE", ""
        item.MRAcquisitionType, item.RepetitionTime, item.EchoTrainLength = "3D", "21", "1"
        item.EchoTime = None if echo is None else str(echo)
    else:
        item.KVP, item.RescaleSlope, item.RescaleIntercept, item.RescaleType = "120", "1", "-1024", "HU"
    return item


def _geometry(position: Sequence[float], direction: Sequence[float], spacing: Sequence[float]) -> Dataset:
    item = Dataset()
    item.ImagePositionPatient = [f"{x:.8g}"[:16] for x in position]
    item.ImageOrientationPatient = [f"{x:.10g}"[:16] for x in direction]
    item.PixelSpacing = [str(spacing[1]), str(spacing[2])]
    item.SliceThickness, item.SpacingBetweenSlices = str(spacing[0]), str(spacing[0])
    return item


def fill_pixels(item: Dataset, voxels: np.ndarray) -> None:
    """Put one plane, or frames of planes, into a data set."""
    item.Rows, item.Columns = voxels.shape[-2:]
    if voxels.ndim == 3:
        item.NumberOfFrames = len(voxels)
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = voxels.dtype.itemsize * 8
    stored = 12 if voxels.dtype.kind == "u" and bits == 16 and voxels.max() < 4096 else bits
    item.BitsAllocated, item.BitsStored, item.HighBit = bits, stored, stored - 1
    item.PixelRepresentation = int(voxels.dtype.kind == "i")
    item.PixelData = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()


def _override(item: Dataset, tags: Mapping[str, Any], k: int) -> None:
    for keyword, told in tags.items():
        value = told(k) if callable(told) else told
        if value is None:
            if keyword in item:
                delattr(item, keyword)
        else:
            setattr(item, keyword, value)


def _named(names: str, item: Dataset, k: int) -> str:
    return {"uid": f"{item.SOPInstanceUID}.dcm", "flat": f"{k:04d}.dcm", "IM0001": f"IM{k + 1:04d}"}[names]


def save(item: Dataset, path: Path) -> None:
    """Write a data set as explicit little endian, with its file meta information."""
    item.file_meta = FileMetaDataset()
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    item.save_as(path, enforce_file_format=True)
