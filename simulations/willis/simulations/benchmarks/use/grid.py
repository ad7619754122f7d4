"""What the bench of use compares: a grid file of data sets, rows, epsilons and seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from willis.shared.errors import StudyError
from willis.shared.settings import Settings, read_toml, refuse
from willis.shared.study import Name

Kind = Literal[
    "real", "prior", "start", "null", "recipe", "non-private-gan", "private-unet", "private-finetune"
]
TestedOn = Literal["held-out", "development"]
Epsilon = float | Literal["inf"]

PUBLIC: frozenset[Kind] = frozenset({"prior", "start", "null"})  # they meet no patient: epsilon 0
UNPROTECTED: frozenset[Kind] = frozenset({"real", "non-private-gan"})  # they meet patients without noise
SHIPPED = ("quick", "short", "full")


class DataPlan(Settings):
    """One data set.

    Attributes:
        label: What the page calls it.
        study: Study file, relative to the grid file.
        cohort: Table of real subjects, relative to the folder of data sets; None for phantoms.
        virtual: For phantoms: subjects that train at every site of the study; None for a real cohort.
        test_virtual: For phantoms: subjects tested on, at every site; the same for every ``virtual``.
        family: Phantoms of one family make one curve against the number of subjects; empty for none.
        changes: Study keys that differ from the file, as nested tables.
        seeds: Instead of the grid's.
    """

    label: str = Field(min_length=1)
    study: str
    cohort: str | None = None
    virtual: int | None = Field(default=None, ge=2)
    test_virtual: int = Field(default=12, ge=1)
    family: str = ""
    changes: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> "DataPlan":
        if (self.cohort is None) == (self.virtual is None):
            raise ValueError(
                f"a data set has either a cohort or virtual subjects, "
                f"got cohort {self.cohort!r} and virtual {self.virtual}"
            )
        return self


class RowPlan(Settings):
    """One row: a way to training patches for the U-net, or to a U-net.

    Attributes:
        label: What the page calls it.
        kind: ``real`` patches; draws of the ``prior``; a recipe's ``start``, before any private sum; a
            recipe's ``null``, which learned from an answer without information; a ``recipe`` that learns;
            a ``non-private-gan``; a U-net trained by private gradients (``private-unet``), or from one that
            was trained on the prior (``private-finetune``).
        changes: Study keys of this row, as nested tables; a ``recipe`` table replaces the study's whole.
        on: More of them for one data set, by its name.
        data: Names of the data sets it is for; empty for all.
        epsilons: Instead of the grid's; only for kinds that spend.
        seeds: Instead of the data set's or the grid's.
        real_subjects: Numbers of real subjects: for kind ``real`` the row is trained on so many alone; for
            ``recipe`` half of its patches come from so many, unprotected. Empty: all, and none.
        real_epsilons: Epsilons at which a ``recipe`` is also joined by real subjects; empty for all.
        null: Name of the row that is its control without information.
        steps: Generator steps of ``non-private-gan``.
        learning_rate: Of ``private-unet`` and ``private-finetune``.
        trained: Layers of the U-net that these train, by the beginning of their names; empty for all.
    """

    label: str = Field(min_length=1)
    kind: Kind
    changes: dict[str, Any] = Field(default_factory=dict)
    on: dict[str, dict[str, Any]] = Field(default_factory=dict)
    data: tuple[str, ...] = ()
    epsilons: tuple[Epsilon, ...] = ()
    seeds: tuple[int, ...] = ()
    real_subjects: tuple[int, ...] = ()
    real_epsilons: tuple[Epsilon, ...] = ()
    null: str = ""
    steps: int = Field(default=600, ge=1, le=1_000_000)
    learning_rate: float = Field(default=3e-3, gt=0)
    trained: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sane(self) -> "RowPlan":
        faults = []
        if self.real_subjects and self.kind not in ("real", "recipe"):
            faults.append(f"real_subjects are for kinds real and recipe, got kind {self.kind}")
        if not all(number >= 1 for number in self.real_subjects):
            faults.append(f"real_subjects must be at least 1, got {self.real_subjects}")
        if self.epsilons and self.kind in PUBLIC | UNPROTECTED:
            faults.append(f"kind {self.kind} has no epsilon to choose, got {self.epsilons}")
        refuse([*faults, *_epsilon_faults(self.epsilons)])
        return self


class Grid(Settings):
    """All cells of a bench.

    Attributes:
        title: Of the page.
        tested_on: ``held-out``: the subjects that nobody designs or tunes on; ``development``: a quarter of
            the training subjects, which may be looked at as often as one likes.
        epsilons: Of every row that spends; ``"inf"`` is the same with the noise off: not private.
        seeds: Of the study, one cell each: draws, U-nets, phantoms' few real subjects. Noise has none.
        workers: Processes that train at the same time, one thread each.
        use: Keys of every study's ``[use]`` that differ from its file; the share held out stays the file's.
        data: Data sets by name.
        rows: Rows by name.
    """

    title: str = Field(min_length=1)
    tested_on: TestedOn
    epsilons: tuple[Epsilon, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    workers: int = Field(default=2, ge=1, le=256)
    use: dict[str, Any] = Field(default_factory=dict)
    data: dict[Name, DataPlan] = Field(min_length=1)
    rows: dict[Name, RowPlan] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "Grid":
        faults = _epsilon_faults(self.epsilons)
        if len(set(self.seeds)) < len(self.seeds) or not all(seed >= 0 for seed in self.seeds):
            faults.append(f"seeds must be different and at least 0, got {self.seeds}")
        if "held_out" in self.use:
            faults.append("use.held_out is each study's own: who is held out is fixed before any bench")
        for name, row in self.rows.items():
            faults += [
                f"rows.{name} names the data set {wanted!r}, known: {', '.join(self.data)}"
                for wanted in (*row.data, *row.on)
                if wanted not in self.data
            ]
            if row.null and (row.null not in self.rows or self.rows[row.null].kind != "null"):
                faults.append(f'rows.{name}.null must name a row of kind "null", got {row.null!r}')
        refuse(faults)
        return self


def read_grid(path: Path) -> Grid:
    """Read a grid.

    Raises:
        StudyError: With every fault and the path of its key.
    """
    return read_toml(path, Grid, error=StudyError)


def shipped_grid(name: str) -> Path:
    """Return the file of a shipped grid: ``quick``, ``short`` or ``full``.

    Raises:
        ValueError: There is no such grid.
    """
    if name not in SHIPPED:
        raise ValueError(f"unknown grid {name!r}; known: {', '.join(SHIPPED)}")
    return Path(__file__).with_name(f"{name}.toml")


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with changes in their place; a ``recipe`` is replaced whole, never mixed."""
    out = dict(values)
    for key, change in changes.items():
        nested = isinstance(change, Mapping) and isinstance(out.get(key), Mapping) and key != "recipe"
        out[key] = changed(out[key], change) if nested else change
    return out


def _epsilon_faults(epsilons: tuple[Epsilon, ...]) -> list[str]:
    if all(one == "inf" or one > 0 for one in epsilons) and len(set(epsilons)) == len(epsilons):
        return []
    return [f'epsilons must be different and each above 0, or "inf", got {epsilons}']
