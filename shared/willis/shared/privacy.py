"""What a privacy figure is about: unit, neighbouring relation, budget, and what was spent."""

import math
from enum import StrEnum

from pydantic import Field

from willis.shared.settings import Settings


class PrivacyUnit(StrEnum):
    """Whose presence is hidden. Only ``SUBJECT`` protects a patient."""

    SUBJECT = "subject"
    PATCH = "patch"


class Relation(StrEnum):
    """When two cohorts are neighbours. Replace-one would about double every epsilon."""

    ADD_OR_REMOVE = "add-or-remove-one"


class PrivacyBudget(Settings):
    """The most a site agrees to spend on one study.

    Attributes:
        epsilon: Total over all rounds, not per round.
        delta: Chance that the epsilon bound fails. Keep below 1 / number of units.
        unit: What is added or removed between neighbouring cohorts.
        relation: Add or remove one unit.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    unit: PrivacyUnit
    relation: Relation = Relation.ADD_OR_REMOVE


class PrivacySpent(Settings):
    """A privacy figure that is complete: it can be printed, and means one thing.

    Attributes:
        epsilon: Upper bound over everything released so far; 0 when nothing was.
        delta: At which the bound holds.
        unit: Whose presence is hidden.
        relation: When two cohorts are neighbours.
        accountant: The method that computed the figure.
        patient_epsilon: For unit ``patch``: the same release in terms of a whole patient; None where
            the unit already is the subject, or infinite loss (see ``patient_note``).
        patient_note: How the patient's figure was got, or why there is none.
        assumes: What the figure relies on beyond the noise that the site itself added; empty where on
            nothing. Secure aggregation shares the noise among sites, and says here how many must be honest.
    """

    epsilon: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    unit: PrivacyUnit
    relation: Relation
    accountant: str
    patient_epsilon: float | None = None
    patient_note: str = ""
    assumes: str = Field(default="", max_length=400)

    def sentence(self) -> str:
        """Return the figure, rounded up, with all that it needs to be understood, on one line."""
        epsilon = math.ceil(self.epsilon * 100 - 1e-6) / 100
        text = (
            f"epsilon {epsilon:.2f} at delta {self.delta:g}, unit {self.unit.value}, "
            f"neighbours {self.relation.value}, accountant {self.accountant}"
        )
        if self.unit is PrivacyUnit.PATCH:
            figure = "unbounded" if self.patient_epsilon is None else f"{math.ceil(self.patient_epsilon)}"
            text += f" (NOT a patient's privacy: per patient epsilon {figure}; {self.patient_note})"
        if self.assumes:
            text += f" (ASSUMING {self.assumes})"
        return text
