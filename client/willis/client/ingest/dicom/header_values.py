"""Values of a header by keyword: from the data set, or from functional groups of an enhanced one."""

import math
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.header_text import plain_text, text_of

MODALITIES = frozenset({"MR", "CT", "SEG", "RTSTRUCT", "PT", "US", "CR", "DX", "XA", "SC", "OT", "SR", "PR"})
SEQUENCE_CODES = frozenset({"SE", "IR", "GR", "EP", "RM"})
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "TemporalPositionIdentifier": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}
_PHASES = {
    "M": "M", "P": "P", "R": "R", "I": "I", "MAGNITUDE": "M", "PHASE": "P", "REAL": "R", "IMAGINARY": "I",
}  # fmt: skip
_SECONDARY_CAPTURES = frozenset(
    {
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
_LARGEST = 2**31
_SAVED_SCREENS = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN SHOT", "CAPTURE"})


class Values:
    """Numbers of a header; one that is told but is no finite number is a fault ``no-number-KEYWORD``.

    Attributes:
        faults: Of what was asked until now.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._frames = [
            item
            for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
            if (item := _first(dataset, keyword)) is not None
        ]
        self.faults: list[str] = []

    def text(self, keyword: str) -> str:
        """Return an attribute of the data set itself as text, "" where absent."""
        return text_of(self._dataset, keyword)

    def numbers(self, keyword: str, length: int) -> tuple[Any, ...] | None:
        """Return exactly so many finite numbers, or None; anything else that is told is a fault."""
        told = self._told(keyword)
        if not told:
            return None
        try:
            numbers = tuple(float(one) for one in told.split("\\"))
        except ValueError:
            numbers = ()
        if len(numbers) != length or not all(map(math.isfinite, numbers)):
            self.faults.append(f"no-number-{keyword}")
            return None
        return numbers

    def number(self, *keywords: str, strict: bool = True) -> float | None:
        """Return the first of the attributes that is there, as a finite number.

        Args:
            keywords: In the order in which they are looked for.
            strict: Whether one that is no number is a fault.
        """
        for keyword in keywords:
            known = len(self.faults)
            found = self.numbers(keyword, 1)
            if not strict:
                del self.faults[known:]
            if found is not None:
                return found[0]
        return None

    def integer(self, keyword: str, *, default: int = 0, strict: bool = True) -> int:
        """Return a whole number below 2**31, ``default`` where absent; otherwise as :meth:`number`."""
        told = self.number(keyword, strict=strict)
        if told is None:
            return default
        if not (told == int(told) and abs(told) < _LARGEST):
            if strict:
                self.faults.append(f"no-number-{keyword}")
            return default
        return int(told)

    def _told(self, keyword: str) -> str:
        places = [self._dataset]
        if keyword in _GROUPS:
            places += [one for frame in self._frames if (one := _first(frame, _GROUPS[keyword])) is not None]
        for place in places:
            told = self._text_or_fault(place, keyword)
            if told:
                return told
        return ""

    def _text_or_fault(self, place: Dataset, keyword: str) -> str:
        plain = plain_text(place, keyword)
        if plain is not None:
            return plain
        try:
            element = place.get_item(keyword)
            if element is None:
                return ""
            element = place[keyword]
            if element.value is None:
                return ""
        except Exception:  # the parser's complaint may quote the value; it is told by its keyword alone
            return "unreadable"
        return text_of(place, keyword)


def phase_of(image_type: tuple[str, ...], component: str) -> str:
    """Return M, P, R or I: of a complex image's part, "" where not told."""
    told = (component.upper(), *image_type[2:])
    return next((_PHASES[one] for one in told if one in _PHASES), "")


def image_type_faults(image_type: tuple[str, ...], sop_class: str, *, converted: bool) -> list[str]:
    """Say which pictures are no slices of a volume: localizers, projections, screens saved or converted."""
    faults = []
    if "LOCALIZER" in image_type:
        faults.append("localizer")
    if any("PROJECTION" in one or one in ("MIP", "MINIP", "MNIP", "MIP_SPLIT") for one in image_type):
        faults.append("projection")
    saved = any(one in _SAVED_SCREENS for one in image_type)
    if saved or converted or sop_class in _SECONDARY_CAPTURES:
        faults.append("secondary-capture")
    return faults


def _first(dataset: Dataset, keyword: str) -> Dataset | None:
    try:
        items = dataset.get(keyword)
        return items[0] if items else None
    except Exception:  # as above; what needs it finds nothing, and geometry that is not found is refused
        return None
