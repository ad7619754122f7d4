"""What the experiments on lesions share: their cohort, divided and cut, and the study that they change.

The user's own table where one is named; else real lesion masks in simulated brains, or, where no folder of
masks is at hand, masks of the prior in simulated brains. Real subjects with lesions are tested on beside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field

from willis.client.cohort import Cohort, read_cohort, split
from willis.shared.likeness.patches import degenerate_masks
from willis.shared.patch import LabelledPatches
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings, parse
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs
from willis.shared.update import Arrays
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.benchmarks.use.federated_cell import train_cell
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.lesion_cohort import SEMI_SYNTHETIC, write_lesion_cohort
from willis.simulations.experiments.lesion_cohort_masks import MaskSlab, find_masks
from willis.simulations.experiments.lesion_cohort_real import write_real_subjects
from willis.simulations.experiments.parts import kept_arrays, kept_values
from willis.simulations.experiments.sizes import merged
from willis.simulations.hospitals import Survey, prepare, prepared

HELD_OUT, SECOND = "held out", "second"
OPEN = "none: trained openly"
REAL_ONLY = "none: trained on patients' own patches"


class LesionPlan(Settings):
    """One size of an experiment on lesions.

    Attributes:
        seed: Of masks, brains, the division and the study.
        subjects: Lesion masks, 0 for all 98.
        slices: Of 2 mm in a subject.
        study: What the study has beside names, sites and recipe; nested as in a study file.
        levels: Tissue levels in a map.
        blur: Of the image before its levels are taken, in pixels.
        rounds: Of open training.
        batch: Patches in one of them.
        private: Changes to the study where it is trained federated at a subject-level epsilon.
    """

    seed: int = Field(ge=0)
    subjects: int = Field(ge=0)
    slices: int = Field(ge=1)
    study: dict[str, Any]
    levels: int = Field(ge=1)
    blur: float = Field(ge=0)
    rounds: int = Field(ge=1)
    batch: int = Field(ge=1)
    private: dict[str, Any]

    def recipe(self, name: str, *, maps: str, edit: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return a translation recipe's keys.

        Args:
            name: Of the recipe.
            maps: ``gan`` or ``prior``.
            edit: Of drawn labels.
        """
        return {
            "name": name, "maps": maps, "levels": self.levels, "blur": self.blur, "edit": dict(edit or {}),
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class LesionCohort:
    """A cohort of lesions, ready.

    Attributes:
        base: The study as nested values, without a recipe.
        data: Its patches by site, and who is tested on.
        tests: Who is tested on, by cohort: those held out, and a second cohort where there is one.
        slabs: The masks that brains were drawn around; none for a user's own cohort.
        told: Who they are, for the reader.
    """

    base: Mapping[str, Any]
    data: DataSet
    tests: Mapping[str, Cohort]
    slabs: tuple[MaskSlab, ...]
    told: str

    def study(self, recipe: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Study:
        """Return the cohort's study with a recipe, and other changes."""
        values = merged({**self.base, "recipe": dict(recipe)}, dict(changes or {}))
        return parse(values, Study, where="the experiment's study")

    @property
    def training_subjects(self) -> int:
        """How many subjects train, at all sites together."""
        return sum(site.subjects for site in self.data.study.federation.sites)

    def patches(self, *, subjects: int = 0) -> LabelledPatches:
        """Return every patch of so many training subjects (0 for all), each equally likely; no protection."""
        who = subjects or self.training_subjects
        n = who * self.data.study.patch.per_subject
        return self.data.real_patches(n, seed=self.data.study.seed, subjects=subjects)


def open_lesions(setting: Setting, plan: LesionPlan, *, name: str, channels: tuple[str, ...]) -> LesionCohort:
    """Find or write the cohort, divide it by subject, and cut its patches; what was cut before is taken.

    Args:
        setting: The user's tables, or where the public cohorts are.
        plan: Sizes.
        name: Of the study.
        channels: Image channels, by their place among a file's sequences.

    Raises:
        CohortError: A table or a mask cannot be used.
    """
    if setting.cohort is not None:
        table, slabs, told = setting.cohort, (), f"Subjects of {setting.cohort.name}"
    else:
        source = find_masks(setting.data, subjects=plan.subjects, slices=plan.slices, seed=plan.seed)
        slabs = source.slabs
        told = f"{source.about[0].upper()}{source.about[1:]}; {SEMI_SYNTHETIC}"
        table = setting.folder / "semi-synthetic" / "cohort.csv"
        if not table.exists():
            with setting.show.task("drawing brains around masks") as advance:
                write_lesion_cohort(slabs, table.parent, seed=plan.seed, progress=advance)
    everybody = read_cohort(table)
    base = _base(plan, name, channels, everybody)
    study = parse({**base, "recipe": {"name": "pix2pix"}}, Study, where="the experiment's study")
    folder = setting.folder / "cohorts"
    ready = prepared(study, folder) or prepare(study, folder, Survey(everybody, ()), show=setting.show)
    tests = {HELD_OUT: ready.held_out}
    second, about = _second(setting, plan, with_t1=len(channels) > 1)
    if second is not None:
        tests[SECOND] = second
    counts = f"{len(ready.training)} subjects train at {len(everybody.sites())} sites, {len(ready.held_out)}"
    told = f"{told}. {counts} are held out.{about}"
    return LesionCohort(base, DataSet(name, study, folder, ready.held_out), tests, slabs, told)


def federated_draws(
    setting: Setting, cohort: LesionCohort, study: Study, *, n: int
) -> tuple[LabelledPatches, PrivacySpent]:
    """Train a study at its sites through the real machinery, and draw from the release.

    Args:
        setting: Whose folder; rounds that ended before are not asked again.
        cohort: Whose hospitals.
        study: With its privacy.
        n: Patches.

    Raises:
        WillisError: What any round raises.
    """
    place = setting.folder / "federated"

    def make() -> Arrays:
        place.mkdir(exist_ok=True)
        setting.show.say(f"{study.recipe.name}, federated: {study.training.rounds} rounds")
        release = train_cell(study, cohort.data.folder / "sites", place)
        return {"patches": draw_pairs(release, n=n, seed=study.seed + 1).numpy()}

    arrays = kept_arrays(setting.folder, "federated", make)
    spent = kept_values(setting.folder, "federated-spent", lambda: _spent(cohort, study, setting))
    return torch.from_numpy(arrays["patches"]), parse(spent, PrivacySpent, where="what was spent")


def odd_masks(patches: LabelledPatches) -> dict[str, int]:
    """Return how many patches there are, and how many masks no scan could have, by what is odd."""
    found = degenerate_masks(patches)
    return {
        "patches": found["patches"],
        "empty masks": found["empty"],
        "full masks": found["full"],
        "masks under 8 px": found["small"],
        "masks not binary": found["not_binary"],
    }


def _spent(cohort: LesionCohort, study: Study, setting: Setting) -> dict[str, Any]:
    release = train_cell(study, cohort.data.folder / "sites", setting.folder / "federated")
    return release.spent.model_dump(mode="json")


def _base(plan: LesionPlan, name: str, channels: tuple[str, ...], everybody: Cohort) -> dict[str, Any]:
    held_out = plan.study["use"]["held_out"]
    training, _ = split(everybody, held_out, seed=plan.seed)
    sites = [{"name": site, "subjects": len(training.at(site))} for site in training.sites()]
    own = {
        "name": name,
        "seed": plan.seed,
        "patch": {"channels": list(channels)},
        "federation": {
            "quorum": len(sites),
            "minimum_subjects": min(int(site["subjects"]) for site in sites),
            "sites": sites,
        },
    }
    return merged(plan.study, own)


def _second(setting: Setting, plan: LesionPlan, *, with_t1: bool) -> tuple[Cohort | None, str]:
    """The user's second cohort, or the real subjects that are at hand; and a sentence."""
    if setting.cohort is not None:
        table = setting.second
        about = "" if table is None else f" Second cohort: subjects of {table.name}."
    else:
        folder = setting.folder / "real"
        table = folder / "cohort.csv"
        if not table.exists():
            table = write_real_subjects(setting.data, folder, slices=2 * plan.slices, with_t1=with_t1)
        about = " No real subject with a lesion is at hand: every image is simulated."
    if table is None:
        return None, about
    second = read_cohort(table)
    if setting.cohort is None:
        who = (
            "multiple sclerosis, open_ms_data"
            if with_t1
            else "multiple sclerosis and stroke; open_ms_data, ISLES 2022"
        )
        about = f" Second cohort: {len(second)} REAL subjects ({who}), for looking at: so few prove nothing."
    return second, about
