"""What a privacy figure is about: unit, neighbouring relation, budget, and what was spent."""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from willis.shared.settings import Settings

_MOST_WORDS = 2_000  # characters of what a figure assumes
_LARGEST = 1e12  # an epsilon above it is not worth its digits

# Comes from sites, and is printed on one line of a page or a table.
_Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f|<>`]*$", max_length=_MOST_WORDS)]


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
    accountant: _Line
    patient_epsilon: float | None = Field(default=None, ge=0)
    patient_note: _Line = ""
    assumes: _Line = ""

    def sentence(self) -> str:
        """Return the figure, rounded up, with all that it needs to be understood, on one line."""
        text = (
            f"epsilon {_rounded_up(self.epsilon, places=2)} at delta {self.delta:g}, unit {self.unit.value}, "
            f"neighbours {self.relation.value}, accountant {self.accountant}"
        )
        if self.unit is PrivacyUnit.PATCH:
            figure = "unbounded" if self.patient_epsilon is None else _rounded_up(self.patient_epsilon)
            text += f" (NOT a patient's privacy: per patient epsilon {figure}; {self.patient_note})"
        if self.assumes:
            text += f" (ASSUMING {self.assumes})"
        return text


def all_assumed(statements: Iterable[str]) -> str:
    """Return what figures that are taken together assume: each statement once, in one text that fits."""
    distinct = sorted({one for text in statements for one in text.split("; ") if one})
    joined = "; ".join(distinct)
    if len(joined) <= _MOST_WORDS:
        return joined
    return f"{len(distinct)} agreements on secure aggregation, each written in the ledger of its site"


def _rounded_up(epsilon: float, *, places: int = 0) -> str:
    if epsilon > _LARGEST:
        return f"above {_LARGEST:g}"
    return f"{math.ceil(epsilon * 10**places - 1e-6) / 10**places:.{places}f}"
