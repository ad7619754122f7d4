"""A cell of the bench: one data set, row, epsilon, unit and seed, and the study that it runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from willis.shared.errors import StudyError
from willis.shared.privacy import PrivacyUnit
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.simulations.benchmarks.use.grid import PUBLIC, UNPROTECTED, Epsilon, Grid, RowPlan, changed


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        data: Name of the data set.
        row: Name of the row.
        epsilon: Of the whole study; 0 for what meets no patient, infinity for what has no protection.
        unit: Whose privacy it is.
        seed: Of the study.
        real_subjects: Real subjects whose patches are trained on unprotected; 0 for the row's usual.
    """

    data: str
    row: str
    epsilon: float
    unit: PrivacyUnit
    seed: int
    real_subjects: int = 0

    @property
    def key(self) -> str:
        """Return the cell's name: also its folder's, below ``cells``."""
        real = f"+{self.real_subjects}-real" if self.real_subjects else ""
        return f"{self.data}/{self.row}{real}/eps-{self.epsilon:g}/{self.unit.value}/seed-{self.seed}"

    def without_real(self) -> "Cell":
        """Return the cell whose generator this one shares."""
        return Cell(self.data, self.row, self.epsilon, self.unit, self.seed)


def cells_of(grid: Grid, bases: dict[str, Study], *, only: Sequence[str] = ()) -> list[Cell]:
    """Return all cells, in the order of data sets, rows, epsilons and seeds.

    Args:
        grid: The grid.
        bases: Each data set's study; see :func:`base_changes`.
        only: Patterns of DATA/ROW, such as ``retina/*``; empty for all.

    Raises:
        StudyError: A pattern fits nothing.
    """
    names = [(data, row) for data in grid.data for row in grid.rows if _is_for(grid.rows[row], data)]
    lost = [some for some in only if not any(fnmatchcase(f"{data}/{row}", some) for data, row in names)]
    if lost:
        raise StudyError(
            f"no DATA/ROW of this grid is like {', '.join(lost)}; it has "
            + ", ".join(f"{data}/{row}" for data, row in names)
        )
    cells = []
    for data, row in names:
        if data in bases and (not only or any(fnmatchcase(f"{data}/{row}", some) for some in only)):
            cells += _of_row(grid, bases[data], data=data, row=row)
    # Cells that share another's generator come after all that make one.
    return sorted(cells, key=lambda cell: cell.real_subjects > 0)


def data_of(grid: Grid, *, only: Sequence[str] = ()) -> list[str]:
    """Return the data sets that cells are asked for."""
    return [
        data
        for data in grid.data
        if any(
            _is_for(plan, data) and (not only or any(fnmatchcase(f"{data}/{row}", some) for some in only))
            for row, plan in grid.rows.items()
        )
    ]


def study_of(grid: Grid, cell: Cell, base: Study) -> Study:
    """Return the study of a cell: the data set's, changed by the row, the epsilon and the seed.

    Raises:
        StudyError: The row's changes do not fit the study.
    """
    values = base.model_dump(mode="json")
    row = grid.rows[cell.row]
    for changes in (row.changes, row.on.get(cell.data, {})):
        values = changed(values, changes)
    values["seed"] = cell.seed
    if 0 < cell.epsilon < math.inf:
        values["privacy"]["epsilon"] = cell.epsilon
    return parse(values, Study, where=f"cell {cell.key}")


def _is_for(row: RowPlan, data: str) -> bool:
    return not row.data or data in row.data


def _of_row(grid: Grid, base: Study, *, data: str, row: str) -> list[Cell]:
    plan = grid.rows[row]
    numbers = plan.real_subjects if plan.kind == "real" and plan.real_subjects else (0, *plan.real_subjects)
    cells = []
    unit = study_of(grid, Cell(data, row, math.inf, PrivacyUnit.SUBJECT, base.seed), base).privacy.unit
    joined = [as_number(one) for one in plan.real_epsilons]
    seeds = plan.seeds or grid.data[data].seeds or grid.seeds
    for number in numbers:
        for epsilon in _epsilons(grid, plan):
            if number and joined and epsilon not in joined:
                continue
            cells += [Cell(data, row, epsilon, unit, seed, number) for seed in seeds]
    return cells


def _epsilons(grid: Grid, plan: RowPlan) -> tuple[float, ...]:
    if plan.kind in PUBLIC:
        return (0.0,)
    if plan.kind in UNPROTECTED:
        return (math.inf,)
    return tuple(as_number(one) for one in plan.epsilons or grid.epsilons)


def as_number(epsilon: Epsilon) -> float:
    """Return an epsilon as a number, infinity for ``"inf"``."""
    return math.inf if epsilon == "inf" else float(epsilon)
