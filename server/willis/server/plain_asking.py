"""A round without secure aggregation: every site answers for itself; what it has does not travel again."""

import logging
from collections.abc import Mapping

from flwr.app import RecordDict
from flwr.serverapp import Grid

from willis.server.admission import UnsoundUpdate, admit_precision
from willis.server.ballot import Ballot
from willis.server.ledger import SpendingBook
from willis.server.letters import answer_in, packed
from willis.server.protocols import RoundProtocol
from willis.server.roll_call import exchange
from willis.shared.errors import OrderIncomplete
from willis.shared.known_arrays import Digests, digests_of
from willis.shared.study import Study
from willis.shared.update import RoundOrder

logger = logging.getLogger(__name__)


class PlainAsking:
    """Asks the sites of a study, round after round.

    A site that answered soundly holds that order's arrays; of the next order it gets those that changed. One
    that holds less than was thought says so, and gets the order whole.

    Args:
        grid: Where the sites are.
        study: As agreed.
        protocol: Its protocol.
        book: Of what the sites have spent.
    """

    def __init__(self, grid: Grid, study: Study, *, protocol: RoundProtocol, book: SpendingBook) -> None:
        self._grid, self._study, self._protocol, self._book = grid, study, protocol, book
        self._held: dict[str, Digests] = {}

    def ask(self, order: RoundOrder, *, nodes: Mapping[str, int], ballot: Ballot) -> None:
        """Send the order, take in what comes until the deadline; the ballot gets all of it."""
        letters = {site: packed(order, known=self._held.get(site, {})) for site in nodes}
        self._take_in(order, letters, nodes=nodes, ballot=ballot)
        lacking = [site for site in nodes if ballot.refused.get(site) == OrderIncomplete.code]
        if lacking:
            self._take_in(order, dict.fromkeys(lacking, packed(order)), nodes=nodes, ballot=ballot)
        own = digests_of(order.arrays)
        self._held = dict.fromkeys(ballot.sound, own)

    def _take_in(
        self,
        order: RoundOrder,
        letters: Mapping[str, RecordDict],
        *,
        nodes: Mapping[str, int],
        ballot: Ballot,
    ) -> None:
        deadline_s = self._study.federation.deadline_s
        for site, reply in exchange(
            self._grid, letters, nodes=nodes, kind="train", number=order.round, deadline_s=deadline_s
        ):
            try:
                answer = reply if isinstance(reply, str) else answer_in(reply)
                if isinstance(answer, str):
                    ballot.refused[site] = answer
                    continue
                ballot.enter_spending(answer, site=site, order=order, study=self._study, book=self._book)
                arrays = admit_precision(answer.arrays, self._study, site=site)
                self._protocol.check(arrays, order=order.arrays, site=site)
            except UnsoundUpdate as fault:
                logger.warning("round %d, site %s: %s", order.round, site, fault)
                ballot.refused[site] = fault.recorded
            else:
                ballot.sound[site] = arrays
                ballot.refused.pop(site, None)
