"""A data set of the bench, prepared once and shared by all of its cells.

Who is tested on is fixed by the study file alone (its own seed and share), before any row is looked at.
Phantoms are tested on a cohort of their own, the same for every number of training subjects.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from willis.client.cohort import Cohort, read_cohort, split
from willis.client.store import PatchStore, open_store
from willis.shared.errors import CohortError, StateError
from willis.shared.patch import LabelledPatches
from willis.shared.settings import parse
from willis.shared.study import Study, read_study
from willis.simulations.benchmarks.use.grid import DataPlan, Grid, TestedOn, changed
from willis.simulations.hospitals import Survey, prepare, prepared
from willis.simulations.progress import Show
from willis.simulations.virtual_sites import make_cohort

_DEVELOPMENT = 0.25  # share of a site's training subjects, where they stand in for those held out


@dataclass(frozen=True, repr=False)
class DataSet:
    """A data set, ready for every cell.

    Attributes:
        name: In the grid.
        study: The study that cells change.
        folder: With ``sites/NAME/patches`` for every site.
        test: Subjects that nothing but the judging sees.
    """

    name: str
    study: Study
    folder: Path
    test: Cohort

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the study's order."""
        return tuple(site.name for site in self.study.federation.sites)

    def store(self, site: str) -> PatchStore:
        """Open a site's patches."""
        return open_store(self.folder / "sites" / site / "patches")

    def real_patches(self, n: int, *, seed: int, subjects: int = 0) -> LabelledPatches:
        """Return n patches of the sites' training subjects, pooled without any protection.

        Args:
            n: How many, each equally likely.
            seed: Of which patches, their flips and which subjects.
            subjects: From so many subjects alone, drawn over all sites; 0 for all.

        Raises:
            ValueError: There are not so many subjects.
        """
        rng = np.random.default_rng([seed, subjects])
        stores = [self.store(site) for site in self.sites]
        everybody = [(store, index) for store in stores for index in range(store.n_subjects)]
        if not subjects <= len(everybody):
            raise ValueError(
                f"{subjects} real subjects are asked for, {self.name} has {len(everybody)} that train"
            )
        if subjects:
            picked = rng.choice(len(everybody), size=subjects, replace=False)
            everybody = [everybody[index] for index in picked]
        each = self.study.patch.per_subject
        chosen = rng.choice(len(everybody) * each, size=n, replace=n > len(everybody) * each)
        patches = []
        for flat in chosen:
            store, index = everybody[flat // each]
            patches.append(store.patch(index * each + int(flat % each), rng))
        return torch.stack(patches)


def base_study(grid: Grid, name: str, grid_file: Path) -> Study:
    """Return the study of a data set, before rows change it.

    Raises:
        StudyError: The study file is missing, or the grid's changes do not fit it.
    """
    plan = grid.data[name]
    values = read_study(grid_file.parent / plan.study).model_dump(mode="json")
    for changes in ({"use": grid.use}, plan.changes):
        values = changed(values, changes)
    if plan.virtual is not None:
        for site in values["federation"]["sites"]:
            site["subjects"] = plan.virtual
    return parse(values, Study, where=f"data set {name}")


def prepare_data(
    plan: DataPlan,
    study: Study,
    *,
    name: str,
    folder: Path,
    data: Path | None,
    tested_on: TestedOn,
    show: Show,
) -> DataSet:
    """Bring a data set to where cells can share it; what was prepared before is taken as it is.

    Args:
        plan: Where its subjects come from.
        study: Its :func:`base_study`.
        name: In the grid.
        folder: Its own; made where missing.
        data: Folder of the real cohorts; None where nobody named one.
        tested_on: Whom to test on.
        show: For progress.

    Returns:
        The data set; its study declares as many subjects as train.

    Raises:
        CohortError: The real cohort is not there, or cannot be used.
        StateError: The folder holds another data set.
    """
    told = f"{study.digest()} {tested_on}"
    _claim(folder, told)
    if plan.virtual is not None:
        hospitals = prepared(study, folder) or prepare(
            study, folder, Survey(Cohort(()), _names(study)), show=show
        )
        return DataSet(name, study, folder, _virtual_test(study, plan, folder / "test"))
    cohort = read_cohort(_table(plan, data, name))
    if tested_on == "development":
        cohort, _ = split(cohort, study.use.held_out, seed=study.seed)
        study = _changed(study, {"use": {"held_out": _DEVELOPMENT}})
    study = _declared(study, split(cohort, study.use.held_out, seed=study.seed)[0])
    hospitals = prepared(study, folder) or prepare(study, folder, Survey(cohort, ()), show=show)
    return DataSet(name, study, folder, hospitals.held_out)


def _table(plan: DataPlan, data: Path | None, name: str) -> Path:
    if data is None:
        data = Path(os.environ["WILLIS_DATA"]) if "WILLIS_DATA" in os.environ else None
    if data is None or plan.cohort is None:
        raise CohortError(
            f"data set {name} needs real subjects; name their folder by --data or WILLIS_DATA, or leave the "
            "data set out by --only"
        )
    return data / plan.cohort


def _claim(folder: Path, told: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "study.sha256"
    if mark.exists() and mark.read_text(encoding="utf-8").strip() != told:
        raise StateError(f"{folder} was prepared for another study or split; name another folder by --out")
    mark.write_text(told + "\n", encoding="utf-8")


def _declared(study: Study, training: Cohort) -> Study:
    sites = [
        site.model_dump(mode="json") | {"subjects": len(training.at(site.name))}
        for site in study.federation.sites
    ]
    return _changed(study, {"federation": {"sites": sites}})


def _changed(study: Study, changes: dict) -> Study:
    return parse(changed(study.model_dump(mode="json"), changes), Study, where=f"study {study.name}")


def _names(study: Study) -> Sequence[str]:
    return [site.name for site in study.federation.sites]


def _virtual_test(study: Study, plan: DataPlan, folder: Path) -> Cohort:
    """Return phantoms of the same scanners under another seed; what is there is not drawn again."""
    sites = [
        site.model_dump(mode="json") | {"subjects": plan.test_virtual} for site in study.federation.sites
    ]
    other = {"seed": study.seed + 1, "federation": {"sites": sites, "minimum_subjects": 1}}
    # make_cohort adds the share held out to what a site declares; here nobody is held out.
    drawn = _changed(study, changed(other, {"use": {"held_out": 1e-6}}))
    table = folder / "cohort.csv"
    if not table.exists():
        make_cohort(drawn, _names(study), folder=folder)
    return read_cohort(table)
