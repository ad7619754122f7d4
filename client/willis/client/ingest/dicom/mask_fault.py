"""Why a mask cannot be the label of an image, in codes and sentences of ours: they hold no text of a file."""

from enum import StrEnum

from willis.shared.errors import CohortError


class MaskFault(StrEnum):
    """Why a mask is refused."""

    MISSING = "missing-mask"
    DAMAGED = "damaged-mask"
    NOT_A_MASK = "not-a-mask"
    RTSTRUCT = "rtstruct"
    NOT_NIFTI = "not-nifti"
    TILED = "tiled-mask"
    LOSSY = "lossy-label"
    SYNTAX = "unknown-syntax"
    NO_SERIES = "no-series"
    OTHER_SERIES = "other-series"
    OTHER_FRAME = "other-frame"
    OTHER_GRID = "other-grid"
    GAPS = "mask-with-gaps"
    REPEATED_FRAME = "repeated-frame"
    NO_SEGMENT = "no-segment"
    UNKNOWN_SEGMENT = "unknown-segment"
    NOT_FINITE = "not-finite-label"
    NOT_INTEGER = "not-integer-label"
    NEGATIVE = "negative-label"
    EMPTY = "empty-label"
    TOO_LARGE = "too-large-label"
    OUTSIDE_EXPORT = "outside-export"
    SEVERAL = "several-labels"
    SHARED = "shared-label"
    NAMED = "named-mask"
    NONE_FITS = "no-label-fits"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, in words of ours."""
        return _SENTENCES[self]


_SENTENCES = {
    MaskFault.MISSING: "there is no mask where the rule says; export it, or mend the rule's pattern",
    MaskFault.DAMAGED: "the mask's file is damaged or breaks its own standard; export it again",
    MaskFault.NOT_A_MASK: "the file is no DICOM segmentation; export it as SEG, or NIfTI beside the images",
    MaskFault.RTSTRUCT: (
        "contours (RTSTRUCT) are not read; convert them with `dcmrtstruct2nii` or `plastimatch convert` "
        "to NIfTI beside the images, or save them as DICOM SEG in 3D Slicer"
    ),
    MaskFault.NOT_NIFTI: "a mask beside the images must be NIfTI (.nii or .nii.gz); convert it",
    MaskFault.TILED: "the mask is one of tiles without a position each; export it plane by plane",
    MaskFault.LOSSY: "the mask was compressed with loss; export it uncompressed or lossless",
    MaskFault.SYNTAX: "the mask is in a transfer syntax that cannot be read here; export it uncompressed",
    MaskFault.NO_SERIES: "the mask names no series that it is of; export it with ReferencedSeriesSequence",
    MaskFault.OTHER_SERIES: "the mask is of another series than the image",
    MaskFault.OTHER_FRAME: "the mask lies in another frame of reference than the image",
    MaskFault.OTHER_GRID: "the mask lies on other voxels than the image; resample it to the image",
    MaskFault.GAPS: "the mask skips slices at a regular distance; fill the slices between, export it again",
    MaskFault.REPEATED_FRAME: "the mask holds a segment more than once in one plane; export one state of it",
    MaskFault.NO_SEGMENT: "the mask describes no segment; export it with at least one",
    MaskFault.UNKNOWN_SEGMENT: "the mask has no segment that the rule asks for; mend the rule's `segments`",
    MaskFault.NOT_FINITE: "the mask holds NaN or infinite values; export it again",
    MaskFault.NOT_INTEGER: "the mask's values are not integers; resample to the nearest, not between voxels",
    MaskFault.NEGATIVE: "the mask holds negative values; a label needs 0 for background and more",
    MaskFault.EMPTY: "no voxel of the mask is above 0; a subject without a finding cannot be used yet",
    MaskFault.TOO_LARGE: "more than half of the image is marked; is background the label, or is it inverted?",
    MaskFault.OUTSIDE_EXPORT: "the rule's pattern leads out of the export or through a link; mend it",
    MaskFault.SEVERAL: 'more than one mask fits the image; keep one, or say in the rule `several = "newest"`',
    MaskFault.SHARED: (
        "the rule's pattern names one mask for several images; put what tells them apart into the pattern"
    ),
    MaskFault.NAMED: (
        "the mask's header is not de-identified; de-identify it first, or agree on deid = 'site-local'"
    ),
    MaskFault.NONE_FITS: "none of the masks fits the image",
}


class MaskRefused(CohortError):
    """A mask cannot be the label of an image.

    Attributes:
        fault: Why.
        detail: Numbers that were found, in words of ours; empty where there are none.
    """

    def __init__(self, fault: MaskFault, detail: str = "") -> None:
        self.fault, self.detail = fault, detail
        super().__init__(f"{fault.sentence} ({detail})" if detail else fault.sentence)

    def __reduce__(self) -> tuple[type["MaskRefused"], tuple[MaskFault, str]]:
        """Travel between processes whole."""
        return MaskRefused, (self.fault, self.detail)
