"""The report's privacy ledger: what every site had spent after every round, as the coordinator was told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from willis.server.checkpoint import RoundRecord
from willis.shared.privacy import PrivacyBudget, PrivacySpent


@dataclass(frozen=True)
class LedgerRow:
    """One round of the ledger.

    Attributes:
        round: From 1.
        merged: Whether the model moved.
        cells: Text by site: its epsilon, rounded up; "not told" where it gave no answer in this round.
    """

    round: int
    merged: bool
    cells: dict[str, str]


def ledger_rows(records: Sequence[RoundRecord], plan: PrivacyBudget) -> tuple[LedgerRow, ...]:
    """Return a row for every record.

    A figure that is at another delta, or of another unit or relation, than the study says is told whole:
    it must not be read as the others are.
    """
    sites = ledger_sites(records)
    return tuple(
        LedgerRow(
            record.round,
            record.merged,
            {site: _cell(record.spent[site], plan) if site in record.spent else "not told" for site in sites},
        )
        for record in records
    )


def ledger_sites(records: Sequence[RoundRecord]) -> tuple[str, ...]:
    """Return the sites that told what they spent, sorted."""
    return tuple(sorted({site for record in records for site in record.spent}))


def _cell(spent: PrivacySpent, plan: PrivacyBudget) -> str:
    same = (spent.delta, spent.unit, spent.relation) == (plan.delta, plan.unit, plan.relation)
    return f"{math.ceil(spent.epsilon * 100 - 1e-6) / 100:.2f}" if same else spent.sentence()
