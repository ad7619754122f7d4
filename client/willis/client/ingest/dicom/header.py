"""Read of a DICOM header what intake may keep: numbers, allow-listed codes and keyed digests."""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.header_file import Header, UnfitFileError, open_header
from willis.client.ingest.dicom.header_text import text_of
from willis.client.ingest.dicom.header_values import (
    MODALITIES,
    SEQUENCE_CODES,
    Values,
    image_type_faults,
    phase_of,
)
from willis.client.ingest.dicom.identifying import names_nobody
from willis.client.ingest.dicom.identity import Pseudonyms, check_policy, identity_faults, normalised
from willis.client.ingest.dicom.instance import Instance, Left

_KIND_OF = {
    uid.MRImageStorage: "mr",
    uid.EnhancedMRImageStorage: "enhanced-mr",
    uid.LegacyConvertedEnhancedMRImageStorage: "enhanced-mr",
    uid.CTImageStorage: "ct",
    uid.EnhancedCTImageStorage: "enhanced-ct",
    uid.LegacyConvertedEnhancedCTImageStorage: "enhanced-ct",
    uid.SegmentationStorage: "seg",
    uid.UID("1.2.840.10008.5.1.4.1.1.66.7"): "label-map-seg",
    uid.RTStructureSetStorage: "rtstruct",
}
_IMAGES = frozenset({"mr", "enhanced-mr", "ct", "enhanced-ct"})
_WITH_PIXELS = _IMAGES | {"seg", "label-map-seg"}
_LOSSLESS = frozenset(
    {
        uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
        uid.JPEG2000Lossless, uid.RLELossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL,
    }
)  # fmt: skip
_MOST_SHIFT = 100 * 365  # days
_PULSES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
_TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName")


def read_instance(
    path: Path,
    file: str,
    *,
    pseudonyms: Pseudonyms,
    deid: str = "require",
    mapping: Mapping[str, str] | None = None,
    patterns: Sequence[str] = (),
) -> Instance | Left:
    """Read one file up to its pixels.

    Whatever its bytes are, an instance or a code comes back, and nothing is printed, logged or warned of.

    Args:
        path: The file; opened for reading alone.
        file: Keyed digest of its path, for the answer.
        pseudonyms: Of the site.
        deid: ``require`` or ``site-local``; see :func:`willis.client.ingest.dicom.identity.identity_faults`.
        mapping: From StudyInstanceUID to PatientID, used where a file has none.
        patterns: Regular expressions, capitals or not; bit i of ``matches`` says whether the i-th is found in
            SeriesDescription, ProtocolName or SequenceName.

    Raises:
        ValueError: ``deid`` is no policy.
    """
    check_policy(deid)
    found = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    try:
        with open_header(path) as header:
            return _instance(
                header, file, pseudonyms=pseudonyms, deid=deid, mapping=mapping or {}, patterns=found
            )
    except UnfitFileError as fault:
        return Left(file, fault.code)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ):
        return Left(
            file, "damaged"
        )  # a parser's complaint of a value that was only read now; it may quote it


def _instance(
    header: Header,
    file: str,
    *,
    pseudonyms: Pseudonyms,
    deid: str,
    mapping: Mapping[str, str],
    patterns: Sequence[re.Pattern[str]],
) -> Instance:
    dataset, of = header.dataset, pseudonyms.of
    study, series, own = (text_of(dataset, f"{level}InstanceUID") for level in ("Study", "Series", "SOP"))
    sop_class = text_of(dataset, "SOPClassUID")
    if not (study and series and own and sop_class):
        marked = bool(getattr(dataset, "preamble", None))
        raise UnfitFileError("damaged" if marked else "not-dicom")
    kind = _KIND_OF.get(uid.UID(sop_class), "other")
    values = Values(dataset)
    subject = _subject(dataset, study, pseudonyms=pseudonyms, mapping=mapping)
    frame = text_of(dataset, "FrameOfReferenceUID")
    image_type = tuple(one.strip() for one in text_of(dataset, "ImageType").upper().split("\\"))
    geometry = _geometry(values)
    faults = [
        *([] if subject else ["no-patient"]),
        *identity_faults(dataset, deid),
        *_pixel_faults(header, values, kind),
        *image_type_faults(image_type, sop_class, converted=bool(text_of(dataset, "ConversionType"))),
        *(["no-geometry"] if kind in _IMAGES and None in geometry else []),
    ]
    numbers = {
        "rows": values.integer("Rows"), "columns": values.integer("Columns"),
        "frames": values.integer("NumberOfFrames", default=1),
        "temporal": values.integer("TemporalPositionIdentifier"),
        "acquisition_number": values.integer("AcquisitionNumber"),
        "series_number": values.integer("SeriesNumber", strict=False),
        "instance_number": values.integer("InstanceNumber", strict=False),
        "thickness": values.number("SliceThickness", strict=False),
        "echo_time": values.number("EchoTime", "EffectiveEchoTime"),
        "b_value": values.number("DiffusionBValue"),
    }  # fmt: skip
    texts = [text_of(dataset, keyword)[:1024] for keyword in _TEXTS]
    modality = text_of(dataset, "Modality")
    return Instance(
        file=file, subject=subject, study=of("study", study), series=of("series", series), uid=of("uid", own),
        frame_of_reference=of("frame", frame) if frame else "", kind=kind,
        modality=modality if modality in MODALITIES else "",
        study_day=_day(text_of(dataset, "StudyDate"), subject, of),
        born=_born(dataset, of), position=geometry[0], orientation=geometry[1], spacing=geometry[2],
        phase=phase_of(image_type, values.text("ComplexImageComponent")), syntax=_syntax(dataset), pixels="",
        matches=sum(1 << i for i, one in enumerate(patterns) if any(map(one.search, texts))),
        sequence=_sequence(dataset, values), references=_references(dataset, of),
        faults=tuple(dict.fromkeys([*faults, *values.faults])), **numbers,
    )  # fmt: skip


def _subject(dataset: Dataset, study: str, *, pseudonyms: Pseudonyms, mapping: Mapping[str, str]) -> str:
    patient = normalised(text_of(dataset, "PatientID")) or mapping.get(study, "")
    return pseudonyms.subject(patient) if patient else ""


def _geometry(values: Values):
    return (
        values.numbers("ImagePositionPatient", 3),
        values.numbers("ImageOrientationPatient", 6),
        values.numbers("PixelSpacing", 2),
    )


def _pixel_faults(header: Header, values: Values, kind: str) -> list[str]:
    dataset, faults = header.dataset, []
    syntax = _syntax(dataset)
    if kind in _WITH_PIXELS:
        if header.pixels is None:
            faults.append("no-pixels")
        elif header.pixels > header.present or not header.present:
            faults.append("truncated")
    if text_of(dataset, "LossyImageCompression") == "01" or (syntax and syntax not in _LOSSLESS):
        faults.append("lossy")
    elif syntax not in _LOSSLESS:
        faults.append("syntax")
    if kind in _IMAGES or kind == "other":
        photometric = text_of(dataset, "PhotometricInterpretation")
        if (
            photometric not in ("MONOCHROME1", "MONOCHROME2")
            or values.integer("SamplesPerPixel", default=1) != 1
        ):
            faults.append("photometric")
    return faults


def _syntax(dataset: Dataset) -> str:
    """Return the transfer syntax: a public constant of pydicom's table, or "" where it is none."""
    told = text_of(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    if not told:
        implicit, little = dataset.original_encoding
        return str(uid.ImplicitVRLittleEndian if implicit else _explicit(bool(little)))
    return told if uid.UID(told) in UID_dictionary and uid.UID(told).is_transfer_syntax else ""


def _explicit(little: bool) -> uid.UID:
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _sequence(dataset: Dataset, values: Values) -> tuple[str, ...]:
    told = [one.strip().upper() for one in text_of(dataset, "ScanningSequence").split("\\")]
    codes = tuple(one for one in told if one in SEQUENCE_CODES)
    if codes:
        return codes
    inverted = ("IR",) if values.text("InversionRecovery").upper() == "YES" else ()
    planar = ("EP",) if values.text("EchoPlanarPulseSequence").upper() == "YES" else ()
    return (*_PULSES.get(values.text("EchoPulseSequence").upper(), ()), *inverted, *planar)


def _references(dataset: Dataset, of: Callable[[str, str], str]) -> tuple[str, ...]:
    try:
        told = [text_of(item, "SeriesInstanceUID") for item in dataset.get("ReferencedSeriesSequence") or ()]
    except Exception:  # a sequence that cannot be read refers to nothing
        return ()
    return tuple(dict.fromkeys(of("series", one) for one in told if one))


def _day(told: str, subject: str, of: Callable[[str, str], str]) -> int:
    """Return a date as days since a day of the patient's own: its order stays, the date does not."""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", told)
    try:
        days = date(*map(int, match.groups())).toordinal() if match else 0
    except ValueError:
        days = 0
    return days + int(of("day", subject), 16) % _MOST_SHIFT if days else 0


def _born(dataset: Dataset, of: Callable[[str, str], str]) -> str:
    told = text_of(dataset, "PatientBirthDate")
    if names_nobody("PatientBirthDate", told, ""):
        return ""
    return of("born", f"{told}|{text_of(dataset, 'PatientSex')}")
