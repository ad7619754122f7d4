"""Transfer to a second cohort: fine-tuned with a few of its subjects, with and without pre-training.

Both ways see the same patches of the same subjects for the same number of steps, from the same dice; they
differ in the weights that they start from (Kossen 2021, their experiment on a second data set).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from willis.shared.segmenter import Segmenter
from willis.shared.study import Study
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.experiments.experiment import Row, Setting
from willis.simulations.experiments.figures import Curve
from willis.simulations.experiments.judging import Judged, opened, packed, score, trained_segmenters
from willis.simulations.experiments.parts import kept_values
from willis.simulations.experiments.vessel_cohorts import SECOND

WITH, WITHOUT = "pre-trained on synthetic", "no pre-training"


@dataclass(frozen=True)
class Transfer:
    """What a number of subjects of the second cohort gives.

    Attributes:
        subjects: How many fine-tune.
        with_start: Scores of the pre-trained U-nets.
        without: Scores of those that start from first weights.
    """

    subjects: int
    with_start: Judged
    without: Judged

    def rows(self) -> list[Row]:
        """Return both as rows."""
        what = f"{self.subjects} real subject{'s' if self.subjects > 1 else ''} of the second cohort"
        return [
            Row(f"{WITH}, {what}", {"privacy": "not private", **self.with_start.cells(SECOND)}),
            Row(f"{WITHOUT}, {what}", {"privacy": "not private", **self.without.cells(SECOND)}),
        ]


def transfer(
    setting: Setting,
    start: Callable[[], Segmenter],
    study: Study,
    *,
    second: DataSet,
    numbers: Sequence[int],
    draws: int,
    patches: int,
) -> list[Transfer]:
    """Fine-tune with some numbers of subjects; numbers that the cohort does not have are left out.

    Args:
        setting: Whose folder keeps the scores.
        start: Returns the pre-trained U-net; not called where every score is kept.
        study: Its ``use`` has the steps of fine-tuning.
        second: The second cohort; its held-out subjects are tested on.
        numbers: Of subjects.
        draws: For each number, so many times other subjects are drawn and both ways trained; a subject's
            score is the mean over draws.
        patches: To fine-tune with, drawn from the subjects drawn.
    """
    there = second.study.federation.sites[0].subjects
    found = []
    for number in (one for one in numbers if one <= there):

        def make(number: int = number) -> dict[str, dict]:
            setting.show.say(f"fine-tuning with {number} subjects, {draws} draws")
            return _both(start(), study, second=second, number=number, draws=draws, patches=patches)

        kept = kept_values(setting.folder, f"transfer/{number}", make)
        both = [opened(kept[way], where=setting.folder) for way in (WITH, WITHOUT)]
        found.append(Transfer(number, *both))
    return found


def transfer_curves(found: Sequence[Transfer]) -> list[Curve]:
    """Return Dice against the number of subjects, with and without pre-training."""
    return [
        Curve(label, tuple(_point(one.subjects, of(one)) for one in found))
        for label, of in ((WITH, lambda one: one.with_start), (WITHOUT, lambda one: one.without))
    ]


def _both(
    start: Segmenter, study: Study, *, second: DataSet, number: int, draws: int, patches: int
) -> dict[str, dict]:
    trained: dict[str, list[Segmenter]] = {WITH: [], WITHOUT: []}
    for draw in range(draws):
        few = second.real_patches(patches, seed=study.seed + draw, subjects=number)
        for way, first in ((WITH, start), (WITHOUT, None)):
            trained[way] += trained_segmenters(few, study, seeds=[draw], start=first)
    return {way: packed(score(way, some, second.test, study.patch)) for way, some in trained.items()}


def _point(number: int, judged: Judged) -> tuple[float, ...]:
    return (float(number), judged.scores.dice, *judged.scores.dice_interval)
