"""What a site's cohort has paid, and what is left of its cap; read without making a ledger."""

from dataclasses import dataclass

from willis.client.ledger import Ledger, LedgerRow
from willis.client.node.enrolment import agreed_studies
from willis.client.site import SiteSettings
from willis.client.store import open_store
from willis.shared.privacy import PrivacySpent, PrivacyUnit


@dataclass(frozen=True)
class Spending:
    """A ledger as it is.

    Attributes:
        rows: Every payment, its hash chain verified.
        spent: Their sum; None where nothing was ever paid.
        cap: The most that is ever paid.
        delta: Of both: the smallest that a study of the site has.
        head: Last hash; empty where there is no ledger.
    """

    rows: tuple[LedgerRow, ...]
    spent: PrivacySpent | None
    cap: float
    delta: float
    head: str

    @property
    def left(self) -> float:
        """What is left of the cap."""
        return self.cap - (0.0 if self.spent is None else self.spent.epsilon)


def spending_of(settings: SiteSettings) -> Spending:
    """Read a site's ledger and verify it.

    Raises:
        StateError: It is damaged or another cohort's.
    """
    delta = min((study.privacy.delta for study in agreed_studies(settings)), default=settings.delta)
    if not settings.ledger.exists():
        return Spending((), None, settings.epsilon_cap, delta, "")
    per_patch = settings.unit is PrivacyUnit.PATCH
    with Ledger.open(
        settings.ledger,
        cohort=settings.cohort_key,
        epsilon_cap=settings.epsilon_cap,
        delta=delta,
        unit=settings.unit,
        patches_per_patient=open_store(settings.store).per_subject if per_patch else None,
    ) as ledger:
        head = ledger.verify()
        return Spending(tuple(ledger.rows()), ledger.spent(), settings.epsilon_cap, delta, head)
