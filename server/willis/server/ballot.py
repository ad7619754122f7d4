"""What came back in one round, and the book that is kept of what it cost."""

from dataclasses import dataclass, field

from willis.server.admission import check_not_less, check_origin
from willis.server.ledger import SpendingBook
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study
from willis.shared.update import Arrays, RoundOrder, SiteAnswer


@dataclass
class Ballot:
    """What came back in one round.

    Attributes:
        sound: Arrays of every answer that counts; empty ones under secure aggregation.
        refused: Code of every other site.
        spent: What every site that answered has paid so far.
        total: Under secure aggregation: what the sites' sum says.
    """

    sound: dict[str, Arrays] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spent: dict[str, PrivacySpent] = field(default_factory=dict)
    total: PooledMean | None = None

    def enter_spending(
        self, answer: SiteAnswer, *, site: str, order: RoundOrder, study: Study, book: SpendingBook
    ) -> None:
        """Write down what a site says it has paid, whether or not its answer will count.

        Raises:
            UnsoundUpdate: It is no answer to this order, or tells less than before.
        """
        check_origin(answer, site=site, number=order.round, order_digest=order.digest(), budget=study.privacy)
        check_not_less(answer, before=book.latest().get(site))
        book.record(order.round, site, spent=answer.spent, ledger_head=answer.ledger_head)
        self.spent[site] = answer.spent
