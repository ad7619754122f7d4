"""Two cohorts of labelled vessels: where the systems of Kossen train, and where they are taken to.

Public fundus photographs where their folder is at hand (healthy subjects first, subjects with a disease
second); a user's own two tables; else virtual patients of two scanners, who are nobody. Each cohort is
divided by subject before anything is trained; who is tested on is a matter of the plan's seed alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from willis.client.cohort import Cohort, read_cohort, split
from willis.client.evaluation_rows import check_apart
from willis.client.store import build_store
from willis.shared.errors import CohortError
from willis.shared.patch import LabelledPatches
from willis.shared.settings import Settings, parse
from willis.shared.study import Study, read_study
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.sizes import merged
from willis.simulations.hospitals import Survey, prepare, prepared
from willis.simulations.virtual_sites import make_cohort

FIRST, SECOND = "first", "second"
_FUNDUS = "retina_hrf_quarter"
_HEALTHY = "site-healthy"
_FUNDUS_STUDY = Path(__file__).parents[3] / "studies" / "retina.toml"
# For files of any kind: a picture's mean colour, a volume's only channel.
_ANY_FILE: Mapping[str, Any] = {"patch": {"channels": ["grey"]}}


class CohortPlan(Settings):
    """How cohorts are divided.

    Attributes:
        seed: Of the division and of the places of patches.
        first_held_out: Share of the first cohort that is tested on.
        second_held_out: The same of the second.
        virtual: Virtual patients who train in each cohort, where there are no others.
    """

    seed: int = Field(default=7, ge=0)
    first_held_out: float = Field(gt=0, lt=1)
    second_held_out: float = Field(gt=0, lt=1)
    virtual: int = Field(ge=2)


@dataclass(frozen=True, repr=False)
class Cohorts:
    """Both cohorts, ready.

    Attributes:
        first: Its subjects train the generators; its ``study`` is what systems change.
        second: Its subjects fine-tune.
        told: Who they are, for the reader.
    """

    first: DataSet
    second: DataSet
    told: str

    def tests(self) -> dict[str, Cohort]:
        """Return who is tested on, by cohort."""
        return {FIRST: self.first.test, SECOND: self.second.test}

    def held_out_patches(self) -> LabelledPatches:
        """Return all patches of the first cohort's subjects who are tested on, shuffled."""
        study = self.first.study
        store = build_store(self.first.test, study.patch, self.first.folder / "held-out", seed=study.seed)
        return store.sample(store.n_patches, np.random.default_rng(study.seed))


def open_cohorts(setting: Setting, base: Mapping[str, Any], plan: CohortPlan) -> Cohorts:
    """Find both cohorts, divide them, and cut their patches; what was cut before is taken as it is.

    Args:
        setting: Whose tables, or where the public ones are.
        base: A study as nested values, without sites; what the files need is put into its ``patch``.
        plan: How to divide.

    Raises:
        CohortError: A table is missing or cannot be used, one subject is in both, or one table comes alone.
    """
    first, second, changes, origin = _found(setting, base, plan)
    check_apart(first, second)
    sets = [
        _prepared(setting, merged(dict(base), dict(changes)), name, cohort, held_out=share, seed=plan.seed)
        for name, cohort, share in (
            (FIRST, first, plan.first_held_out),
            (SECOND, second, plan.second_held_out),
        )
    ]
    counts = "; ".join(
        f"{one.name} cohort: {one.study.federation.sites[0].subjects} train, {len(one.test)} are tested on"
        for one in sets
    )
    return Cohorts(*sets, told=f"{origin}. {counts}")


def _found(
    setting: Setting, base: Mapping[str, Any], plan: CohortPlan
) -> tuple[Cohort, Cohort, Mapping[str, Any], str]:
    if setting.cohort is not None:
        if setting.second is None:
            raise CohortError("this protocol has a second cohort; name its table by --second beside --cohort")
        both = (read_cohort(setting.cohort), read_cohort(setting.second))
        return *both, _ANY_FILE, f"Subjects of {setting.cohort.name} and of {setting.second.name}"
    if setting.data is not None:
        return _fundus(setting.data / _FUNDUS / "cohort.csv")
    return *_virtual(setting, base, plan), {}, "VIRTUAL patients of two made-up scanners; nobody real"


def _fundus(table: Path) -> tuple[Cohort, Cohort, Mapping[str, Any], str]:
    if not table.is_file():
        raise CohortError(
            f"there is no table {table}; name the folder of the public cohorts by --data, or leave --data "
            "and WILLIS_DATA out for virtual patients"
        )
    everybody = read_cohort(table)
    study = read_study(_FUNDUS_STUDY)
    changes = {
        "patch": {"channels": ["green"], "invert": True},
        "prior": study.prior.model_dump(mode="json"),
    }
    second = Cohort(tuple(one for one in everybody.subjects if one.site != _HEALTHY))
    told = (
        "Real subjects, fundus photographs (HRF, quarter size): first healthy, second glaucoma and diabetic"
    )
    return everybody.at(_HEALTHY), second, changes, told


def _virtual(setting: Setting, base: Mapping[str, Any], plan: CohortPlan) -> tuple[Cohort, Cohort]:
    folder = setting.folder / "virtual"
    table = folder / "cohort.csv"
    if not table.exists():
        sites = {FIRST: plan.virtual, SECOND: plan.virtual}
        study = _study(base, sites, held_out=plan.second_held_out, seed=plan.seed)
        with setting.show.task("drawing virtual patients") as advance:
            make_cohort(study, list(sites), folder=folder, progress=advance)
    everybody = read_cohort(table)
    return everybody.at(FIRST), everybody.at(SECOND)


def _prepared(
    setting: Setting, base: Mapping[str, Any], name: str, cohort: Cohort, *, held_out: float, seed: int
) -> DataSet:
    """Bring one cohort to one site of its own name; its study declares as many subjects as train."""
    cohort = Cohort(tuple(replace(subject, site=name) for subject in cohort.subjects))
    training, _ = split(cohort, held_out, seed=seed)
    study = _study(base, {name: len(training)}, held_out=held_out, seed=seed)
    folder = setting.folder / "cohorts" / name
    ready = prepared(study, folder) or prepare(study, folder, Survey(cohort, ()), show=setting.show)
    return DataSet(name, study, folder, ready.held_out)


def _study(base: Mapping[str, Any], sites: Mapping[str, int], *, held_out: float, seed: int) -> Study:
    federation = {
        "quorum": len(sites),
        "minimum_subjects": min(sites.values()),
        "sites": [{"name": name, "subjects": subjects} for name, subjects in sites.items()],
    }
    own = {"seed": seed, "federation": federation, "use": {"held_out": held_out}}
    return parse(merged(dict(base), own), Study, where="the experiment's study")
