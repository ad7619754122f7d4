"""What stands behind a release's pairs, for machines (JSON with its schema) and for a lawyer (prose)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.release_sheet import ReleaseSheet
from willis.shared.settings import Settings

_COVERED = (
    "the weights of this release",
    "every pair drawn from it, however many",
    "what each site answered in every round, as the coordinator saw it",
)
_NOT_COVERED = (
    "scores on real subjects that are published beside the release",
    "a patient whose images lie at two sites: what both spent adds up for that patient",
    "choices made after looking at earlier runs on the same patients, unless the same ledgers paid for them "
    "(a site's figure is all that its ledger paid for these patients, earlier runs of this study included)",
    "whether a site answered at all, refused, and when",
    "attacks on the floating-point sampling of the noise, and timing",
    "what the study itself says: which sites take part, how many subjects they declare, their weights",
    "what is true of patients in general",
)
_UNITS = {
    PrivacyUnit.SUBJECT: "all images and labels of one patient at one site",
    PrivacyUnit.PATCH: "one patch; a patient gave many",
}
_RELATIONS = {Relation.ADD_OR_REMOVE: "one data set has the unit, the other lacks it"}


class PrivacyStatement(Settings):
    """``docs/privacy_statement.json``.

    Attributes:
        format: Version of this statement.
        study: Its name.
        study_digest: SHA-256 of the study.
        run: Of the study.
        mechanism: How noise was added.
        unit: What is protected.
        unit_in_words: The same.
        relation: Which two data sets are compared.
        relation_in_words: The same.
        network: The bound for a patient seen at one site only: epsilon at delta, accountant.
        sites: What every site that took part has spent.
        ledger_heads: Last hash of each ledger: a site can show that its ledger passes through it.
        covered: What the bound is about.
        not_covered: What it is not about.
        patient_level: Whether a patient as a whole is protected.
    """

    format: Literal[1] = 1
    study: str
    study_digest: str
    run: str
    mechanism: str
    unit: PrivacyUnit
    unit_in_words: str
    relation: Relation
    relation_in_words: str
    network: PrivacySpent
    sites: dict[str, PrivacySpent] = Field(min_length=1)
    ledger_heads: dict[str, str]
    covered: tuple[str, ...]
    not_covered: tuple[str, ...]
    patient_level: bool


def statement_of(sheet: ReleaseSheet) -> PrivacyStatement:
    """Return the statement of a release."""
    spent = sheet.network
    return PrivacyStatement(
        study=sheet.study.name,
        study_digest=sheet.study_digest,
        run=sheet.run,
        mechanism=_mechanism(sheet),
        unit=spent.unit,
        unit_in_words=_UNITS[spent.unit],
        relation=spent.relation,
        relation_in_words=_RELATIONS[spent.relation],
        network=spent,
        sites={name: site.spent for name, site in sheet.sites.items()},
        ledger_heads={name: site.ledger_head for name, site in sheet.sites.items() if site.ledger_head},
        covered=_COVERED,
        not_covered=_NOT_COVERED,
        patient_level=spent.unit is PrivacyUnit.SUBJECT,
    )


def prose_of(statement: PrivacyStatement) -> str:
    """Return the statement as Markdown that needs no knowledge of the field."""
    patient = (
        "The bound holds for a patient as a whole: for everything that one patient gave at one site."
        if statement.patient_level
        else "**The bound does not hold for a patient as a whole.** It is about one patch; the figure for a "
        "patient, where there is one, is told in the same sentence and is far larger."
    )
    return "\n".join(
        (
            f"# Privacy statement: {statement.study}",
            "",
            f"> {statement.network.sentence()}",
            "",
            "## What it says",
            "",
            "Imagine two versions of this release: one made with a certain "
            f"{statement.unit.value} among the data, one made without "
            f"({statement.relation_in_words}; what is meant by {statement.unit.value}: "
            f"{statement.unit_in_words}). Whatever somebody may do with the release, the chance of any "
            "outcome differs between the two by no more than a factor of e to the power of epsilon, but for "
            "a further chance of delta. Epsilon 0 would mean no difference at all; the smaller epsilon and "
            "delta, the less anybody can learn about one of them, now or later, with whatever other "
            "knowledge.",
            "",
            patient,
            "",
            f"Mechanism: {statement.mechanism}. Accountant: {statement.network.accountant}.",
            "",
            "## Spent, site by site",
            "",
            *_table(statement.sites),
            "",
            "## Covered",
            "",
            *(f"* {one}" for one in statement.covered),
            "",
            "## Not covered",
            "",
            *(f"* {one}" for one in statement.not_covered),
            "",
            "Epsilon and delta are evidence for an assessment of whether data are personal or anonymous "
            "under the law that applies; they are not its result.",
            "",
        )
    )


def _mechanism(sheet: ReleaseSheet) -> str:
    study = sheet.study
    asked = (
        f"sums of vectors, one a {sheet.network.unit.value}, each clipped to length "
        f"{study.privacy.clip_norm:g}; units drawn at random (Poisson, rate {study.privacy.sampling_rate:g})"
    )
    secure = study.federation.secure
    if secure is None:
        return (
            f"In this study, Gaussian noise on {asked}; all of the noise added at the site before anything "
            "left it"
        )
    return (
        f"In this study, discrete Gaussian noise on {asked}; secure aggregation: each site added a share of "
        "the noise before anything left it, and the coordinator saw the sum of "
        f"{study.federation.quorum} sites or more alone. The figures hold while at most {secure.colluders} "
        "of the sites in a sum tell the coordinator their own share, or use it themselves, and the sites got "
        "each other's keys from each other"
    )


def _table(sites: Mapping[str, PrivacySpent]) -> list[str]:
    rows = [f"| {name} | {sites[name].sentence()} |" for name in sorted(sites)]
    return ["| site | spent |", "| --- | --- |", *rows]
