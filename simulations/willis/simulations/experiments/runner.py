"""Run an experiment into a folder of its own: table, figures, page; go on with one that was stopped."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from willis.shared.errors import CohortError, StateError
from willis.shared.lock import held_alone
from willis.shared.whole_file import make_folder, write_whole
from willis.simulations.benchmarks.report import machine
from willis.simulations.experiments.catalogue import EXPERIMENTS, experiment_of
from willis.simulations.experiments.experiment import NOT_COVERED, Experiment, Result, Setting
from willis.simulations.experiments.page import page_of
from willis.simulations.experiments.parts import seconds_of
from willis.simulations.experiments.table import as_csv, as_values

PAGE, CSV, JSON, CLAIM, LOCK = "index.html", "table.csv", "table.json", "experiment.json", "lock"
_HERE = Path(__file__).parent  # sizes lie beside the experiments


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        folder: With page, table, figures and parts.
        experiment: What was run.
        result: What it found.
        values: The content of ``table.json``.
    """

    folder: Path
    experiment: Experiment
    result: Result
    values: dict[str, Any]


def run_experiment(name: str, setting: Setting) -> Outcome:
    """Run an experiment, or go on with one that was stopped, and write its folder.

    Args:
        name: Of the experiment.
        setting: Where, on whom, at which size.

    Raises:
        StudyError: There is no such experiment.
        CohortError: A folder or a table of subjects is not there, or cannot be used.
        StateError: The folder holds something else.
    """
    experiment = experiment_of(name)
    _check_there(setting)
    _claim(name, setting)
    with held_alone(setting.folder / LOCK, f"{setting.folder} is being run already; wait for its end"):
        result = experiment.run(setting)
        return _written(experiment, result, setting)


def _written(experiment: Experiment, result: Result, setting: Setting) -> Outcome:
    took = seconds_of(setting.folder)
    about = machine() | {"willis": version("willis")}
    page = page_of(experiment, result, size=setting.size, machine=about, seconds=took)
    values = _values(experiment, result, setting) | {"machine": about, "seconds": took}
    for figure in result.figures:
        write_whole(setting.folder / f"{figure.name}.png", figure.png)
    write_whole(setting.folder / CSV, as_csv(experiment, result).encode())
    write_whole(setting.folder / JSON, json.dumps(values, indent=1, allow_nan=False).encode())
    write_whole(setting.folder / PAGE, page.encode())
    return Outcome(setting.folder, experiment, result, values)


def _values(experiment: Experiment, result: Result, setting: Setting) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "size": setting.size,
        "data": result.data,
        "seeds": list(result.seeds),
        "rows": as_values(result.rows),
        "more": {table.title: as_values(table.rows) for table in result.more},
        "paper": as_values(experiment.paper),
        "readings": list(result.readings),
        "scores": NOT_COVERED,
        "figures": [f"{figure.name}.png" for figure in result.figures],
    }


def _check_there(setting: Setting) -> None:
    if setting.data is not None and not setting.data.is_dir():
        raise CohortError(f"there is no folder of cohorts {setting.data}; name it by --data, or leave it out")
    for option, table in (("--cohort", setting.cohort), ("--second", setting.second)):
        if table is not None and not table.is_file():
            raise CohortError(f"there is no table {table}; name an existing one by {option}")
    if setting.second is not None and setting.cohort is None:
        raise CohortError("--second is a second cohort beside --cohort; name both")


def _claim(name: str, setting: Setting) -> None:
    """Write what the folder is for, or refuse one that is for something else; an empty start is no run."""
    mark = setting.folder / CLAIM
    wanted = {
        "experiment": name,
        "size": setting.size,
        "sizes": _digest(name),
        "data": _named(setting.data),
        "cohort": _named(setting.cohort),
        "second": _named(setting.second),
    }
    there = {path.name for path in setting.folder.iterdir()} if setting.folder.exists() else set()
    if mark.exists() and there - {CLAIM, LOCK}:
        held = json.loads(mark.read_text(encoding="utf-8"))
        other = [f"{key}: {held.get(key)}, now {one}" for key, one in wanted.items() if held.get(key) != one]
        if other:
            raise StateError(f"{setting.folder} holds another run; name another folder by --out", other)
        return
    if there - {CLAIM, LOCK}:
        raise StateError(f"{setting.folder} is not empty and holds no experiment; name another by --out")
    make_folder(setting.folder)
    write_whole(mark, json.dumps(wanted, indent=1).encode())


def _digest(name: str) -> str:
    """SHA-256 of the experiment's sizes: parts of other sizes are of another run."""
    sizes = _HERE / f"{EXPERIMENTS[name].rpartition('.')[2]}.toml"
    return hashlib.sha256(sizes.read_bytes()).hexdigest()


def _named(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
