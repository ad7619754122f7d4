"""Shin 2018: lesions by image-to-image translation, with labels edited before synthesis.

Shin HC, Tenenholtz NA, Rogers JK, et al. Medical image synthesis for data augmentation and anonymization
using generative adversarial networks. SASHIMI 2018, LNCS 11037.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from willis.shared.game_plans import EditPlan
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.translation.maps import semantic_map
from willis.shared.recipes.translation.recipe import TranslationRecipe
from willis.shared.study import Study
from willis.simulations.experiments.experiment import Experiment, Figure, Result, Row, Setting, Value
from willis.simulations.experiments.figures import sample_grid
from willis.simulations.experiments.judging import (
    Judged,
    compared,
    judged_part,
    opened,
    packed,
    score,
    trained_segmenters,
)
from willis.simulations.experiments.lesion_cohort_study import (
    HELD_OUT,
    OPEN,
    REAL_ONLY,
    SECOND,
    LesionCohort,
    LesionPlan,
    federated_draws,
    odd_masks,
    open_lesions,
)
from willis.simulations.experiments.open_training import trained_part
from willis.simulations.experiments.parts import kept_arrays, kept_values
from willis.simulations.experiments.shin2018_edits import edited_maps, freed_brains, simulated_brains
from willis.simulations.experiments.shin2018_paper import CITATION, DID, DIFFERENCES, OWN_DATA, PAPER, TITLE
from willis.simulations.experiments.shin2018_tissue import (
    TissuePlan,
    TissueResult,
    real_tissue,
    translate_to_tissue,
)
from willis.simulations.experiments.sizes import read_size

_SIZES = Path(__file__).with_suffix(".toml")
_CHANNELS = ("first", "second")  # FLAIR-like, T1-like
_SHOWN = 16  # patches in a grid
_TENTH = 0.1

REAL, BOTH, SYNTHETIC = "real", "real + synthetic", "synthetic only"
TUNED, FEW = "synthetic, then 10 % of the real subjects", "10 % of the real subjects"
FEDERATED = "synthetic only, pix2pix trained federated"
TISSUE = "T1 to tissue, simulated brains"
ROWS = (REAL, BOTH, SYNTHETIC, TUNED, FEW, FEDERATED)


class Plan(LesionPlan):
    """One size of the experiment.

    Attributes:
        tissue: Of the translation from T1 to tissue.
        healthy: Simulated healthy brains that lesions are put into.
        edit: How far lesions are changed.
        tuning_steps: Of a U-net that is fine-tuned with a tenth of the subjects.
    """

    tissue: TissuePlan
    healthy: int = Field(ge=1)
    edit: EditPlan
    tuning_steps: int = Field(ge=1)


def run(setting: Setting) -> Result:
    """Run the experiment.

    Steps:
        1. Find the cohort, divide it by subject.
        2. T1 to tissue, by a pix2pix that saw simulated brains alone.
        3. Train a pix2pix from label and tissue level to FLAIR and T1 on the training subjects, openly; edit
           their labels, and make images for them.
        4. Train U-nets on real, real and synthetic, synthetic, synthetic then a tenth of the real subjects.
        5. Train the same study at its sites at a subject-level epsilon, and a U-net on what it draws.
    """
    plan = read_size(_SIZES, setting.size, Plan)
    cohort = open_lesions(setting, plan, name="shin2018", channels=_CHANNELS)
    base, n = cohort.data.study, cohort.data.study.use.synthetic_pairs
    tissue = translate_to_tissue(setting, plan.tissue, side=min(base.patch.size), seed=plan.seed)
    real = cohort.data.real_patches(n, seed=plan.seed)
    synthetic = _synthetic(setting, plan, cohort)
    drawn, privacy = federated_draws(setting, cohort, private_study(plan, cohort), n=n)
    mixed = torch.cat([synthetic[: n // 2], real[: n - n // 2]])
    judged = {
        name: judged_part(setting, name, patches, base, tests=cohort.tests)
        for name, patches in ((REAL, real), (BOTH, mixed), (FEDERATED, drawn))
    } | _tuned(setting, plan, cohort, synthetic)
    told = dict.fromkeys(ROWS, OPEN) | {REAL: REAL_ONLY, FEW: REAL_ONLY, FEDERATED: privacy.sentence()}
    sets = {REAL: real, SYNTHETIC: synthetic, FEDERATED: drawn}
    return Result(
        rows=(*_tissue_rows(tissue), *(_row(name, told[name], judged[name], sets) for name in ROWS)),
        figures=_figures(cohort, sets, tissue),
        data=cohort.told,
        seeds=(plan.seed, *range(base.use.seeds)),
        readings=_readings(judged, tissue),
    )


def open_study(plan: Plan, cohort: LesionCohort) -> Study:
    """Return the study of the translator that is trained openly; its maps are handed in."""
    return cohort.study(plan.recipe("pix2pix", maps="prior"))


def private_study(plan: Plan, cohort: LesionCohort) -> Study:
    """Return the study that the sites train: its maps are the prior's, its labels edited when drawn."""
    edit = plan.edit.model_dump(mode="json")
    return cohort.study(plan.recipe("pix2pix", maps="prior", edit=edit), plan.private)


def _synthetic(setting: Setting, plan: Plan, cohort: LesionCohort) -> LabelledPatches:
    """Return images for edited labels of the training subjects."""
    study, patches = open_study(plan, cohort), cohort.patches()
    arrays = trained_part(setting, "pix2pix", study, patches, rounds=plan.rounds, batch=plan.batch)

    def make() -> dict[str, np.ndarray]:
        levels, blur = plan.levels, plan.blur
        maps = semantic_map(patches, levels=levels, blur=blur)
        healthy = (
            simulated_brains(
                plan.healthy, side=min(study.patch.size), levels=levels, blur=blur, seed=plan.seed
            )
            if cohort.slabs
            else freed_brains(maps)
        )
        edited = edited_maps(maps, healthy, n=study.use.synthetic_pairs, plan=plan.edit, seed=plan.seed)
        made = TranslationRecipe(study).translate(arrays, edited, plan.seed)
        return {"patches": made.numpy()}

    return torch.from_numpy(kept_arrays(setting.folder, "edited", make)["patches"])


def _tuned(
    setting: Setting, plan: Plan, cohort: LesionCohort, synthetic: LabelledPatches
) -> dict[str, dict[str, Judged]]:
    """Judge U-nets of synthetic patches, before and after a tenth of the subjects, and of these alone."""
    study = cohort.data.study
    short = cohort.study(study.recipe.model_dump(mode="json"), {"use": {"unet_steps": plan.tuning_steps}})
    seeds = range(study.use.seeds)
    few = cohort.patches(subjects=max(1, round(_TENTH * cohort.training_subjects)))

    def make() -> dict[str, dict[str, dict]]:
        setting.show.say("U-nets on synthetic patches, then on a tenth of the real subjects")
        before = trained_segmenters(synthetic, study, seeds=seeds)
        after = [
            trained_segmenters(few, short, seeds=[seed], start=start)[0]
            for seed, start in zip(seeds, before, strict=True)
        ]
        alone = trained_segmenters(few, study, seeds=seeds)
        return {
            name: {
                told: packed(score(name, segmenters, test, study.patch))
                for told, test in cohort.tests.items()
            }
            for name, segmenters in ((SYNTHETIC, before), (TUNED, after), (FEW, alone))
        }

    kept = kept_values(setting.folder, "use/tuned", make)
    return {
        name: {told: opened(values, where=setting.folder) for told, values in one.items()}
        for name, one in kept.items()
    }


def _row(name: str, privacy: str, judged: Mapping[str, Judged], sets: Mapping[str, LabelledPatches]) -> Row:
    values: dict[str, Value] = {"privacy": privacy}
    for told, one in judged.items():
        values |= one.cells(told)
    if name in sets:
        values |= odd_masks(sets[name])
    return Row(name, values)


def _tissue_rows(tissue: TissueResult) -> tuple[Row, ...]:
    values: dict[str, Value] = {"privacy": "epsilon 0: meets no patient"}
    return (Row(TISSUE, values | {f"Dice, {name}": one for name, one in tissue.dice.items()}),)


def _figures(
    cohort: LesionCohort, sets: Mapping[str, LabelledPatches], tissue: TissueResult
) -> tuple[Figure, ...]:
    names = ("real", "edited", "federated")
    grids = [
        sample_grid(name, title, "FLAIR or first channel, T1 or second channel, label.", patches[:_SHOWN])
        for name, (title, patches) in zip(names, sets.items(), strict=True)
    ]
    found = "T1, the tissue found, the true tissue: air, fluid, grey and white matter from dark to bright."
    grids.append(sample_grid("tissue", "T1 to tissue, simulated brains", found, tissue.shown[:_SHOWN]))
    if SECOND in cohort.tests:
        shown = real_tissue(tissue.network, cohort.tests[SECOND], cohort.data.study.patch)
        told = "T1, the tissue found, the lesion; the true tissue is not known. Trained on simulated brains."
        grids.append(sample_grid("tissue-real", "T1 to tissue, second cohort", told, shown, columns=4))
    return tuple(grids)


def _readings(judged: Mapping[str, Mapping[str, Judged]], tissue: TissueResult) -> tuple[str, ...]:
    pairs = ((BOTH, REAL), (SYNTHETIC, REAL), (TUNED, FEW), (TUNED, REAL), (FEDERATED, REAL))
    lines = [
        f"{compared(one, judged[one][HELD_OUT], other, judged[other][HELD_OUT])}." for one, other in pairs
    ]
    found = ", ".join(f"{name} {one:.3f}" for name, one in tissue.dice.items())
    return (*lines, f"T1 to tissue on simulated brains that were held out, Dice: {found}.")


EXPERIMENT = Experiment(
    name="shin2018",
    title=TITLE,
    citation=CITATION,
    did=DID,
    paper=PAPER,
    differences=DIFFERENCES,
    own_data=OWN_DATA,
    run=run,
)
