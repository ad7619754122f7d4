"""Run the bench: data sets prepared once, cells in worker processes, a line for each, the page at the end.

It may be stopped at any point and run again: a cell that has its line is left alone, one that was being
trained goes on from its last round.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from willis.shared.errors import StateError
from willis.shared.whole_file import write_whole
from willis.simulations.benchmarks.report import machine
from willis.simulations.benchmarks.use.accounting_check import check_accounting
from willis.simulations.benchmarks.use.cells import Cell, cells_of, data_of, study_of
from willis.simulations.benchmarks.use.cohorts import DataSet, base_study, prepare_data
from willis.simulations.benchmarks.use.grid import Grid, read_grid
from willis.simulations.benchmarks.use.judging import judge
from willis.simulations.benchmarks.use.making import make
from willis.simulations.benchmarks.use.page import PAGE, TABLE, write_page
from willis.simulations.benchmarks.use.results import Line, add_line, mend, read_lines
from willis.simulations.progress import Show

RESULTS = "results.jsonl"
SUBJECTS = "subjects.json"


@dataclass(frozen=True)
class Outcome:
    """What a run of the bench leaves.

    Attributes:
        folder: With ``results.jsonl``, ``cells/``, ``use.md`` and ``use.html``.
        lines: Every result, those of earlier runs too.
        failed: Why, by the key of every cell that has no result.
    """

    folder: Path
    lines: tuple[Line, ...]
    failed: dict[str, str]


@dataclass(frozen=True)
class Job:
    """One cell, with all that a worker needs."""

    grid: Grid
    cell: Cell
    data: DataSet
    folder: Path


def run_use(
    grid_file: Path,
    *,
    out: Path,
    data: Path | None = None,
    only: Sequence[str] = (),
    page: Path | None = None,
    show: Show | None = None,
) -> Outcome:
    """Run every cell of a grid that has no result yet, check all accounts, write the page.

    Args:
        grid_file: The grid.
        out: Folder of results; an earlier run of the same grid in it is gone on with.
        data: Folder of the real cohorts; None takes the environment variable WILLIS_DATA.
        only: Patterns of DATA/ROW; empty for all.
        page: A second folder for table, page and results, such as ``docs/bench``.
        show: For progress.

    Raises:
        StateError: A result is of another study than the grid asks for, an epsilon does not follow from the
            ledgers (no page is written then), or a worker was killed.
        WillisError: A data set cannot be prepared.
    """
    show = show or Show(quiet=True)
    grid = read_grid(grid_file)
    out.mkdir(parents=True, exist_ok=True)
    bases = {name: base_study(grid, name, grid_file) for name in data_of(grid, only=only)}
    cells_of(grid, bases, only=only)  # what does not fit is refused before anything is written
    sets = {
        name: prepare_data(
            grid.data[name],
            study,
            name=name,
            folder=out / "data" / name,
            data=data,
            tested_on=grid.tested_on,
            show=show,
        )
        for name, study in bases.items()
    }
    cells = cells_of(grid, {name: ready.study for name, ready in sets.items()}, only=only)
    mend(out / RESULTS)
    jobs = [Job(grid, cell, sets[cell.data], out) for cell in _missing(grid, cells, sets, out)]
    failed = _run_all(jobs, workers=grid.workers, out=out, show=show)
    return _close(grid, out, failed, page=page)


def run_cell(job: Job) -> Line:
    """Run one cell in this process, on one thread; see :mod:`~willis.simulations.benchmarks.use.making`."""
    torch.set_num_threads(1)
    started, worked = time.monotonic(), time.process_time()
    row, cells = job.grid.rows[job.cell.row], job.folder / "cells"
    study = study_of(job.grid, job.cell, job.data.study)
    made = make(job.cell, row, study, data=job.data, cells=cells)
    trained = time.monotonic() - started
    judged = judge(job.cell.row, made, study, job.data)
    own = cells / job.cell.key
    own.mkdir(parents=True, exist_ok=True)
    write_whole(own / SUBJECTS, json.dumps(judged.in_order).encode())
    return Line(
        key=job.cell.key,
        data=job.cell.data,
        row=job.cell.row,
        kind=row.kind,
        epsilon="inf" if math.isinf(job.cell.epsilon) else job.cell.epsilon,
        unit=job.cell.unit,
        seed=job.cell.seed,
        real_subjects=job.cell.real_subjects,
        privacy=made.privacy,
        sites=made.spent,
        network=made.network,
        scores=judged.scores,
        tested_on=job.grid.tested_on,
        training_subjects=sum(site.subjects for site in job.data.study.federation.sites),
        study_digest=study.digest(),
        release=made.release,
        train_s=trained,
        wall_s=time.monotonic() - started,
        cpu_s=time.process_time() - worked,
        machine=machine(),
    )


def _missing(grid: Grid, cells: Sequence[Cell], sets: dict[str, DataSet], out: Path) -> list[Cell]:
    """Return the cells without a result; refuse results of other studies under the same names."""
    there = {line.key: line.study_digest for line in read_lines(out / RESULTS)}
    odd = [
        cell.key
        for cell in cells
        if there.get(cell.key, "") not in ("", study_of(grid, cell, sets[cell.data].study).digest())
    ]
    if odd:
        raise StateError(
            f"{out / RESULTS} holds results of other studies than this grid's; name another folder by --out, "
            "or remove these lines and their folders below cells/",
            odd,
        )
    return [cell for cell in cells if cell.key not in there]


def _run_all(jobs: Sequence[Job], *, workers: int, out: Path, show: Show) -> dict[str, str]:
    """Run cells, write a line for each; a cell that fails is told of, and the others go on."""
    failed: dict[str, str] = {}
    if not jobs:
        return failed
    with show.task(f"{len(jobs)} cells") as advance:
        advance(0, len(jobs))
        for done, (key, result) in enumerate(_ended(jobs, workers), start=1):
            try:
                line = result()
            except BrokenProcessPool as fault:
                raise StateError(
                    f"a worker was killed near {key} (out of memory?); run the bench again to go on"
                ) from fault
            except Exception as fault:  # hours of other cells must not fall with one
                failed[key] = f"{type(fault).__name__}: {fault}"
                show.say(f"{key}: FAILED, {failed[key]}")
            else:
                add_line(out / RESULTS, line)
                show.say(f"{key}: Dice {line.scores.dice:.3f} ({line.wall_s:.0f} s)")
            advance(done, len(jobs))
    return failed


def _ended(jobs: Sequence[Job], workers: int) -> Iterator[tuple[str, Callable[[], Line]]]:
    """Yield every cell as it ends: its key, and what gives its line or raises. One worker is this process."""
    if workers == 1:
        yield from ((job.cell.key, partial(run_cell, job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("forkserver"))
    try:
        waiting = {pool.submit(run_cell, job): job.cell.key for job in jobs}
        yield from ((waiting[future], future.result) for future in as_completed(waiting))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _close(grid: Grid, out: Path, failed: dict[str, str], *, page: Path | None) -> Outcome:
    faults = check_accounting(out)
    if faults:
        raise StateError("epsilons do not follow from the ledgers; no page is written", faults)
    lines = tuple(read_lines(out / RESULTS))
    if lines:
        in_order = {
            line.key: json.loads((out / "cells" / line.key / SUBJECTS).read_text("utf-8")) for line in lines
        }
        write_page(grid, lines, in_order, out=out, failed=failed)
        if page is not None:
            page.mkdir(parents=True, exist_ok=True)
            for name, kept in ((PAGE, PAGE), (TABLE, TABLE), (RESULTS, "use.jsonl")):
                shutil.copyfile(out / name, page / kept)
    return Outcome(out, lines, failed)
