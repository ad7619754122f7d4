"""Read one file's planes: decoded bit exact, rescaled, each with its place; classic and multi-frame alike."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from jaxtyping import Bool, Float32, Shaped
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from willis.client.ingest.dicom.header_file import LARGEST_HEADER, UnfitFileError, open_header, quiet
from willis.client.ingest.dicom.identity import Pseudonyms, text_of
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw, Plane

MOST_EXACT = 2**24  # float32 counts exactly up to here

_gdcm: Any = gdcm
_MARKED = frozenset(
    {uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless}
)  # code streams that tell where they end
_END = b"\xff\xd9"


@dataclass(frozen=True)
class Planes:
    """The planes of one file.

    Attributes:
        values: Stored values times slope plus intercept.
        padding: Where a value is none of the image's; None where the file names no such value.
        places: Of each plane.
        kind: What must be alike in all planes of a volume: echo, time, b-value and part of a complex number.
    """

    values: Float32[np.ndarray, "plane row column"]
    padding: Bool[np.ndarray, "plane row column"] | None
    places: tuple[Plane, ...]
    kind: tuple


class _Unfit(Exception):
    """A file that gives no planes; carries the flaw."""

    def __init__(self, code: str, sentence: str) -> None:
        self.flaw = Flaw(code, sentence)
        super().__init__(code)


def read_planes(path: Path, told: Instance, pseudonyms: Pseudonyms | None = None) -> Planes | Flaw:
    """Read and decode one file.

    Returns:
        Its planes, or why there are none; no word of a library, which may quote the header, is passed on.

    Args:
        told: What the index says of the file; rows, columns and frames must still be so.
        pseudonyms: By which the index names instances; the file must still be the same one's.
    """
    with _hushed():
        try:
            return _planes(_opened(path, told, pseudonyms), told)
        except _Unfit as unfit:
            return unfit.flaw
        except Exception as fault:  # pydicom, gdcm and numpy raise anything on damaged bytes
            if isinstance(fault, UnfitFileError) and fault.code == "unreadable":
                return Flaw("file-gone", "a file of it cannot be opened any more; scan the export again")
            name = type(fault).__name__
            return Flaw(
                "undecodable", f"pixel data or frames cannot be decoded ({name}); export the series again"
            )


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep libraries from printing what a header holds."""
    for level in ("Debug", "Warning", "Error"):
        getattr(_gdcm.Trace, f"{level}Off")()
    with quiet():
        yield


def _opened(path: Path, told: Instance, pseudonyms: Pseudonyms | None) -> Dataset:
    inflated = LARGEST_HEADER + 8 * max(1, told.rows * told.columns * told.frames)
    with open_header(path, inflate=inflated) as header:
        header.file.seek(0)
        item = dcmread(header.file, force=True)
    if "TransferSyntaxUID" not in item.file_meta:
        item.file_meta.TransferSyntaxUID = uid.UID(told.syntax or uid.ImplicitVRLittleEndian)
    grid = (int(item.Rows), int(item.Columns), int(item.get("NumberOfFrames") or 1))
    another = pseudonyms is not None and pseudonyms.of("uid", text_of(item, "SOPInstanceUID")) != told.uid
    if another or grid != (told.rows, told.columns, told.frames):
        raise _Unfit("changed", "a file of it changed since the scan; scan the export again")
    if item.get("SamplesPerPixel", 1) != 1 or item.get("PhotometricInterpretation") != "MONOCHROME2":
        text = (
            "its grey values run from white to black (MONOCHROME1), or are colours; export it as MONOCHROME2"
        )
        raise _Unfit("photometric", text)
    if "ModalityLUTSequence" in item:
        raise _Unfit("modality-table", "its values go through a table; export it with slope and intercept")
    return item


def _planes(item: Dataset, told: Instance) -> Planes:
    stored = _stored(item)
    groups = _groups(item, len(stored))
    lines = [_line(item, group) for group in groups]
    slopes = np.array([slope for slope, _ in lines], dtype=np.float64).reshape(-1, 1, 1)
    intercepts = np.array([intercept for _, intercept in lines], dtype=np.float64).reshape(-1, 1, 1)
    kinds = {_kind(item, group) for group in groups}
    if len(kinds) != 1:
        text = (
            f"{len(kinds)} kinds of frames (echo, time, b-value or phase) in one file; export each by itself"
        )
        raise _Unfit("mixed-frames", text)
    return Planes(
        values=(stored * slopes + intercepts).astype(np.float32),
        padding=_padding(item, stored),
        places=tuple(_place(item, group) for group in groups),
        kind=kinds.pop(),
    )


def _stored(item: Dataset) -> Shaped[np.ndarray, "plane row column"]:
    """Return the stored integers, refused where they cannot be what was stored."""
    syntax, shape = item.file_meta.TransferSyntaxUID, (int(item.Rows), int(item.Columns))
    n = int(item.get("NumberOfFrames") or 1)
    if syntax.is_compressed and not syntax.is_deflated:
        frames = list(generate_frames(item.PixelData, number_of_frames=n))
        ended = [frame.rstrip(b"\0").endswith(_END) for frame in frames]
        if len(frames) != n or (syntax in _MARKED and not all(ended)):
            raise _Unfit("truncated", "a compressed frame is not whole; export the series again")
    elif len(item.PixelData) < n * shape[0] * shape[1] * (item.BitsAllocated // 8):
        raise _Unfit("truncated", "it holds fewer pixels than rows times columns; export the series again")
    decoded = pixel_array(item, raw=True, correct_unused_bits=False).reshape(n, *shape)
    stored = _within_bits(decoded.astype(decoded.dtype.newbyteorder("=")), int(item.BitsStored))
    if stored is None or int(item.HighBit) != int(item.BitsStored) - 1:
        text = f"pixels do not fit in the {int(item.BitsStored)} bits they are said to have (an overlay?)"
        raise _Unfit("stray-bits", f"{text}; export the series again")
    if max(abs(int(stored.min())), abs(int(stored.max()))) > MOST_EXACT:
        raise _Unfit("too-deep", f"a stored value is beyond {MOST_EXACT}, which float32 cannot hold")
    return stored


def _within_bits(
    decoded: Shaped[np.ndarray, "plane row column"], bits: int
) -> Shaped[np.ndarray, "plane row column"] | None:
    """Return the values of the bits that count, signs carried on; None where the others hold something."""
    whole = decoded.dtype.itemsize * 8
    if not (decoded.dtype.kind in "iu" and 1 <= bits <= whole):
        return None
    extended = (decoded << (whole - bits)) >> (whole - bits)
    if np.array_equal(extended, decoded):
        return decoded
    bare = decoded.view(f"u{decoded.dtype.itemsize}") < 2**bits
    return extended if decoded.dtype.kind == "i" and bare.all() else None


def _padding(item: Dataset, stored: np.ndarray) -> np.ndarray | None:
    if "PixelPaddingValue" not in item:
        return None
    ends = (int(item.PixelPaddingValue), int(item.get("PixelPaddingRangeLimit", item.PixelPaddingValue)))
    return (stored >= min(ends)) & (stored <= max(ends))


def _groups(item: Dataset, n: int) -> list[tuple[Dataset, ...]]:
    """Return for each frame where its facts may stand: the frame's own groups, then the shared ones."""
    if "PerFrameFunctionalGroupsSequence" not in item:
        if n != 1 or "SharedFunctionalGroupsSequence" in item:
            raise _Unfit("frames-without-place", "its frames have no places; export it as classic MR or CT")
        return [()]
    frames, shared = item.PerFrameFunctionalGroupsSequence, item.get("SharedFunctionalGroupsSequence") or []
    if len(frames) != n or len(shared) > 1:
        raise _Unfit(
            "frames-without-place", f"{len(frames)} frames are described, {n} are stored; export it again"
        )
    return [(frame, *shared) for frame in frames]


def _fact(item: Dataset, groups: tuple[Dataset, ...], *, sequence: str, keyword: str) -> Any:
    """Return a fact of a frame, or of a classic file; None where it is absent or empty."""
    if not groups:
        return item.get(keyword)
    for group in groups:
        inner = group.get(sequence)
        if inner and inner[0].get(keyword) is not None:
            return inner[0].get(keyword)
    return None


def _place(item: Dataset, groups: tuple[Dataset, ...]) -> Plane:
    position = _fact(item, groups, sequence="PlanePositionSequence", keyword="ImagePositionPatient")
    orientation = _fact(item, groups, sequence="PlaneOrientationSequence", keyword="ImageOrientationPatient")
    spacing = _fact(item, groups, sequence="PixelMeasuresSequence", keyword="PixelSpacing")
    if position is None or orientation is None or spacing is None:
        raise _Unfit("no-geometry", "a frame lacks position, orientation or pixel spacing; export it again")
    x, y, z = (float(value) for value in position)
    rx, ry, rz, cx, cy, cz = (float(value) for value in orientation)
    between, along = (float(value) for value in spacing)
    return Plane((x, y, z), (rx, ry, rz, cx, cy, cz), (between, along))


def _line(item: Dataset, groups: tuple[Dataset, ...]) -> tuple[float, float]:
    """Return slope and intercept; 1 and 0 where the file has none."""
    where = "PixelValueTransformationSequence"
    slope = _fact(item, groups, sequence=where, keyword="RescaleSlope")
    intercept = _fact(item, groups, sequence=where, keyword="RescaleIntercept")
    line = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if not (math.isfinite(line[0]) and math.isfinite(line[1]) and line[0] > 0):
        raise _Unfit(
            "absurd-rescale", f"a slope must be above 0 and finite, got {line[0]:.4g}; export it again"
        )
    return line


def _kind(item: Dataset, groups: tuple[Dataset, ...]) -> tuple:
    """Return what must be alike in all frames of a volume; of classic files, ``stacks`` has seen to it."""
    if not groups:
        return ()
    asked = (
        ("MREchoSequence", "EffectiveEchoTime"),
        ("FrameContentSequence", "TemporalPositionIndex"),
        ("MRDiffusionSequence", "DiffusionBValue"),
        ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    )
    found = []
    for sequence, keyword in asked:
        value = _fact(item, groups, sequence=sequence, keyword=keyword)
        text = "" if value is None else str(value)
        try:
            found.append(round(float(text), 1) if text else None)
        except ValueError:
            found.append(text)
    return tuple(found)
