"""Small real DICOM objects beside classic series: enhanced multi-frame, SEG, RTSTRUCT, a DICOMDIR medium."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from harness.made_dicom_series import AXIAL, Made, fill_pixels, made_uid, save, series
from highdicom.sr.coding import CodedConcept
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence as Items

ANATOMY = CodedConcept("91723000", "SCT", "Anatomical Structure")
ARTERY = CodedConcept("51114001", "SCT", "Artery")


def enhanced(
    folder: Path, *,
    order: Sequence[int] | None = None, echoes: Sequence[float] = (7.0,), legacy: bool = False,
    shape: tuple[int, int, int] = (12, 20, 24), spacing: tuple[float, float, float] = (0.7, 0.5, 0.4),
    direction: Sequence[float] = AXIAL, origin: tuple[float, float, float] = (-10.0, -20.0, -30.0),
    frame: Callable[[Dataset, int], None] | None = None, **rest: Any,
) -> Made:  # fmt: skip
    """Write one enhanced multi-frame file; ``rest`` is as for :func:`series`.

    Args:
        order: In which order the slices are stored; along the normal without.
        echoes: One volume each, all in the one file; more than one holds the same voxels plus 1, 2...
        legacy: By highdicom from a classic series (Legacy Converted Enhanced MR); else Enhanced MR by hand.
        frame: Changes the functional groups of the frame with this index.
    """
    same = {"shape": shape, "spacing": spacing, "direction": direction, "origin": origin}
    made = series(folder / "classic", **same, **rest)
    classic = [dcmread(path) for path in made.paths]
    for path in made.paths:
        path.unlink()
    made.paths[0].parent.rmdir()
    order = list(range(shape[0])) if order is None else list(order)
    item = (
        highdicom.legacy.LegacyConvertedEnhancedMRImage(
            [classic[k] for k in order],
            made.series,
            int(rest.get("number", 3)),
            made_uid(made.series, "all"),
            1,
        )
        if legacy
        else _enhanced(classic, made, order=order, echoes=echoes)
    )
    for index, groups in enumerate(item.PerFrameFunctionalGroupsSequence):
        if frame is not None:
            frame(groups, index)
    path = folder / "enhanced.dcm"
    save(item, path)
    return Made(folder, (path,), made.voxels, made.affine, made.study, made.series, made.frame_of_reference)


def _enhanced(
    classic: Sequence[Dataset], made: Made, *, order: Sequence[int], echoes: Sequence[float]
) -> Dataset:
    item = Dataset()
    item.update({tag: value for tag, value in classic[0].items() if tag.group <= 0x20})
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "EchoTime", "RescaleSlope", "RescaleIntercept",
        "SliceThickness", "SpacingBetweenSlices", "KVP",
    ):  # fmt: skip
        if keyword in item:
            delattr(item, keyword)
    item.SOPClassUID = uid.EnhancedMRImageStorage
    item.SOPInstanceUID = made_uid(made.series, "all")
    item.ImageType = ["ORIGINAL", "PRIMARY", "ANGIO", "NONE"]
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([_only(classic[0], "ImageOrientationPatient")])
    shared.PixelMeasuresSequence = Items([_only(classic[0], "PixelSpacing", "SliceThickness")])
    item.SharedFunctionalGroupsSequence = Items([shared])
    frames = [(k, number, echo) for number, echo in enumerate(echoes) for k in order]
    item.PerFrameFunctionalGroupsSequence = Items(
        [_frame(classic[k], k=k, number=number, echo=echo) for k, number, echo in frames]
    )
    fill_pixels(
        item, np.stack([made.voxels[k] + number for k, number, _ in frames]).astype(made.voxels.dtype)
    )
    return item


def _only(item: Dataset, *keywords: str) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        if keyword in item:
            setattr(kept, keyword, item[keyword].value)
    return kept


def _frame(classic: Dataset, *, k: int, number: int, echo: float) -> Dataset:
    frame, content, timing, values = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues, content.StackID, content.InStackPositionNumber = (
        [number + 1, k + 1],
        "1",
        k + 1,
    )
    timing.EffectiveEchoTime = echo
    values.RescaleSlope = classic.get("RescaleSlope", "1")
    values.RescaleIntercept, values.RescaleType = classic.get("RescaleIntercept", "0"), "US"
    frame.FrameContentSequence = Items([content])
    frame.PlanePositionSequence = Items([_only(classic, "ImagePositionPatient")])
    frame.MREchoSequence = Items([timing])
    frame.PixelValueTransformationSequence = Items([values])
    return frame


def seg(
    folder: Path, made: Made, mask: np.ndarray, *, kind: str = "BINARY",
    segments: Sequence[tuple[str, CodedConcept]] = (("Artery", ARTERY),),
    name: str = "seg.dcm", seed: int = 0, deidentified: bool = True, **options: Any,
) -> Path:  # fmt: skip
    """Write a SEG of a made series by highdicom.

    Args:
        mask: (slices, rows, columns), or with a fourth axis of segments; integers, or floats in 0..1 for
            FRACTIONAL. Integers 1, 2... name segments where there is no fourth axis.
        kind: BINARY, FRACTIONAL or LABELMAP.
        segments: Label and property type of each.
        options: For ``highdicom.seg.Segmentation``, such as ``omit_empty_frames`` or ``transfer_syntax_uid``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "made", CodedConcept("123109", "DCM", "Manual"), "1"
    )
    described = [
        highdicom.seg.SegmentDescription(number, label, ANATOMY, code, "AUTOMATIC", algorithm)
        for number, (label, code) in enumerate(segments, 1)
    ]
    item = highdicom.seg.Segmentation(
        [dcmread(path) for path in made.paths], mask, kind, described, made_uid(made.series, "seg", seed), 99,
        made_uid(made.series, name, seed), 1, "made", "made", "1", "1", **options,
    )  # fmt: skip
    for keyword in ("StudyDate", "ContentDate", "SeriesDate"):
        setattr(item, keyword, "20240102")
    if deidentified:
        item.PatientIdentityRemoved, item.DeidentificationMethod = "YES", "made for a test"
        item.ContentCreatorName = ""
        item.DeviceSerialNumber = ""
    path = folder / name
    item.save_as(path, enforce_file_format=True)
    return path


def rtstruct(folder: Path, made: Made, *, name: str = "rtstruct.dcm") -> Path:
    """Write a minimal RTSTRUCT with one region, of the made series' study."""
    folder.mkdir(parents=True, exist_ok=True)
    source = dcmread(made.paths[0], stop_before_pixels=True)
    item = _only(
        source, "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
        "PatientIdentityRemoved", "DeidentificationMethod", "FrameOfReferenceUID",
    )  # fmt: skip
    item.SOPClassUID, item.Modality = uid.RTStructureSetStorage, "RTSTRUCT"
    item.SOPInstanceUID, item.SeriesInstanceUID = made_uid(made.series, name), made_uid(made.series, "rt")
    item.SeriesNumber, item.InstanceNumber, item.StructureSetLabel = 98, 1, "made"
    region, contour, drawn = Dataset(), Dataset(), Dataset()
    region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = (
        1,
        "Artery",
        made.frame_of_reference,
    )
    drawn.ContourGeometricType, drawn.NumberOfContourPoints = "CLOSED_PLANAR", 3
    drawn.ContourData = [0, 0, 0, 1, 0, 0, 0, 1, 0]
    contour.ReferencedROINumber, contour.ContourSequence = 1, Items([drawn])
    item.StructureSetROISequence, item.ROIContourSequence = Items([region]), Items([contour])
    save(item, folder / name)
    return folder / name


def dicomdir(folder: Path, paths: Iterable[Path]) -> Path:
    """Copy files into a DICOMDIR medium at ``folder`` (names of eight characters); returns its DICOMDIR."""
    medium = FileSet()
    for path in paths:
        item = dcmread(path)
        item.StudyID, item.StudyTime = item.get("StudyID") or "1", item.get("StudyTime") or "120000"
        item.SeriesNumber = item.get("SeriesNumber") or 1
        medium.add(item)
    medium.write(folder)
    return folder / "DICOMDIR"
