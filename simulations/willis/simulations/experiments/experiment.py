"""What an experiment is: a paper's protocol that anyone can run and read, on the data that are at hand.

An experiment is told where it may work (:class:`Setting`) and answers with numbers, pictures and sentences
(:class:`Result`); the table, the page and the folder are made of these by whoever runs it
(:mod:`~willis.simulations.experiments.runner`). Work worth keeping is kept by name while it goes on
(:mod:`~willis.simulations.experiments.parts`), so that a killed run goes on where it was.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from willis.simulations.progress import Show

Size = Literal["tiny", "quick", "full"]
Value = float | int | str | None

NOT_COVERED = "Scores and distances are statistics of real subjects, not covered by epsilon."


@dataclass(frozen=True)
class Setting:
    """Where an experiment works, and on whom.

    Attributes:
        size: ``tiny`` to see that it runs (seconds), ``quick`` for the whole protocol at small size (4 to
            12 minutes on 2 cores), ``full`` (15 to 60 minutes of one core).
        data: Folder of the public cohorts (``retina_hrf_quarter`` and others); None where it is absent: then
            an experiment draws virtual patients, and says so.
        cohort: A table of the user's own subjects instead.
        second: A table of the user's second cohort.
        folder: The run's; parts are kept in it.
        show: For progress.
    """

    size: Size
    data: Path | None
    cohort: Path | None
    second: Path | None
    folder: Path
    show: Show


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        system: What was run.
        values: By the column's name, in the columns' order; None where a row has no such figure. A row with
            an epsilon names delta, unit and relation too (``PrivacySpent.sentence()``).
    """

    system: str
    values: Mapping[str, Value]

    def __post_init__(self) -> None:
        odd = [name for name, one in self.values.items() if isinstance(one, float) and not math.isfinite(one)]
        if odd:
            raise ValueError(
                f"a row's numbers must be finite, got {self.values[odd[0]]} for {odd[0]} of {self.system}; "
                "write None where there is no figure, or a word"
            )


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: Of its file, without ``.png``.
        title: Above it; also what a reader who cannot see it is told first.
        caption: What it shows, in a sentence.
        png: The file's content.
    """

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Table:
    """A table beside the main one.

    Attributes:
        title: Above it.
        rows: Of it.
    """

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    Attributes:
        rows: The main table.
        figures: Curves, and a grid of samples of every system.
        data: Which subjects, how many, where from.
        seeds: Of studies and U-nets.
        readings: What was to be shown, and whether it was, with the figures.
        more: Other tables, whose columns are others.
    """

    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]
    data: str
    seeds: tuple[int, ...]
    readings: tuple[str, ...]
    more: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A paper's protocol.

    Attributes:
        name: As ``willis experiment run`` takes it.
        title: Of the page.
        citation: Of the paper.
        did: What the paper did, a sentence each.
        paper: Its own figures, which are of other data.
        differences: How what is run here differs, a sentence each.
        own_data: How to run it on the paper's data.
        run: Runs it.
    """

    name: str
    title: str
    citation: str
    did: tuple[str, ...]
    paper: tuple[Row, ...]
    differences: tuple[str, ...]
    own_data: str
    run: Callable[[Setting], Result]
