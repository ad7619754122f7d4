"""The round loop on Flower's Grid: ask, wait, check, merge, save; the same over a network and in process.

A round: 1) whoever is on the roll gets the order, with a deadline; 2) every sound answer counts, a reply
being of the site whose message it answers; 3) below quorum the loop waits once (its patience) and asks the
silent again; the order is the same, so a site that was only late answers from memory and pays nothing;
4) still below quorum: nothing is merged and the run stops; 5) merge, average, save, then the next round.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.serverapp import Grid

from willis.server import checkpoint as disk
from willis.server.ballot import Ballot
from willis.server.checkpoint import Checkpoint, RoundRecord
from willis.server.ledger import SpendingBook
from willis.server.plain_asking import PlainAsking
from willis.server.protocols import Pooled, RoundProtocol, protocol_of
from willis.server.roll_call import RollCall
from willis.server.secure_asking import SecureAsking
from willis.server.tracking import begin_events
from willis.shared.errors import BudgetExhausted, QuorumMissed
from willis.shared.study import Study
from willis.shared.update import Arrays, RoundOrder, norm

logger = logging.getLogger(__name__)

_WORTH_ASKING_AGAIN = frozenset({"absent", "deadline", "lost", "internal", "unreachable"})


def run_rounds(
    grid: Grid,
    study: Study,
    *,
    folder: Path,
    initial: Arrays,
    resume: bool = False,
    on_round: Callable[[RoundRecord], None] | None = None,
    patience_s: float = 30.0,
) -> Checkpoint:
    """Run a study's rounds, from its first or from where it stands.

    Args:
        grid: The network, or a grid in process.
        study: The protocol.
        folder: The run's folder; ``metrics.jsonl``, ``tensorboard/``, and ``server/`` for checkpoints and
            spending.
        initial: The model before the first round: its recipe's start.
        resume: Continue the run in the folder; the result is that of a run never interrupted.
        on_round: Called with every round's record, once it is on disk.
        patience_s: Seconds to wait, once a round, before the silent are asked again.

    Returns:
        Where the run stands after its last round.

    Raises:
        StateError: The folder is in use, has nothing to resume or is another study's; the disk is full.
        QuorumMissed: Too few sound answers; nothing was merged, the round before stands.
    """
    state = disk.begin(folder / "server", study, initial, resume=resume)
    disk.mend_metrics(folder / "metrics.jsonl", state.history)
    events = begin_events(folder)
    book = SpendingBook(folder / "server" / "spending.jsonl")
    roll = RollCall(grid, study)
    protocol = protocol_of(study)
    ask = _asking(grid, study, protocol, folder=folder / "server", book=book)
    if state.round < study.training.rounds:
        roll.wait(study.federation.deadline_s)
    while state.round < study.training.rounds:
        record, ballot = _ask_all(study, state, protocol=protocol, ask=ask, roll=roll, patience_s=patience_s)
        if record.merged:
            state = _advance(state, protocol, ballot, record)
            disk.save(folder / "server", state)
        disk.add_metrics(folder / "metrics.jsonl", record)
        events.add(record)
        if on_round is not None:
            on_round(record)
        if not record.merged:
            raise _missed(study, record)
    return state


# From an order and the nodes that get it to what came back, on the ballot.
_Ask = Callable[[RoundOrder, Mapping[str, int], Ballot], None]


def _asking(grid: Grid, study: Study, protocol: RoundProtocol, *, folder: Path, book: SpendingBook) -> _Ask:
    if study.federation.secure is not None and isinstance(protocol, Pooled):
        secure = SecureAsking(grid, study, folder=folder, book=book)
        return lambda order, nodes, ballot: secure.ask(order, nodes=nodes, protocol=protocol, ballot=ballot)
    plain = PlainAsking(grid, study, protocol=protocol, book=book)
    return lambda order, nodes, ballot: plain.ask(order, nodes=nodes, ballot=ballot)


def _ask_all(
    study: Study,
    state: Checkpoint,
    *,
    protocol: RoundProtocol,
    ask: _Ask,
    roll: RollCall,
    patience_s: float,
) -> tuple[RoundRecord, Ballot]:
    started = time.monotonic()
    order = RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=state.study_digest,
        run=state.run,
        round=state.round + 1,
        arrays=protocol.order(state),
    )
    ballot = Ballot(refused={site.name: "absent" for site in study.federation.sites})
    roll.look()
    ask(order, roll.nodes, ballot)
    again = {site for site, code in ballot.refused.items() if code in _WORTH_ASKING_AGAIN}
    secure = study.federation.secure is not None
    if secure and ballot.spent:  # a secure sum that is tried anew is paid anew
        again = set()
    if len(ballot.sound) < study.federation.quorum <= len(ballot.sound) + len(again):
        logger.warning("round %d: %d sound answers, waiting", order.round, len(ballot.sound))
        roll.wait(patience_s, even_if_full=True)
        # a secure sum is of all at once
        nodes = {site: node for site, node in roll.nodes.items() if secure or site in again}
        ask(order, nodes, ballot)
    record = RoundRecord(
        round=order.round,
        merged=len(ballot.sound) >= study.federation.quorum,
        answered=tuple(sorted(ballot.sound)),
        refused=dict(sorted(ballot.refused.items())),
        strangers=dict(Counter(roll.strangers.values())),
        norms={site: norm(arrays) for site, arrays in sorted(ballot.sound.items()) if arrays},
        spent=dict(sorted(ballot.spent.items())),
        seconds=time.monotonic() - started,
        ended=time.time(),
    )
    return record, ballot


def _advance(state: Checkpoint, protocol: RoundProtocol, ballot: Ballot, record: RoundRecord) -> Checkpoint:
    if ballot.total is not None and isinstance(protocol, Pooled):
        model, released = protocol.learn(state, ballot.total)
    else:
        model, released = protocol.advance(state, ballot.sound)
    return Checkpoint(
        study_digest=state.study_digest,
        run=state.run,
        round=record.round,
        model=model,
        released=released,
        history=(*state.history, record),
    )


def _missed(study: Study, record: RoundRecord) -> QuorumMissed:
    absent = ", ".join(f"{site} ({code})" for site, code in sorted(record.refused.items()))
    advice = "resume when they are back"
    if BudgetExhausted.code in record.refused.values():
        advice = (
            f"a site that refuses with {BudgetExhausted.code} cannot pay for this round"
            + (" a second time" if study.federation.secure is not None else "")
            + ": it may raise its epsilon_cap, or the network begins a smaller study"
        )
    return QuorumMissed(
        f"round {record.round}: {len(record.answered)} sound answers, the quorum is "
        f"{study.federation.quorum}; missing: {absent}. Nothing was merged; {advice}"
    )
