"""The one judge of all cells: the same U-net, the same steps, the same subjects; only the patches differ."""

from dataclasses import dataclass

import numpy as np
import torch

from willis.client.evaluation import declare, load_cases, score_cases
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.networks.build import public_generator
from willis.shared.segmenter import Segmenter, train_segmenter
from willis.shared.study import Study
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.benchmarks.use.making import Made

_CPU = torch.device("cpu")
_RESAMPLING = 1979  # public resamples of subjects, the same for every cell


@dataclass(frozen=True)
class Judged:
    """Scores of one cell.

    Attributes:
        scores: As declared: subjects sorted, no order tells who is who.
        in_order: Dice by subject in the cohort's order, to pair cells; stays beside the cell.
    """

    scores: SegmentationScores
    in_order: tuple[float, ...]


def judge(name: str, made: Made, study: Study, data: DataSet) -> Judged:
    """Train the cell's U-nets where it made patches, and test them on every subject tested on.

    Raises:
        ValueError: The cell made neither patches nor a U-net.
        CohortError: A scan cannot be used.
    """
    segmenters = _segmenters(made, study)
    scores = [score_cases(segmenters, load_cases(subject, study.patch)) for subject in data.test.subjects]
    rng = np.random.default_rng(_RESAMPLING)
    declared = declare(name, scores, n_seeds=len(segmenters), rng=rng)
    return Judged(declared, tuple(score.dice for score in scores))


def _segmenters(made: Made, study: Study) -> list[Segmenter]:
    if made.segmenter is not None:
        return [made.segmenter]
    if made.patches is None:
        raise ValueError("a cell must make patches or a U-net, got neither")
    return [
        train_segmenter(
            made.patches,
            study.patch,
            plan=study.use,
            generator=public_generator(study.seed, "segmenter", seed),
            device=_CPU,
        )
        for seed in range(study.use.seeds)
    ]
