"""Which series of an export a site takes, and where their labels are: ``[intake]`` of ``site.toml``."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from willis.shared.settings import Settings

Sequence = Literal["SE", "IR", "GR", "EP", "RM"]
PLACES = ("patient", "study", "series", "series_number", "folder", "stem")


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as fault:
        raise ValueError(f"must be a regular expression: {fault}") from fault
    return text


def _rises(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"must be [least, most], got [{span[0]:g}, {span[1]:g}]")
    return span


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_is_pattern)]
Span = Annotated[tuple[float, float], AfterValidator(_rises)]


class SeriesRule(Settings):
    """Which series is a patient's image; what is not said does not matter.

    Attributes:
        modality: Of the image.
        description: Regular expression, capitals or not, searched in SeriesDescription, ProtocolName and
            SequenceName.
        without: The same; a series where it is found is left.
        sequence: ScanningSequence must have one of these codes.
        in_plane_mm: Least and most spacing of pixels.
        between_mm: Least and most distance of slices.
        slices: Least and most number of slices.
        several: Of several series of one study that fit: refuse them all, or take the one with the most
            slices, or the one with the highest series number.
    """

    modality: Literal["MR", "CT"] = "MR"
    description: Pattern | None = None
    without: Pattern | None = None
    sequence: tuple[Sequence, ...] = ()
    in_plane_mm: Span | None = None
    between_mm: Span | None = None
    slices: Span | None = None
    several: Literal["refuse", "most-slices", "last"] = "refuse"

    @property
    def patterns(self) -> tuple[str, ...]:
        """What is searched in a series' texts while it is scanned; the texts themselves are not kept."""
        return (self.description or "", self.without or r"(?!)")


class LabelRule(Settings):
    """Where the label of an image is.

    Attributes:
        source: DICOM segmentations in the export, NIfTI masks beside it, or segmentations alone, without
            images: a cohort of masks.
        segments: By label, or by code such as ``SCT:51114001``; none is all, as one foreground.
        pattern: Of a NIfTI mask's path, relative to the export, such as ``masks/{patient}.nii.gz``.
        several: Of several segmentations that fit one image: refuse them, or take the newest.
    """

    source: Literal["seg", "nifti", "masks-alone"] = "seg"
    segments: tuple[str, ...] = ()
    pattern: str | None = None
    several: Literal["refuse", "newest"] = "refuse"

    @field_validator("pattern")
    @classmethod
    def _places_are_known(cls, pattern: str | None) -> str | None:
        unknown = set(re.findall(r"\{([^}]*)\}", pattern or "")) - set(PLACES)
        if unknown:
            raise ValueError(f"has unknown places {sorted(unknown)}; known are {', '.join(PLACES)}")
        return pattern

    @model_validator(mode="after")
    def _pattern_where_it_is_used(self) -> "LabelRule":
        if (self.source == "nifti") != (self.pattern is not None):
            raise ValueError('source = "nifti" and pattern go together')
        if self.source == "nifti" and self.segments:
            raise ValueError(
                'segments are for source = "seg"; everything above 0 of a NIfTI mask is foreground'
            )
        return self


class IntakeRule(Settings):
    """How a site's exports become its cohort.

    Attributes:
        deid: ``require``: every file must say that it is de-identified, and be so; ``site-local``: it may
            name the patient, and stays at the site. In both the cohort holds pseudonyms alone.
        mapping: CSV with columns ``study, patient``: whose a study is where its PatientID is missing.
        least_slices: A series with fewer is refused.
        image: Which series.
        label: Where its label is.
    """

    deid: Literal["require", "site-local"] = "require"
    mapping: Path | None = None
    least_slices: int = Field(default=8, ge=1)
    image: SeriesRule = SeriesRule()
    label: LabelRule = LabelRule()

    def under(self, base: Path) -> "IntakeRule":
        """Return the rule with its relative path under a folder."""
        return self if self.mapping is None else self.model_copy(update={"mapping": base / self.mapping})
