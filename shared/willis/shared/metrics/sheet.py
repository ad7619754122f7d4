"""The file that declares an evaluation: ``scores.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from willis.shared.errors import StateError
from willis.shared.metrics.scores import PairedDifference, SegmentationScores
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings
from willis.shared.whole_file import write_whole

NOT_COVERED = (
    "These scores are statistics of real subjects. The privacy figure covers the generator and what is drawn "
    "from it, not these scores: nothing was paid for them."
)


class Evaluation(Settings):
    """What an evaluation found.

    Attributes:
        rows: One for each set of training patches.
        differences: Between rows, subject by subject.
    """

    rows: tuple[SegmentationScores, ...] = Field(min_length=1)
    differences: tuple[PairedDifference, ...] = ()

    def row(self, name: str) -> SegmentationScores:
        """Return one row; ``KeyError`` where there is none of that name."""
        return {row.name: row for row in self.rows}[name]


class SheetPrivacy(PrivacySpent):
    """What the release cost, in all and at every site.

    Attributes:
        per_site: By the site's name; empty where the release does not tell.
    """

    per_site: dict[str, PrivacySpent] = Field(default_factory=dict)


class ScoreSheet(Evaluation):
    """An evaluation beside what its release cost.

    Attributes:
        privacy: Of the release, not of the scores.
        covered_by_epsilon: Always false.
        note: What that means.
    """

    privacy: SheetPrivacy
    covered_by_epsilon: Literal[False] = False
    note: str = NOT_COVERED


def write_scores(
    path: Path,
    evaluation: Evaluation,
    *,
    privacy: PrivacySpent,
    per_site: Mapping[str, PrivacySpent] | None = None,
) -> ScoreSheet:
    """Write ``scores.json`` whole or not at all; an earlier file of that name stays until then.

    Args:
        path: The file.
        evaluation: Rows and differences.
        privacy: What the release cost.
        per_site: What it cost at every site.

    Returns:
        What was written.

    Raises:
        StateError: The file cannot be written.
    """
    sheet = ScoreSheet(
        rows=evaluation.rows,
        differences=evaluation.differences,
        privacy=SheetPrivacy(**privacy.model_dump(), per_site=dict(per_site or {})),
    )
    write_whole(path, (sheet.model_dump_json(indent=2) + "\n").encode())
    return sheet


def read_scores(path: Path) -> ScoreSheet:
    """Read ``scores.json``.

    Raises:
        StateError: The file is missing, or does not fit.
    """
    try:
        return ScoreSheet.model_validate_json(path.read_bytes())
    except OSError as fault:
        raise StateError(f"cannot read {path}: {type(fault).__name__}; evaluate the release first") from fault
    except ValueError as fault:
        raise StateError(f"{path} is no sheet of scores; evaluate the release again", [str(fault)]) from fault
