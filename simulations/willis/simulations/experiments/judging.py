"""What training patches are worth: U-nets trained on them, tested on every cohort's subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from willis.client.cohort import Cohort
from willis.client.evaluation import SubjectScore, declare, load_cases, score_cases
from willis.shared.metrics.interval import paired_difference_interval
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.networks.build import choose_device, public_generator
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.segmenter import Segmenter, train_segmenter
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.simulations.experiments.experiment import Setting, Value
from willis.simulations.experiments.parts import kept_values

_FEWEST = 6  # subjects whose signs alone can reach 5 %: 2 ** -5 two-sided
_RESAMPLING = 1979  # public resamples of subjects, the same for every row


@dataclass(frozen=True)
class Judged:
    """Scores on one cohort.

    Attributes:
        scores: As declared: no order tells who is who.
        in_order: Dice by subject in the cohort's order, to pair rows; stays in the run's folder.
    """

    scores: SegmentationScores
    in_order: tuple[float, ...]

    def cells(self, cohort: str) -> dict[str, Value]:
        """Return the cells of a row: Dice with its interval, HD95 with its unit, empty predictions."""
        low, high = self.scores.dice_interval
        return {
            f"DSC, {cohort}": self.scores.dice,
            f"95 % over subjects, {cohort}": f"{low:.3f} to {high:.3f}",
            f"HD95 ({self.scores.hd95_unit}), {cohort}": self.scores.hd95,
            f"empty predictions, {cohort}": self.scores.n_empty_predictions,
        }


def trained_segmenters(
    patches: LabelledPatches, study: Study, *, seeds: Sequence[int], start: Segmenter | None = None
) -> list[Segmenter]:
    """Return a U-net for each seed; see :func:`~willis.shared.segmenter.train_segmenter`.

    Args:
        patches: To train on.
        study: Its ``use`` has steps, batch and width; its seed and the U-net's name the dice.
        seeds: Of the U-nets.
        start: To fine-tune from.
    """
    device = choose_device(study.training.device)
    return [
        train_segmenter(
            patches,
            study.patch,
            plan=study.use,
            generator=public_generator(study.seed, "segmenter", seed),
            device=device,
            start=start,
        )
        for seed in seeds
    ]


def score(name: str, segmenters: Sequence[Segmenter], test: Cohort, spec: PatchSpec) -> Judged:
    """Test U-nets on every subject of a cohort; a subject's score is the mean over U-nets.

    Raises:
        CohortError: A scan cannot be used.
    """
    found = [score_cases(segmenters, load_cases(subject, spec)) for subject in test.subjects]
    return _judged(name, found, n_seeds=len(segmenters))


def judged_part(
    setting: Setting, name: str, patches: LabelledPatches, study: Study, *, tests: Mapping[str, Cohort]
) -> dict[str, Judged]:
    """Return what patches are worth on every cohort, kept in the run's folder by name.

    Args:
        setting: Whose folder.
        name: Of the system.
        patches: That the system made.
        study: ``use.seeds`` U-nets are trained.
        tests: Who is tested on, by cohort.
    """

    def make() -> dict[str, dict]:
        setting.show.say(f"U-nets on {name}: {study.use.seeds} x {study.use.unet_steps} steps")
        segmenters = trained_segmenters(patches, study, seeds=range(study.use.seeds))
        return {cohort: packed(score(name, segmenters, test, study.patch)) for cohort, test in tests.items()}

    kept = kept_values(setting.folder, f"use/{name}", make)
    return {cohort: opened(values, where=setting.folder) for cohort, values in kept.items()}


def packed(judged: Judged) -> dict:
    """Return plain values."""
    return {"scores": judged.scores.model_dump(mode="json"), "in_order": list(judged.in_order)}


def opened(values: Mapping, *, where: Path) -> Judged:
    """Return what :func:`packed` was made of."""
    scores = parse(values["scores"], SegmentationScores, where=f"the parts in {where}")
    return Judged(scores, tuple(values["in_order"]))


def compared(first: str, one: Judged, second: str, other: Judged) -> str:
    """Say whether one row's Dice is above another's on one cohort; see :func:`compared_over`."""
    return compared_over(first, one.in_order, second, other.in_order)


def compared_over(first: str, one: Sequence[float], second: str, other: Sequence[float]) -> str:
    """Say whether one row's Dice is above another's: the mean difference over subjects, and its interval.

    Fewer than 6 subjects, all of the same sign, would not reach 5 % in a sign test, and a bootstrap over so
    few is too narrow: then it is told as a tendency.

    Args:
        first: Name of the one row.
        one: Its Dice by subject.
        second: Name of the other.
        other: Its Dice of the same subjects in the same order.
    """
    rng = np.random.default_rng(_RESAMPLING)
    low, high = paired_difference_interval(list(one), list(other), rng=rng)
    gap = float(np.mean(np.subtract(one, other)))
    verdict = "above" if low > 0 else "below" if high < 0 else "not told apart from"
    sure = "is" if len(one) >= _FEWEST or low <= 0 <= high else "tends to lie"
    return (
        f"{first} (DSC {np.mean(one):.3f}) {sure} {verdict} {second} ({np.mean(other):.3f}): difference "
        f"{gap:+.3f} ({low:+.3f} to {high:+.3f}) over {len(one)} subjects"
    )


def _judged(name: str, found: Sequence[SubjectScore], *, n_seeds: int) -> Judged:
    declared = declare(name, found, n_seeds=n_seeds, rng=np.random.default_rng(_RESAMPLING))
    return Judged(declared, tuple(one.dice for one in found))
