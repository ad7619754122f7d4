"""Platscher 2021: p(mask) by a generator of masks, p(image given mask) by three translators, joined.

Platscher M, Zopes J, Federau C. Image translation for medical image generation: ischemic stroke lesion
segmentation. Biomedical Signal Processing and Control 72 (2022) 103283.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.study import Study
from willis.simulations.experiments.experiment import Experiment, Figure, Result, Row, Setting, Value
from willis.simulations.experiments.figures import Curve, curves, sample_grid
from willis.simulations.experiments.judging import Judged, compared, judged_part
from willis.simulations.experiments.lesion_cohort_study import (
    HELD_OUT,
    OPEN,
    REAL_ONLY,
    LesionCohort,
    LesionPlan,
    federated_draws,
    odd_masks,
    open_lesions,
)
from willis.simulations.experiments.open_training import trained_part
from willis.simulations.experiments.parts import kept_arrays
from willis.simulations.experiments.platscher2021_paper import (
    CITATION,
    DID,
    DIFFERENCES,
    OWN_DATA,
    PAPER,
    TITLE,
)
from willis.simulations.experiments.sizes import read_size

_SIZES = Path(__file__).with_suffix(".toml")
_SHOWN = 16  # patches in a grid

TRANSLATORS = ("pix2pix", "spade", "cyclegan")
FEDERATED = "pix2pix trained federated, synthetic only"


class Plan(LesionPlan):
    """One size of the experiment.

    Attributes:
        numbers: Real subjects that train beside the database; all of them are a number of their own.
        system_rounds: Rounds of open training that differ, by translator.
    """

    numbers: tuple[int, ...]
    system_rounds: dict[str, int] = Field(default_factory=dict)


def run(setting: Setting) -> Result:
    """Run the experiment.

    Steps:
        1. Find the cohort, divide it by subject.
        2. Train each translator with a generator of maps on the training subjects, openly; draw a database.
        3. Train U-nets on a few, more, all real subjects: alone, and half of every set from each database.
        4. Train U-nets on each database alone.
        5. Train one translator at the sites at a subject-level epsilon, and a U-net on what it draws.
    """
    plan = read_size(_SIZES, setting.size, Plan)
    cohort = open_lesions(setting, plan, name="platscher2021", channels=("first",))
    base = cohort.data.study
    databases = {name: _database(setting, plan, cohort, name) for name in TRANSLATORS}
    private = cohort.study(plan.recipe("pix2pix", maps="gan"), plan.private)
    drawn, spent = federated_draws(setting, cohort, private, n=base.use.synthetic_pairs)
    sets = training_sets(cohort, databases, plan.numbers) | {FEDERATED: drawn}
    judged = {
        name: judged_part(setting, name, patches, base, tests=cohort.tests) for name, patches in sets.items()
    }
    told = {name: REAL_ONLY if name in _alone(plan.numbers) else OPEN for name in sets}
    told[FEDERATED] = spent.sentence()
    shown = {"real": sets[_real(0)], **databases, "federated": drawn}
    return Result(
        rows=tuple(_row(name, told[name], judged[name], sets[name]) for name in sets),
        figures=(_gain(judged, cohort, plan.numbers), *_grids(shown)),
        data=cohort.told,
        seeds=(plan.seed, *range(base.use.seeds)),
        readings=_readings(judged, plan.numbers, databases),
    )


def open_study(plan: Plan, cohort: LesionCohort, name: str) -> Study:
    """Return the study of one translator with its generator of maps."""
    return cohort.study(plan.recipe(name, maps="gan"))


def training_sets(
    cohort: LesionCohort, databases: Mapping[str, LabelledPatches], numbers: tuple[int, ...]
) -> dict[str, LabelledPatches]:
    """Return what U-nets train on, as many patches in every set.

    Args:
        cohort: Whose subjects.
        databases: By translator.
        numbers: Of real subjects; those above the cohort's are left out, all of them come last.
    """
    n = cohort.data.study.use.synthetic_pairs
    sets = {}
    for number in _numbers(numbers, cohort):
        real = cohort.data.real_patches(n, seed=cohort.data.study.seed, subjects=number)
        sets[_real(number)] = real
        for name, database in databases.items():
            sets[_with(number, name)] = torch.cat([database[: n // 2], real[: n - n // 2]])
    return sets | {f"{name} alone": database for name, database in databases.items()}


def _database(setting: Setting, plan: Plan, cohort: LesionCohort, name: str) -> LabelledPatches:
    """Return what a translator and its generator of maps draw, after open training."""
    study = open_study(plan, cohort, name)
    arrays = trained_part(
        setting,
        f"systems/{name}",
        study,
        cohort.patches(),
        rounds=plan.system_rounds.get(name, plan.rounds),
        batch=plan.batch,
    )

    def make() -> dict[str, np.ndarray]:
        drawn = recipe_of(study).sampler(arrays).draw(first=0, n=study.use.synthetic_pairs, seed=plan.seed)
        return {"patches": drawn.numpy()}

    return torch.from_numpy(kept_arrays(setting.folder, f"databases/{name}", make)["patches"])


def _numbers(numbers: tuple[int, ...], cohort: LesionCohort) -> tuple[int, ...]:
    """Return numbers of subjects to train with; 0 stands for all."""
    return (*(number for number in numbers if number < cohort.training_subjects), 0)


def _subjects(number: int) -> str:
    return f"{number} subjects" if number else "all subjects"


def _real(number: int) -> str:
    return f"real, {_subjects(number)}"


def _with(number: int, translator: str) -> str:
    return f"real, {_subjects(number)} + {translator}"


def _alone(numbers: tuple[int, ...]) -> set[str]:
    return {_real(number) for number in (*numbers, 0)}


def _row(name: str, privacy: str, judged: Mapping[str, Judged], patches: LabelledPatches) -> Row:
    values: dict[str, Value] = {"privacy": privacy}
    for told, one in judged.items():
        values |= one.cells(told)
    if not name.startswith("real"):
        values |= odd_masks(patches)
    return Row(name, values)


def _gain(
    judged: Mapping[str, Mapping[str, Judged]], cohort: LesionCohort, numbers: tuple[int, ...]
) -> Figure:
    """Dice over the number of real subjects, with and without each database."""
    chosen = _numbers(numbers, cohort)
    lines = [
        ("real alone", _real),
        *((f"with {one}", lambda n, one=one: _with(n, one)) for one in TRANSLATORS),
    ]
    drawn = [
        Curve(
            label,
            tuple(
                (number or cohort.training_subjects, judged[name(number)][HELD_OUT].scores.dice)
                for number in chosen
            ),
        )
        for label, name in lines
    ]
    return curves(
        "gain",
        "Dice over the number of real subjects",
        "Held-out subjects; with a database half of the patches are drawn. Not covered by epsilon.",
        lines=drawn,
        x="real subjects that train",
        y="DSC",
    )


def _grids(shown: Mapping[str, LabelledPatches]) -> tuple[Figure, ...]:
    told = {"real": "Patches of training subjects", "federated": "pix2pix trained federated"}
    return tuple(
        sample_grid(
            name,
            told.get(name, f"{name}: drawn masks, translated"),
            "Image above its label.",
            patches[:_SHOWN],
        )
        for name, patches in shown.items()
    )


def _readings(
    judged: Mapping[str, Mapping[str, Judged]],
    numbers: tuple[int, ...],
    databases: Mapping[str, LabelledPatches],
) -> tuple[str, ...]:
    held = {name: one[HELD_OUT] for name, one in judged.items()}
    lines = [
        f"{compared(_with(number, one), held[_with(number, one)], _real(number), held[_real(number)])}."
        for number in (*numbers, 0)
        if _real(number) in held
        for one in databases
    ]
    odd = {name: odd_masks(patches) for name, patches in databases.items()}
    counts = "; ".join(
        f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in one.items()) for name, one in odd.items()
    )
    n = len(next(iter(databases.values())))
    return (*lines, f"Degenerate masks among {n} drawn. {counts}.")


EXPERIMENT = Experiment(
    name="platscher2021",
    title=TITLE,
    citation=CITATION,
    did=DID,
    paper=PAPER,
    differences=DIFFERENCES,
    own_data=OWN_DATA,
    run=run,
)
