"""What is declared about a row of an evaluation: means over subjects, their intervals, and no names."""

from typing import Literal

from pydantic import Field, model_validator

from willis.shared.settings import Settings


class SegmentationScores(Settings):
    """How well segmenters trained on one set of patches do on real subjects.

    Scores are means over subjects; a subject's score is the mean over its scans, then over seeds. They are
    statistics of real patients that no ledger paid for.

    Attributes:
        name: The row: what the segmenters were trained on.
        dice: In [0, 1]; an empty truth counts, see ``metrics.dice``.
        dice_interval: 95 % bootstrap interval of ``dice`` over subjects.
        hd95: See ``metrics.hd95``.
        hd95_unit: Of ``hd95``; pixels where the files tell no size of a pixel in mm, as pictures do not.
        cldice: In [0, 1], on hard skeletons.
        n_subjects: Real subjects tested on.
        n_empty_truths: Subjects with a scan that holds no foreground.
        n_empty_predictions: Subjects with a scan where a seed predicted no foreground at all.
        seeds: Segmenters trained.
        per_subject: Dice of every subject, highest first: the order tells no identity.
    """

    name: str = Field(min_length=1)
    dice: float = Field(ge=0, le=1)
    dice_interval: tuple[float, float]
    hd95: float = Field(ge=0)
    hd95_unit: Literal["mm", "pixels"]
    cldice: float = Field(ge=0, le=1)
    n_subjects: int = Field(ge=1)
    n_empty_truths: int = Field(ge=0)
    n_empty_predictions: int = Field(ge=0)
    seeds: int = Field(ge=1)
    per_subject: tuple[float, ...]

    @property
    def hd95_mm(self) -> float:
        """``hd95`` by its earlier name, in ``hd95_unit``; no longer in the JSON."""
        return self.hd95

    @model_validator(mode="before")
    @classmethod
    def _earlier_names(cls, values: object) -> object:
        """Read a sheet of 0.1.0: its ``hd95_mm`` was in pixels where ``spacing_known`` was false."""
        if not (isinstance(values, dict) and {"hd95_mm", "spacing_known"} <= values.keys()):
            return values
        unit = "mm" if values["spacing_known"] else "pixels"
        rest = {name: value for name, value in values.items() if name not in ("hd95_mm", "spacing_known")}
        return rest | {"hd95": values["hd95_mm"], "hd95_unit": unit}

    @model_validator(mode="after")
    def _sane(self) -> "SegmentationScores":
        low, high = self.dice_interval
        if not 0 <= low <= high <= 1:
            raise ValueError(f"dice_interval must rise within [0, 1], got {self.dice_interval}")
        if len(self.per_subject) != self.n_subjects:
            raise ValueError(f"per_subject must hold {self.n_subjects} scores, got {len(self.per_subject)}")
        if list(self.per_subject) != sorted(self.per_subject, reverse=True):
            raise ValueError("per_subject must fall: the cohort's order would tell who is who")
        return self


class PairedDifference(Settings):
    """One row's Dice minus another's, on the same subjects.

    Attributes:
        first: Row whose Dice is counted as it is.
        second: Row whose Dice is subtracted.
        dice: Mean over subjects of the difference.
        interval: 95 % bootstrap interval over subjects; a gain is shown where it lies above 0.
        n_subjects: Subjects in both.
    """

    first: str
    second: str
    dice: float = Field(ge=-1, le=1)
    interval: tuple[float, float]
    n_subjects: int = Field(ge=1)
