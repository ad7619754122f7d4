"""Kossen 2021: labelled vessel patches by three GANs, a U-net trained on them alone, and its transfer.

Kossen T, Subramaniam P, Madai VI, et al. Synthesizing anonymized and labeled TOF-MRA patches for brain vessel
segmentation using generative adversarial networks. Computers in Biology and Medicine 131 (2021) 104254.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from willis.shared.patch import LabelledPatches
from willis.shared.prior_draws import draw_prior
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.segmenter import Segmenter
from willis.shared.settings import Settings, parse
from willis.shared.study import Study
from willis.simulations.experiments.experiment import Experiment, Figure, Result, Row, Setting, Table, Value
from willis.simulations.experiments.figures import curves, sample_grid
from willis.simulations.experiments.judging import (
    Judged,
    compared,
    compared_over,
    judged_part,
    trained_segmenters,
)
from willis.simulations.experiments.kossen2021_paper import CITATION, DID, DIFFERENCES, OWN_DATA, PAPER
from willis.simulations.experiments.likeness_cells import PRIOR, REAL, likeness_part, likeness_table
from willis.simulations.experiments.open_training import trained_part
from willis.simulations.experiments.sizes import merged, read_size
from willis.simulations.experiments.transfer import Transfer, transfer, transfer_curves
from willis.simulations.experiments.vessel_cohorts import FIRST, SECOND, CohortPlan, Cohorts, open_cohorts

_SIZES = Path(__file__).with_suffix(".toml")
_BEST = "WGAN-GP-SN"  # whose patches pre-train: fixed before anything is run, by the paper's choice
_SHOWN = 16  # patches in a grid


class SystemPlan(Settings):
    """One system.

    Attributes:
        changes: Keys of the study that differ, as nested tables.
        rounds: Rounds of open training: critic steps.
        batch: Patches in one.
    """

    changes: dict[str, Any]
    rounds: int = Field(ge=1)
    batch: int = Field(ge=2)


class Plan(Settings):
    """One size of the experiment.

    Attributes:
        study: What all systems share, as nested values.
        cohorts: How they are divided.
        systems: By name.
        pool: Real patches that the GANs train on, drawn over all subjects.
        likeness: Patches of each set compared.
        numbers: Subjects of the second cohort to fine-tune with.
        draws: Of those subjects, for each number.
        fine_tuning_steps: Of the U-net.
    """

    study: dict[str, Any]
    cohorts: CohortPlan
    systems: dict[str, SystemPlan]
    pool: int = Field(ge=16)
    likeness: int = Field(ge=25)
    numbers: tuple[int, ...]
    draws: int = Field(ge=1)
    fine_tuning_steps: int = Field(ge=1)


def run(setting: Setting) -> Result:
    """Run the experiment.

    Steps:
        1. Divide both cohorts by subject; pool the patches of the first one's training subjects.
        2. Train every system openly on the pool; draw as many patches of each as there are real ones.
        3. Train U-nets on each set of patches, test them on held-out subjects of both cohorts.
        4. Measure how alike each set and real patches are.
        5. Fine-tune the U-net of WGAN-GP-SN with a few subjects of the second cohort, and one without.
    """
    plan = read_size(_SIZES, setting.size, Plan)
    cohorts = open_cohorts(setting, plan.study, plan.cohorts)
    base = cohorts.first.study
    sets = _patches(setting, plan, cohorts)
    judged = {
        name: judged_part(setting, name, patches, base, tests=cohorts.tests())
        for name, patches in sets.items()
    }
    alike = likeness_part(
        setting, sets, others=cohorts.held_out_patches(), seed=plan.cohorts.seed, n=plan.likeness
    )
    moved = _transfer(setting, sets[_BEST], plan, cohorts)
    return Result(
        rows=tuple(Row(name, _cells(name, judged[name])) for name in sets),
        more=(
            likeness_table(alike),
            Table("Transfer to the second cohort", tuple(row for one in moved for row in one.rows())),
        ),
        figures=_figures(public_sets(sets, setting), judged, moved),
        data=cohorts.told,
        seeds=(base.seed, *range(base.use.seeds)),
        readings=_readings(judged, moved),
    )


def _patches(setting: Setting, plan: Plan, cohorts: Cohorts) -> dict[str, LabelledPatches]:
    """Return as many patches of everything: real ones, the prior's, every system's."""
    base = cohorts.first.study
    n = base.use.synthetic_pairs
    pool = cohorts.first.real_patches(plan.pool, seed=base.seed)
    sets = {
        REAL: cohorts.first.real_patches(n, seed=base.seed + 1),
        PRIOR: draw_prior(base, n, purpose="evaluation"),
    }
    for name, system in plan.systems.items():
        study = system_study(base, system, name)
        arrays = trained_part(
            setting, f"systems/{name}", study, pool, rounds=system.rounds, batch=system.batch
        )
        sets[name] = recipe_of(study).sampler(arrays).draw(first=0, n=n, seed=base.seed + 1)
    return sets


def system_study(base: Study, system: SystemPlan, name: str) -> Study:
    """Return the study of one system: the one that a federation would sign, with its rounds."""
    rounds = {"training": {"rounds": system.rounds}}
    changes = merged(rounds, system.changes)
    values = merged(base.model_dump(mode="json"), changes)
    values["recipe"] = changes["recipe"]
    return parse(values, Study, where=f"system {name}")


def _cells(name: str, judged: Mapping[str, Judged]) -> dict[str, Value]:
    privacy = "epsilon 0: meets no patient" if name == PRIOR else "not private"
    return {"privacy": privacy, **judged[FIRST].cells(FIRST), **judged[SECOND].cells(SECOND)}


def _transfer(setting: Setting, synthetic: LabelledPatches, plan: Plan, cohorts: Cohorts) -> list[Transfer]:
    base = cohorts.first.study
    steps = {"use": {"unet_steps": plan.fine_tuning_steps}}
    study = parse(merged(base.model_dump(mode="json"), steps), Study, where="fine-tuning")

    @cache
    def start() -> Segmenter:
        setting.show.say(f"pre-training on {_BEST}")
        return trained_segmenters(synthetic, base, seeds=[0])[0]

    return transfer(
        setting,
        start,
        study,
        second=cohorts.second,
        numbers=plan.numbers,
        draws=plan.draws,
        patches=base.use.synthetic_pairs,
    )


def public_sets(sets: Mapping[str, LabelledPatches], setting: Setting) -> dict[str, LabelledPatches]:
    """Return what may be looked at: a user's own subjects are not put into a page."""
    return {name: patches for name, patches in sets.items() if name != REAL or setting.cohort is None}


def _figures(
    sets: Mapping[str, LabelledPatches],
    judged: Mapping[str, Mapping[str, Judged]],
    moved: list[Transfer],
) -> tuple[Figure, ...]:
    grids = [
        sample_grid(
            f"samples-{place}",
            f"Samples: {name}",
            f"{min(_SHOWN, len(patches))} patches of {name}; every image above its label. "
            + ("Real subjects: not covered by epsilon." if name == REAL else "The first ones, not chosen."),
            patches[:_SHOWN],
        )
        for place, (name, patches) in enumerate(sets.items())
    ]
    if not moved:
        return tuple(grids)
    curve = curves(
        "transfer",
        "Transfer to the second cohort",
        f"Dice on the second cohort's held-out subjects ({moved[0].without.scores.n_subjects}; lines: 95 % "
        f"over them) after fine-tuning with some of its others. Broken: U-net on {_BEST} alone, and on real "
        "patches of the first cohort alone.",
        lines=transfer_curves(moved),
        x="subjects of the second cohort that fine-tune",
        y="DSC",
        levels=[(f"{name} alone", judged[name][SECOND].scores.dice) for name in (_BEST, REAL)],
    )
    return (curve, *grids)


def _readings(judged: Mapping[str, Mapping[str, Judged]], moved: list[Transfer]) -> tuple[str, ...]:
    over = {
        name: tuple(dice for one in both.values() for dice in one.in_order) for name, both in judged.items()
    }
    readings = [
        f"WGAN-GP-SN at least as good as DCGAN, both cohorts: {_over(over, _BEST, 'DCGAN')}",
        f"Synthetic beside real, both cohorts: {_over(over, _BEST, REAL)}",
        f"Synthetic beside the prior, both cohorts: {_over(over, _BEST, PRIOR)}",
    ]
    for one in moved:
        many = f"{one.subjects} subject{'s' if one.subjects > 1 else ''}"
        readings.append(
            f"Pre-training at {many}: "
            + compared("pre-trained", one.with_start, "no pre-training", one.without)
        )
    return tuple(readings)


def _over(scores: Mapping[str, tuple[float, ...]], first: str, second: str) -> str:
    return compared_over(first, scores[first], second, scores[second])


EXPERIMENT = Experiment(
    name="kossen2021",
    title="Kossen 2021: labelled vessel patches by generative adversarial networks",
    citation=CITATION,
    did=DID,
    paper=PAPER,
    differences=DIFFERENCES,
    own_data=OWN_DATA,
    run=run,
)
