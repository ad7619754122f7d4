"""The experiments that ``willis experiment`` knows; a module is imported when its experiment is run."""

from collections.abc import Mapping
from importlib import import_module

from willis.shared.errors import StudyError
from willis.simulations.experiments.experiment import Experiment

EXPERIMENTS: Mapping[str, str] = {
    "kossen2021": "willis.simulations.experiments.kossen2021",
    "kossen2022": "willis.simulations.experiments.kossen2022",
    "shin2018": "willis.simulations.experiments.shin2018",
    "platscher2021": "willis.simulations.experiments.platscher2021",
}


def experiment_of(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises:
        StudyError: There is none of this name.
    """
    if name not in EXPERIMENTS:
        raise StudyError(f"no experiment is called {name!r}; known are {', '.join(EXPERIMENTS)}")
    return import_module(EXPERIMENTS[name]).EXPERIMENT
