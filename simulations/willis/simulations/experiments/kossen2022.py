"""Kossen 2022: a private WGAN whose unit is the patch, as published, with its accountant told the truth."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.settings import Settings, parse
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs
from willis.simulations.benchmarks.use.federated_cell import train_cell
from willis.simulations.benchmarks.use.without_noise import learn_without_noise
from willis.simulations.experiments.experiment import Experiment, Figure, Result, Row, Setting, Table, Value
from willis.simulations.experiments.figures import Curve, curves, sample_grid
from willis.simulations.experiments.judging import Judged, compared, judged_part
from willis.simulations.experiments.kossen2022_paper import CITATION, DID, DIFFERENCES, OWN_DATA, PAPER
from willis.simulations.experiments.likeness_cells import PRIOR, REAL, likeness_part, likeness_table
from willis.simulations.experiments.parts import kept_arrays, timed
from willis.simulations.experiments.patch_accounting import example_run, reading_of
from willis.simulations.experiments.sizes import merged, read_size
from willis.simulations.experiments.vessel_cohorts import FIRST, SECOND, CohortPlan, Cohorts, open_cohorts

_SIZES = Path(__file__).with_suffix(".toml")
_SHOWN = 16  # patches in a grid
_STABLE = 5.0  # the paper calls what lies below this epsilon unstable


class Plan(Settings):
    """One size of the experiment.

    Attributes:
        study: The recipe as published, as nested values; sampling rate and delta follow from the cohort.
        cohorts: How they are divided.
        epsilons: Per patch; ``inf`` is the same with the noise off.
        batch: Patches expected in a draw.
        likeness: Patches of each set compared.
    """

    study: dict[str, Any]
    cohorts: CohortPlan
    epsilons: tuple[float | Literal["inf"], ...] = Field(min_length=1)
    batch: int = Field(ge=1)
    likeness: int = Field(ge=25)


def run(setting: Setting) -> Result:
    """Run the experiment.

    Steps:
        1. Divide both cohorts by subject.
        2. For each epsilon train the recipe through the real round loop, with its ledger, at one site.
        3. Train U-nets on each set of patches, test them on held-out subjects of both cohorts.
        4. Measure how alike each set and real patches are.
        5. Count the released code's example run, as it does and as it is.
    """
    plan = read_size(_SIZES, setting.size, Plan)
    cohorts = open_cohorts(setting, plan.study, plan.cohorts)
    base = cohorts.first.study
    sets, spent = _patches(setting, plan, cohorts)
    judged = {
        name: judged_part(setting, name, some, base, tests=cohorts.tests()) for name, some in sets.items()
    }
    alike = likeness_part(
        setting, sets, others=cohorts.held_out_patches(), seed=plan.cohorts.seed, n=plan.likeness
    )
    example = example_run(setting)
    return Result(
        rows=tuple(Row(name, _privacy(name, spent.get(name)) | _scores(judged[name])) for name in sets),
        figures=_figures(setting, sets, judged, plan),
        data=cohorts.told,
        seeds=(base.seed, *range(base.use.seeds)),
        readings=(*_readings(judged, spent), reading_of(example)),
        more=(
            likeness_table(alike),
            Table("The released code's example run, counted", tuple(example)),
        ),
    )


def study_at(base: Study, epsilon: float, *, batch: int) -> Study:
    """Return the study at one epsilon per patch: rate and delta follow from how many patches there are.

    Delta lies a thousandth below 1 / patches, the paper's choice, which a study refuses as it is.
    """
    patches = base.federation.sites[0].subjects * base.patch.per_subject
    budget = {"epsilon": epsilon, "delta": 0.999 / patches, "sampling_rate": min(1.0, batch / patches)}
    values = merged(base.model_dump(mode="json"), {"privacy": budget})
    return parse(values, Study, where=f"epsilon {epsilon:g}")


def name_of(epsilon: float) -> str:
    """Return what the row of an epsilon is called."""
    return "DP-WGAN, noise off" if math.isinf(epsilon) else f"DP-WGAN, epsilon {epsilon:g} per patch"


def _patches(
    setting: Setting, plan: Plan, cohorts: Cohorts
) -> tuple[dict[str, LabelledPatches], dict[str, PrivacySpent]]:
    """Return as many patches of everything, and what each private row spent by its ledger."""
    base = cohorts.first.study
    n = base.use.synthetic_pairs
    sets = {
        REAL: cohorts.first.real_patches(n, seed=base.seed + 1),
        PRIOR: draw_prior(base, n, purpose="evaluation"),
    }
    spent = {}
    for epsilon in map(float, plan.epsilons):
        name = name_of(epsilon)
        if math.isinf(epsilon):
            sets[name] = _open_patches(setting, study_at(base, 1.0, batch=plan.batch), cohorts, n=n)
            continue
        study = study_at(base, epsilon, batch=plan.batch)
        setting.show.say(f"training {name}: {study.training.draws} private draws")
        folder = setting.folder / "training" / f"epsilon-{epsilon:g}"
        folder.mkdir(parents=True, exist_ok=True)
        with timed(setting.folder, f"systems/epsilon-{epsilon:g}"):
            release = train_cell(study, cohorts.first.folder / "sites", folder)
        sets[name] = draw_pairs(release, n=n, seed=base.seed + 1, device="cpu")
        spent[name] = release.spent
    return sets, spent


def _open_patches(setting: Setting, study: Study, cohorts: Cohorts, *, n: int) -> LabelledPatches:
    setting.show.say(f"training {name_of(math.inf)}: {study.training.draws} draws")
    arrays = kept_arrays(
        setting.folder, "systems/noise-off", lambda: learn_without_noise(study, cohorts.first)
    )
    return recipe_of(study).sampler(arrays).draw(first=0, n=n, seed=study.seed + 1)


def _privacy(name: str, spent: PrivacySpent | None) -> dict[str, Value]:
    if spent is None:
        bound = "epsilon 0 for every unit: meets no patient" if name == PRIOR else "not private: no bound"
        return {"epsilon per patch": None, "epsilon per patient": None, "delta": None, "privacy": bound}
    patient = spent.patient_epsilon
    return {
        "epsilon per patch": spent.epsilon,
        "epsilon per patient": "no finite figure" if patient is None else patient,
        "delta": f"{spent.delta:.3g}",
        "privacy": spent.sentence(),
    }


def _scores(judged: Mapping[str, Judged]) -> dict[str, Value]:
    return {**judged[FIRST].cells(FIRST), **judged[SECOND].cells(SECOND)}


def _figures(
    setting: Setting,
    sets: Mapping[str, LabelledPatches],
    judged: Mapping[str, Mapping[str, Judged]],
    plan: Plan,
) -> tuple[Figure, ...]:
    epsilons = [float(one) for one in plan.epsilons]
    lines = [
        Curve(
            f"{cohort} cohort",
            tuple((one, *_with_interval(judged[name_of(one)][cohort])) for one in epsilons),
        )
        for cohort in (FIRST, SECOND)
    ]
    curve = curves(
        "epsilon",
        "Use against epsilon per patch",
        "Dice on held-out subjects of both cohorts (lines: 95 % over subjects) against epsilon PER PATCH; "
        "per patient it is the table's other figure. Infinity: the noise off. Broken: real patches, prior.",
        lines=lines,
        x="epsilon per patch (not a patient's)",
        y="DSC",
        levels=[(f"{name}, first cohort", judged[name][FIRST].scores.dice) for name in (REAL, PRIOR)],
    )
    grids = [
        sample_grid(
            f"samples-{place}",
            f"Samples: {name}",
            f"The first patches of {name}; every image above its label.",
            patches[:_SHOWN],
        )
        for place, (name, patches) in enumerate(sets.items())
        if name != REAL or setting.cohort is None
    ]
    return (curve, *grids)


def _with_interval(judged: Judged) -> tuple[float, float, float]:
    return (judged.scores.dice, *judged.scores.dice_interval)


def _readings(
    judged: Mapping[str, Mapping[str, Judged]], spent: Mapping[str, PrivacySpent]
) -> tuple[str, ...]:
    readings = [f"{name}, one and the same run: {one.sentence()}" for name, one in spent.items()]
    readings += [
        f"Against the prior at epsilon 0, first cohort: "
        f"{compared(name, scores[FIRST], PRIOR, judged[PRIOR][FIRST])}"
        for name, scores in judged.items()
        if name not in (REAL, PRIOR)
    ]
    below = [judged[name][FIRST].scores.dice for name, one in spent.items() if one.epsilon < _STABLE - 0.1]
    if below:
        readings.append(
            f"The paper finds DSC below 0.61 under epsilon 5; here it is {min(below):.3f} to {max(below):.3f}"
        )
    return tuple(readings)


EXPERIMENT = Experiment(
    name="kossen2022",
    title="Kossen 2022: labelled vessel patches by a private WGAN, per patch and per patient",
    citation=CITATION,
    did=DID,
    paper=PAPER,
    differences=DIFFERENCES,
    own_data=OWN_DATA,
    run=run,
)
