"""A DICOM segmentation as the label of an image: on its very voxels, or refused."""

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from pydicom.sr.coding import Code

from willis.client.ingest.dicom.grid import Grid, plausible, refuse_comb, seat
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused
from willis.client.ingest.dicom.seg_file import Digests, SegFile, Segment, read_seg


def label_from_seg(
    path: Path, grid: Grid, *, segments: Sequence[str] = (), pseudonyms: Digests
) -> UInt8[np.ndarray, "i j k"]:
    """Return a segmentation as 0 and 1 on an image's voxels.

    Guarantees:
        The mask is of the image's series and frame of reference, and each of its pixels lies on a voxel
        (``grid.seat``): nothing is resampled. Chosen segments are joined, however they overlap. A fraction
        counts from half of MaximumFractionalValue on.

    Args:
        path: The file; any name.
        grid: The image's.
        segments: The rule's words, each a label (``Artery``; case and outer blanks do not count) or a code
            (``SCT:51114001``). None is every segment but background.
        pseudonyms: Of the key that the grid's digests were made with.

    Raises:
        MaskRefused: The mask is not fit; no text of the file is in the message.
    """
    return label_of_seg(read_seg(path, pseudonyms), grid, segments=segments)


def label_of_seg(seg: SegFile, grid: Grid, *, segments: Sequence[str] = ()) -> UInt8[np.ndarray, "i j k"]:
    """As :func:`label_from_seg`, of a file that was read."""
    _refuse_other_image(seg, grid)
    numbers = chosen(seg, segments)
    _refuse_unknown_numbers(seg)
    shown = [one.segment is None or one.segment in numbers for one in seg.frames]
    seats = [seat(one.plane, seg.rows, seg.columns, grid=grid) for one in seg.frames]
    states = [(one.segment, place) for one, place in zip(seg.frames, seats, strict=True)]
    if len(set(states)) < len(states):
        raise MaskRefused(MaskFault.REPEATED_FRAME)
    label, marking = grid.empty(), []
    for place, counts, frame in zip(seats, shown, seg.pixels(), strict=True):
        foreground = _foreground(frame, seg, numbers)
        if counts and foreground.any():
            place.mark(label, foreground)
            marking.append(place)
    refuse_comb(marking)
    return plausible(label)


def _refuse_other_image(seg: SegFile, grid: Grid) -> None:
    if not seg.series:
        raise MaskRefused(MaskFault.NO_SERIES)
    if grid.series not in seg.series:
        raise MaskRefused(MaskFault.OTHER_SERIES)
    if not seg.frame_of_reference or seg.frame_of_reference != grid.frame_of_reference:
        raise MaskRefused(MaskFault.OTHER_FRAME)


def chosen(seg: SegFile, words: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the segments that the rule's words choose; all but background without a word.

    Raises:
        MaskRefused: There is no segment, or a word fits none; the message counts them and names none.
    """
    described = [one for one in seg.segments if seg.kind != "LABELMAP" or one.number != seg.background]
    if not described:
        raise MaskRefused(MaskFault.NO_SEGMENT)
    numbers: set[int] = set()
    for word in words:
        fits = [one.number for one in described if _fits(one, word)]
        if not fits:
            raise MaskRefused(MaskFault.UNKNOWN_SEGMENT, f"{word!r} fits none of {len(described)} segments")
        numbers.update(fits)
    return frozenset(numbers if words else (one.number for one in described))


def _fits(segment: Segment, word: str) -> bool:
    scheme, _, value = word.strip().partition(":")
    if _plain(segment.label) == _plain(word):
        return True
    if not value or not all(segment.code):
        return False
    here, asked = segment.code, (scheme.strip(), value.strip())
    return here == asked or Code(here[1], here[0], "") == Code(asked[1], asked[0], "")  # SRT's is SCT's


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _refuse_unknown_numbers(seg: SegFile) -> None:
    """Refuse a frame of a segment that nobody described."""
    undescribed = {one.segment for one in seg.frames} - {one.number for one in seg.segments} - {None}
    if undescribed:
        raise MaskRefused(MaskFault.DAMAGED, f"{len(undescribed)} segments have frames and no description")


def _foreground(
    frame: Shaped[np.ndarray, "row column"], seg: SegFile, numbers: Collection[int]
) -> Bool[np.ndarray, "row column"]:
    """Return where a frame marks a chosen segment, refusing values that its kind cannot hold."""
    if seg.kind == "LABELMAP":
        known = {one.number for one in seg.segments} | {seg.background}
        if not set(np.unique(frame).tolist()) <= known:
            raise MaskRefused(MaskFault.DAMAGED, "a label map holds a value that no segment has")
        return np.isin(frame, sorted(numbers))
    if int(frame.max()) > seg.full:
        raise MaskRefused(
            MaskFault.DAMAGED, f"a {seg.kind} mask holds {int(frame.max())}, at most {seg.full} may be"
        )
    return frame.astype(np.int64) * 2 >= seg.full
