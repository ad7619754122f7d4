"""Read one DICOM segmentation: its facts as plain values, its frames one at a time; no text goes on.

pydicom and its decoders quote values in what they raise, warn and log: here only the type of a fault passes.
"""

import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import gdcm
import numpy as np
from jaxtyping import Shaped
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from willis.client.ingest.dicom.grid import Plane
from willis.client.ingest.dicom.header_file import LARGEST_HEADER, UnfitFileError, open_header
from willis.client.ingest.dicom.header_flaws import MOST_VOXELS
from willis.client.ingest.dicom.header_text import text_of
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused

_gdcm: Any = gdcm  # has no types
SEG, LABEL_MAP_SEG = uid.SegmentationStorage, uid.UID("1.2.840.10008.5.1.4.1.1.66.7")
_NATIVE = frozenset({uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
                     uid.DeflatedExplicitVRLittleEndian})  # fmt: skip
_LOSSLESS = frozenset({uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
                       uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL})  # fmt: skip
_LOSSY = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000,
                    uid.HTJ2K})  # fmt: skip
_TYPES = {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}  # bits allocated of each
FRAME_OF_REFERENCE, SERIES = "frame", "series"  # kinds of UID, as Pseudonyms.of separates them
_WHEN = re.compile(r"\d{8}(\d{6}(\.\d{1,6})?)?")


class Digests(Protocol):
    """What turns a UID into what may be kept of it (``Pseudonyms``)."""

    def of(self, kind: str, value: str) -> str:
        """Return the keyed digest of a value of a kind."""
        ...


@dataclass(frozen=True, repr=False)
class Segment:
    """One segment as its file describes it: for comparison with the rule's words, never for showing.

    Attributes:
        number: What frames, or a label map's values, name it by.
        label: SegmentLabel.
        code: Coding scheme and value of SegmentedPropertyType.
    """

    number: int
    label: str
    code: tuple[str, str]


@dataclass(frozen=True, repr=False)
class Frame:
    """One frame: the segment it shows (None in a label map) and where it lies."""

    segment: int | None
    plane: Plane


@dataclass(frozen=True, repr=False)
class SegFile:
    """One segmentation. UIDs are keyed digests.

    Attributes:
        kind: BINARY, FRACTIONAL or LABELMAP.
        rows: Pixels along a column; so ``columns`` along a row.
        full: MaximumFractionalValue of FRACTIONAL, else 1.
        background: The value of a label map that marks nothing.
        frame_of_reference: Empty where absent.
        series: The series that it is of.
        when: Content date and time, for order; empty where either is absent.
    """

    kind: str
    rows: int
    columns: int
    full: int
    background: int
    frame_of_reference: str
    series: tuple[str, ...]
    when: str
    segments: tuple[Segment, ...]
    frames: tuple[Frame, ...]
    _dataset: Dataset = field(compare=False)

    def pixels(self) -> Iterator[Shaped[np.ndarray, "row column"]]:
        """Yield the stored values of every frame, in the file's order.

        Raises:
            MaskRefused: ``damaged-mask``, if they cannot be decoded, or are more or fewer than told.
        """
        source = _frames_of(self._dataset, len(self.frames))
        for _ in self.frames:
            with _guarded("its pixels"):
                frame = next(source)
            if frame.shape != (self.rows, self.columns):
                raise MaskRefused(MaskFault.DAMAGED, "a frame is not of the rows and columns told")
            yield frame


def read_seg(path: Path, pseudonyms: Digests) -> SegFile:
    """Read a segmentation's header and keep its pixels for later.

    Raises:
        MaskRefused: The file is absent, damaged, no segmentation, contours, tiled, or compressed with loss.
    """
    if not path.is_file():
        raise MaskRefused(MaskFault.MISSING)
    with _guarded("reading"):
        dataset = _read(path)
        kind_of_file = str(dataset.get("SOPClassUID", ""))
    if kind_of_file == uid.RTStructureSetStorage:
        raise MaskRefused(MaskFault.RTSTRUCT)
    if kind_of_file not in (SEG, LABEL_MAP_SEG):
        raise MaskRefused(MaskFault.NOT_A_MASK)
    with _guarded("its header"):
        _check_coding(dataset)
        return _facts(dataset, pseudonyms)


def _read(path: Path) -> Dataset:
    """Read a whole file; of a deflated one no more than a mask can have: few bytes may stand for many."""
    try:
        with open_header(path, inflate=LARGEST_HEADER + MOST_VOXELS) as header:
            header.file.seek(0)
            return dcmread(header.file, force=True)
    except UnfitFileError as unfit:
        code = unfit.code
    fault = {"unreadable": MaskFault.MISSING, "damaged": MaskFault.DAMAGED}.get(code, MaskFault.NOT_A_MASK)
    raise MaskRefused(fault)


def _check_coding(dataset: Dataset) -> None:
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax in _LOSSY:
        raise MaskRefused(MaskFault.LOSSY)
    if syntax not in _NATIVE | _LOSSLESS:
        raise MaskRefused(MaskFault.SYNTAX)
    if "SharedFunctionalGroupsSequence" in dataset and "PerFrameFunctionalGroupsSequence" not in dataset:
        raise MaskRefused(MaskFault.TILED)


def _facts(dataset: Dataset, pseudonyms: Digests) -> SegFile:
    kind = str(dataset.SegmentationType)
    bits, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    _sound(kind in _TYPES and bits in _TYPES[kind], "segmentation type and bits do not go together")
    _sound(
        1 <= stored <= bits and int(dataset.get("PixelRepresentation", 0)) == 0,
        "bits stored or signed values",
    )
    _sound(int(dataset.SamplesPerPixel) == 1, "more than one sample a pixel")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    _sound(rows > 0 and columns > 0, "no rows or columns")
    full = int(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 1
    _sound(1 <= full <= 255, "MaximumFractionalValue is not 1 to 255")
    frame_of_reference = text_of(dataset, "FrameOfReferenceUID")
    return SegFile(
        kind=kind,
        rows=rows,
        columns=columns,
        full=full,
        background=int(dataset.get("PixelPaddingValue", 0)),
        frame_of_reference=pseudonyms.of(FRAME_OF_REFERENCE, frame_of_reference)
        if frame_of_reference
        else "",
        series=tuple(
            pseudonyms.of(SERIES, text_of(one, "SeriesInstanceUID"))
            for one in dataset.get("ReferencedSeriesSequence", None) or ()
        ),
        when=_when(dataset),
        segments=_segments(dataset),
        frames=_frames(dataset, kind),
        _dataset=dataset,
    )


def _sound(holds: bool, what: str) -> None:
    if not holds:
        raise MaskRefused(MaskFault.DAMAGED, what)


def _when(dataset: Dataset) -> str:
    date, time = str(dataset.get("ContentDate", "") or ""), str(dataset.get("ContentTime", "") or "")
    return date + time if date and time and _WHEN.fullmatch(date + time) else ""


def _segments(dataset: Dataset) -> tuple[Segment, ...]:
    found = []
    for item in dataset.get("SegmentSequence", None) or ():
        label = str(item.get("SegmentLabel", "") or "")
        types = list(item.get("SegmentedPropertyTypeCodeSequence", None) or ())
        found.append(Segment(int(item.SegmentNumber), label, _code(types[0]) if types else ("", "")))
    _sound(len({one.number for one in found}) == len(found), "two segments of one number")
    return tuple(found)


def _code(item: Dataset) -> tuple[str, str]:
    values = (item.get(name, None) for name in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    return str(item.get("CodingSchemeDesignator", "") or ""), str(next(filter(None, values), ""))


def _frames(dataset: Dataset, kind: str) -> tuple[Frame, ...]:
    """Return every frame's segment and place: from its own functional groups, else from the shared ones."""
    own = dataset.PerFrameFunctionalGroupsSequence
    shared = dataset.get("SharedFunctionalGroupsSequence", None) or [Dataset()]
    told = int(dataset.get("NumberOfFrames", 1) or 1)
    _sound(len(own) == told, f"{told} frames are told, {len(own)} described")
    _sound(len(shared) == 1, "not one item of shared functional groups")
    frames = []
    for groups in own:

        def first(name: str, groups: Dataset = groups) -> Dataset:
            return (groups.get(name, None) or shared[0][name].value)[0]

        measures = first("PixelMeasuresSequence")
        plane = Plane(
            position=_numbers(first("PlanePositionSequence").ImagePositionPatient, 3),
            orientation=_numbers(first("PlaneOrientationSequence").ImageOrientationPatient, 6),
            spacing=_numbers(measures.PixelSpacing, 2),
        )
        by_frame = kind != "LABELMAP"
        number = int(first("SegmentIdentificationSequence").ReferencedSegmentNumber) if by_frame else None
        frames.append(Frame(number, plane))
    return tuple(frames)


def _numbers(values: object, count: int) -> tuple[float, ...]:
    numbers = tuple(float(one) for one in values)  # pyright: ignore[reportGeneralTypeIssues]
    _sound(
        len(numbers) == count and all(map(math.isfinite, numbers)), f"not {count} finite numbers of geometry"
    )
    return numbers


def _frames_of(dataset: Dataset, count: int) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Decode one frame after the other; uncompressed data must be as long as told, to the byte."""
    rows, columns, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _NATIVE:
        expected, got = math.ceil(count * rows * columns * bits / 8), len(dataset.PixelData)
        _sound(got in (expected, expected + expected % 2), f"{got} bytes of pixels, {expected} are told")
    if syntax in _NATIVE and bits == 1:
        yield from _unpacked(dataset.PixelData, count, rows=rows, columns=columns)
        return
    decoded = get_decoder(syntax).iter_array(dataset, raw=True)
    for frame, _ in decoded:
        yield frame
    raise MaskRefused(MaskFault.DAMAGED, "fewer frames than told")


def _unpacked(
    data: bytes, count: int, *, rows: int, columns: int
) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Unpack bits: frames follow one another without a gap, so one may start within a byte.

    pydicom 3.0.2 cuts a frame that starts late in a byte and ends early in another, so this is done here.
    """
    size, packed = rows * columns, np.frombuffer(data, np.uint8)
    for index in range(count):
        start, skip = divmod(index * size, 8)
        window = packed[start : start + math.ceil((skip + size) / 8)]
        yield np.unpackbits(window, bitorder="little")[skip : skip + size].reshape(rows, columns)


@contextmanager
def _guarded(doing: str) -> Iterator[None]:
    """Let a refusal pass, and turn whatever a library raises into one that names the fault's type alone."""
    kind = ""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    for level in ("Debug", "Warning", "Error"):
        getattr(_gdcm.Trace, f"{level}Off")()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MaskRefused:
        raise
    except Exception as fault:  # pydicom and its decoders raise anything, with values in the text
        kind = type(fault).__name__
    finally:
        logger.disabled = before
    if kind:
        raise MaskRefused(MaskFault.DAMAGED, f"{kind} at {doing}") from None
