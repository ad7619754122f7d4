"""Cells of several seeds made one row: means, intervals over subjects, differences on the same subjects.

Subjects are what is resampled: a subject's score is first averaged over the seeds of a row. Seeds' spread is
told beside it, never mixed into the interval.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from willis.shared.metrics.interval import bootstrap_interval, paired_difference_interval
from willis.shared.privacy import PrivacyUnit
from willis.simulations.benchmarks.use.cells import as_number
from willis.simulations.benchmarks.use.grid import Epsilon, Grid
from willis.simulations.benchmarks.use.results import Line, Privacy

_RESAMPLING = 1979


@dataclass(frozen=True)
class Difference:
    """Dice of one row minus another's on the same subjects, with its 95 % interval."""

    dice: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One row of the table: all seeds of a data set, row, epsilon and unit.

    Attributes:
        data: Name of the data set.
        row: Name of the row.
        label: For people.
        epsilon: 0 for what is public, ``"inf"`` for what is not private.
        unit: Whose privacy it is.
        real_subjects: Trained on unprotected, beside.
        privacy: See :class:`~willis.simulations.benchmarks.use.results.Line`.
        sentence: The privacy figure, complete.
        dice: Mean over subjects and seeds.
        interval: 95 % bootstrap interval over subjects.
        by_seed: Lowest and highest mean of a seed.
        hd95: Mean over seeds.
        hd95_unit: ``mm``, or ``pixels`` of pictures.
        cldice: Mean over seeds.
        seeds: How many.
        subjects: Tested on.
        training_subjects: Of all sites.
        share_of_real: Of the Dice of the row ``real`` on all subjects, 1 for equal; None where it is missing.
        over_prior: None where there is no prior row, or this is it.
        over_null: Against the row's own null; None where it has none.
        cpu_s: Mean processor seconds of a cell.
    """

    data: str
    row: str
    label: str
    epsilon: Epsilon
    unit: PrivacyUnit
    real_subjects: int
    privacy: Privacy
    sentence: str
    dice: float
    interval: tuple[float, float]
    by_seed: tuple[float, float]
    hd95: float
    hd95_unit: str
    cldice: float
    seeds: int
    subjects: int
    training_subjects: int
    share_of_real: float | None
    over_prior: Difference | None
    over_null: Difference | None
    cpu_s: float

    @property
    def curve(self) -> float:
        """Return epsilon as a number."""
        return as_number(self.epsilon)


def summarise(
    grid: Grid, lines: Sequence[Line], in_order: Mapping[str, Sequence[float]]
) -> tuple[Summary, ...]:
    """Return one summary for every data set, row, epsilon and unit, in the grid's order.

    Args:
        grid: Names, labels, nulls.
        lines: Results.
        in_order: Dice by subject, in the cohort's order, by the key of every line.

    Raises:
        ValueError: Cells of one data set were tested on different numbers of subjects.
    """
    groups: defaultdict[tuple, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.data, line.row, line.real_subjects, line.epsilon, line.unit].append(line)
    means = {key: np.mean([in_order[line.key] for line in group], axis=0) for key, group in groups.items()}
    order = {"data": list(grid.data), "row": list(grid.rows)}
    known = [key for key in groups if key[0] in order["data"] and key[1] in order["row"]]
    known.sort(
        key=lambda key: (
            order["data"].index(key[0]),
            order["row"].index(key[1]),
            key[2],
            as_number(key[3]),
            key[4].value,
        )
    )
    return tuple(_summary(grid, key, groups[key], means) for key in known)


def _summary(grid: Grid, key: tuple, group: list[Line], means: Mapping[tuple, np.ndarray]) -> Summary:
    data, row, real_subjects, epsilon, unit = key
    scores, plan = means[key], grid.rows[row]
    by_seed = [line.scores.dice for line in group]
    real, prior = (_control(grid, means, data, kind) for kind in ("real", "prior"))
    null = _row(means, data, plan.null) if plan.null else None
    label = plan.label + (
        f" + {real_subjects} real subjects" if real_subjects and plan.kind != "real" else ""
    )
    label += f", {real_subjects} subjects alone" if real_subjects and plan.kind == "real" else ""
    return Summary(
        data=data,
        row=row,
        label=label,
        epsilon=epsilon,
        unit=unit,
        real_subjects=real_subjects,
        privacy=group[0].privacy,
        sentence=max(group, key=lambda line: line.network.epsilon if line.network else 0.0).sentence(),
        dice=float(scores.mean()),
        interval=bootstrap_interval(scores.tolist(), rng=_dice()),
        by_seed=(min(by_seed), max(by_seed)),
        hd95=float(np.mean([line.scores.hd95 for line in group])),
        hd95_unit=group[0].scores.hd95_unit,
        cldice=float(np.mean([line.scores.cldice for line in group])),
        seeds=len(group),
        subjects=len(scores),
        training_subjects=group[0].training_subjects,
        share_of_real=None if real is None or real.mean() == 0 else float(scores.mean() / real.mean()),
        over_prior=None if plan.kind == "prior" else _difference(scores, prior),
        over_null=_difference(scores, null),
        cpu_s=float(np.mean([line.cpu_s for line in group])),
    )


def _control(grid: Grid, means: Mapping[tuple, np.ndarray], data: str, kind: str) -> np.ndarray | None:
    """Return the scores of the first row of a kind, all its subjects in it."""
    names = [name for name, plan in grid.rows.items() if plan.kind == kind]
    found = [_row(means, data, name) for name in names]
    return next((scores for scores in found if scores is not None), None)


def _row(means: Mapping[tuple, np.ndarray], data: str, row: str) -> np.ndarray | None:
    return next((scores for key, scores in means.items() if key[:3] == (data, row, 0)), None)


def _difference(scores: np.ndarray, other: np.ndarray | None) -> Difference | None:
    if other is None:
        return None
    interval = paired_difference_interval(scores.tolist(), other.tolist(), rng=_dice())
    return Difference(float(scores.mean() - other.mean()), interval)


def _dice() -> np.random.Generator:
    return np.random.default_rng(_RESAMPLING)
